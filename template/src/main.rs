//! A guest that answers each HTTP request with its uptime.
//!
//! ```text
//! $ cargo rekernel run          boots it under QEMU, with port 8080 of this machine leading here
//! $ curl http://127.0.0.1:8080/
//! up for 1.234 s on QEMU q35
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use core::net::Ipv4Addr;

use embedded_io_async::{Read, Write};
use rekernel::net::{BindError, TcpError, TcpListener, TcpStream, first_address};

const PORT: u16 = 80;

#[rekernel::main]
async fn main() -> Result<(), BindError> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    rekernel::spawn(announce());
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            rekernel::spawn(async move {
                if let Err(error) = answer(stream).await {
                    log::info!("{peer}: {error}");
                }
            });
        }
    }
}

/// Tells `cargo rekernel run` that the guest serves, and where.
async fn announce() {
    match first_address().await {
        Some(address) => rekernel::ready(format_args!("http://{address}/")),
        None => log::warn!("no network device: nobody can reach this server"),
    }
}

/// Answers one request, whatever it asks for, and ends the connection.
async fn answer(mut stream: TcpStream) -> Result<(), TcpError> {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await? {
            0 => return Ok(()),
            count => length += count,
        }
    }
    let uptime = rekernel::uptime().as_secs_f64();
    let text = alloc::format!("up for {uptime:.3} s on {}\n", rekernel::platform().name);
    let head = alloc::format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await
}
