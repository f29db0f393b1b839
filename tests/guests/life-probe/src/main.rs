//! Tells over HTTP, and on the console, how it lives through what its host does to it.
//!
//! | path | answer |
//! |-------------|-----------------------------------------------------------------------|
//! | `/stream/N` | N bytes; number i is i modulo 251 |
//! | `/resources` | what it holds: heap, shared pages, event channel ports |
//! | `/clock` | `monotonic` and `wall`, in milliseconds |
//! | `/hooks` | how often `before_suspend` and `after_resume` were called |
//!
//! After each suspension it prints `life-probe: restored`, or `continued`, the milliseconds by which its
//! monotonic clock moved meanwhile, and 32 random bytes. Asked to end, it prints `life-probe: ends: ` and
//! how, after as many milliseconds as `linger=` on its command line says. `deadline=` sets how long it may
//! take, in milliseconds.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Write as _;
use core::net::Ipv6Addr;
use core::time::Duration;

use embedded_io_async::{Read, Write};
use rekernel::net::{BindError, TcpError, TcpListener, TcpStream, first_address};
use rekernel::time::{Instant, sleep, wall_clock};
use rekernel::{config, lifecycle, log, random, resources};

/// How often hooks were called.
#[derive(Default)]
struct Calls {
    before_suspend: Cell<u32>,
    after_resume: Cell<u32>,
}

#[rekernel::main(keys = ["linger", "deadline"])]
async fn main() -> Result<(), BindError> {
    let calls = Rc::new(Calls::default());
    watch_over(&calls);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).await?;
    rekernel::spawn(async {
        if let Some(address) = first_address().await {
            rekernel::ready(format_args!("http://{address}/"));
        }
    });
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let calls = calls.clone();
                rekernel::spawn(async move {
                    if let Err(error) = serve(stream, &calls).await {
                        log::info!("{peer}: {error}");
                    }
                });
            }
            Err(error) => log::warn!("connection lost: {error}"),
        }
    }
}

/// Puts all hooks in place.
fn watch_over(calls: &Rc<Calls>) {
    let suspended_at = Rc::new(Cell::new(Instant::now()));
    let (counted, at) = (calls.clone(), suspended_at.clone());
    lifecycle::before_suspend(move || {
        counted.before_suspend.set(counted.before_suspend.get() + 1);
        at.set(Instant::now());
        core::future::ready(())
    });
    let counted = calls.clone();
    lifecycle::after_resume(move |how| {
        counted.after_resume.set(counted.after_resume.get() + 1);
        let moved = suspended_at.get().elapsed().as_millis();
        log::info!("life-probe: {how}, {moved} ms later: {}", random_text());
        core::future::ready(())
    });
    if let Some(deadline) = milliseconds("deadline") {
        lifecycle::set_deadline(deadline);
    }
    lifecycle::before_shutdown(async |how| {
        sleep(milliseconds("linger").unwrap_or_default()).await;
        log::info!("life-probe: ends: {how}");
    });
}

fn milliseconds(key: &str) -> Option<Duration> {
    let value = config::value(key)?;
    let milliseconds = value.parse().ok();
    if milliseconds.is_none() {
        log::error!("{key}={value}: is no number of milliseconds");
    }
    milliseconds.map(Duration::from_millis)
}

fn random_text() -> String {
    let mut bytes = [0; 32];
    if let Err(error) = random::fill(&mut bytes) {
        return error.to_string();
    }
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Answers one request, and closes.
async fn serve(mut stream: TcpStream, calls: &Calls) -> Result<(), TcpError> {
    let Some(path) = read_path(&mut stream).await? else {
        return Ok(());
    };
    if let Some(length) = path.strip_prefix("/stream/") {
        return send_stream(&mut stream, length.parse().unwrap_or(0)).await;
    }
    let text = match path.as_str() {
        "/resources" => resources().to_string(),
        "/clock" => {
            let wall = wall_clock().unwrap_or_default().as_millis();
            let monotonic = Instant::now().duration_since_boot().as_millis();
            format!("monotonic {monotonic}\nwall {wall}\n")
        }
        "/hooks" => {
            let (before, after) = (calls.before_suspend.get(), calls.after_resume.get());
            format!("before_suspend {before}\nafter_resume {after}\n")
        }
        _ => String::from("see the head of tests/guests/life-probe/src/main.rs\n"),
    };
    stream.write_all(head(text.len()).as_bytes()).await?;
    stream.write_all(text.as_bytes()).await
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

/// The path of a request, of which only that is looked at; `None` if the peer sends something else.
async fn read_path(stream: &mut TcpStream) -> Result<Option<String>, TcpError> {
    const LONGEST_REQUEST: usize = 4096;
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        request.extend_from_slice(&buffer[..count]);
        if count == 0 || request.len() > LONGEST_REQUEST {
            return Ok(None);
        }
    }
    let request = String::from_utf8_lossy(&request);
    Ok(request.split(' ').nth(1).map(String::from))
}

async fn send_stream(stream: &mut TcpStream, length: usize) -> Result<(), TcpError> {
    const PERIOD: usize = 251;
    stream.write_all(head(length).as_bytes()).await?;
    let block: Vec<u8> = (0..PERIOD * 16).map(|at| (at % PERIOD) as u8).collect();
    let mut rest = length;
    while rest > 0 {
        let count = rest.min(block.len());
        stream.write_all(&block[..count]).await?;
        rest -= count;
    }
    Ok(())
}
