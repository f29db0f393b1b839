//! The `http` example under QEMU.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::qemu::Machine;

use super::{BOOT_LIMIT, Context, Test};
use crate::http::{self, Connection, Response};

pub(super) const TESTS: &[Test] = &[
    ("http on pc: page, bytes, echo", |context| {
        serve(context, Machine::Pc)
    }),
    ("http on q35: page, bytes, echo", |context| {
        serve(context, Machine::Q35)
    }),
    ("http on microvm: page, bytes, echo", |context| {
        serve(context, Machine::Microvm)
    }),
    ("http: 8 connections in parallel", parallel),
    (
        "http: an idle connection weighs at most 8 KiB",
        idle_connections,
    ),
    (
        "http in 8 MiB of RAM works or says what it needs",
        eight_mib,
    ),
];

/// Time for one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The guest's port.
const PORT: u16 = 80;

fn serve(context: &Context, machine: Machine) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", PORT, |guest| guest.machine = machine)?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let outcome = requests(port);
    boot.explain(outcome)
}

fn requests(port: u16) -> Result<()> {
    let page = http::get(port, "/", REQUEST_LIMIT)?;
    ensure!(page.status == 200, "GET / answered {}", page.status);
    let text = page.text().to_lowercase();
    for word in ["uptime", "platform", "10.0.2.15", "memory"] {
        ensure!(
            text.contains(word),
            "the page does not mention `{word}`: {text}"
        );
    }
    for length in [0usize, 1, 1460, 100_000, 1 << 20] {
        let bytes = http::get(port, &format!("/bytes/{length}"), REQUEST_LIMIT)?;
        ensure!(
            bytes.status == 200 && bytes.body.len() == length,
            "GET /bytes/{length} gave {}",
            told(&bytes)
        );
    }
    for length in [0usize, 1, 4096, 300_000] {
        let body: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        let echo = http::post(port, "/echo", &body, REQUEST_LIMIT)?;
        ensure!(
            echo.status == 200 && echo.body == body,
            "POST /echo of {length} bytes gave {}",
            told(&echo)
        );
    }
    let missing = http::get(port, "/no-such-page", REQUEST_LIMIT)?;
    ensure!(
        missing.status == 404,
        "a missing page answered {}",
        missing.status
    );
    for wrong in [
        "/bytes/",
        "/bytes/-1",
        "/bytes/many",
        "/bytes/99999999999999999999999",
    ] {
        let answer = http::get(port, wrong, REQUEST_LIMIT)?;
        ensure!(
            (400..500).contains(&answer.status),
            "GET {wrong} answered {}",
            answer.status
        );
    }
    Ok(())
}

fn parallel(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", PORT, |_| {})?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let outcome = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(move || many_requests(port)))
            .collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a client was lost")))
        })
    });
    boot.explain(outcome)
}

fn many_requests(port: u16) -> Result<()> {
    for _ in 0..20 {
        let answer = http::get(port, "/bytes/10000", REQUEST_LIMIT)?;
        ensure!(
            answer.status == 200 && answer.body.len() == 10_000,
            "GET /bytes/10000 gave {}",
            told(&answer)
        );
    }
    Ok(())
}

/// Connections that had a request each, and then nothing to do. Enough that the tables and the
/// partly used pages, which any number has, weigh little on each.
const IDLE_CONNECTIONS: u32 = 800;

/// The most that each of them may take of the guest's heap, socket buffers included, in KiB.
const IDLE_KIBIBYTES: f64 = 8.0;

fn idle_connections(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", PORT, |_| {})?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let outcome = weigh_idle_connections(port);
    let each = boot.explain(outcome)?;
    context.measurements.note(
        &format!("an idle HTTP connection, one of {IDLE_CONNECTIONS}"),
        format!("{each:.1} KiB"),
    );
    Ok(())
}

fn weigh_idle_connections(port: u16) -> Result<f64> {
    let before = heap_in_use(port)?;
    let mut connections = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        let mut connection = Connection::open(port, REQUEST_LIMIT)?;
        connection.get("/bytes/1")?;
        connections.push(connection);
    }
    // What a request needed is given back some time after it.
    let until = Instant::now() + REQUEST_LIMIT;
    let each = loop {
        let grown = heap_in_use(port)?.saturating_sub(before);
        let each = f64::from(grown) / f64::from(IDLE_CONNECTIONS);
        if each <= IDLE_KIBIBYTES {
            break each;
        }
        ensure!(
            Instant::now() < until,
            "each of {IDLE_CONNECTIONS} idle connections still takes {each:.1} KiB, more than \
             {IDLE_KIBIBYTES}, {} s after its request",
            REQUEST_LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    for connection in &mut connections {
        let answer = connection.get("/bytes/2")?;
        ensure!(
            answer.len() == 2,
            "after its pause a connection answers with {} bytes instead of 2",
            answer.len()
        );
    }
    Ok(each)
}

/// KiB of the guest's heap that are in use, from its page: `heap<td>132 of 14000 KiB in use`.
fn heap_in_use(port: u16) -> Result<u32> {
    let page = http::get(port, "/", REQUEST_LIMIT)?.text();
    let used = page
        .split_once(">heap<td>")
        .and_then(|(_, row)| row.split_once(" of "))
        .and_then(|(used, _)| used.parse().ok());
    used.with_context(|| format!("the page does not say how much of the heap is in use: {page}"))
}

/// 8 MiB is the size of a small router's memory: either it serves there, or its last
/// words name the memory it lacks.
fn eight_mib(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", PORT, |guest| guest.memory_mib = 8)?;
    match boot.wait_until_ready(BOOT_LIMIT) {
        Ok(_) => {
            let page = http::get(port, "/", REQUEST_LIMIT);
            let page = boot.explain(page)?;
            ensure!(page.status == 200, "GET / answered {}", page.status);
            Ok(())
        }
        Err(error) => {
            let explained = boot.said("MiB") || boot.said("memory");
            ensure!(
                explained,
                "8 MiB: neither served nor said what it needs: {error:#}"
            );
            Ok(())
        }
    }
}

fn told(response: &Response) -> String {
    format!(
        "status {} and {} bytes",
        response.status,
        response.body.len()
    )
}
