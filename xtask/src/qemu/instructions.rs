//! How many instructions a guest executes from its entry until it serves, for a request, and for
//! what it sends and receives.
//!
//! QEMU counts them exactly with `-icount`; its record mode makes the count readable while
//! the machine runs. The firmware's share is the count of a machine whose guest halts at
//! its first instructions.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_rekernel::package::{Protocol, Service};
use cargo_rekernel::ports::Forward;
use cargo_rekernel::qemu::{Accelerator, Configuration, Link, tiny};
use serde_json::Value;

use super::{BOOT_LIMIT, Boot, Context, Test, free_port};
use crate::http::{self, Connection};

pub(super) const TESTS: &[Test] = &[
    ("instructions from entry to serving", count),
    ("instructions per request and per KiB", count_requests),
];

/// Before counting: buffers have grown, neighbours are known.
const WARM_UP: u32 = 20;
const REQUESTS: u32 = 200;
/// What is downloaded, and sent to be echoed.
const BULK: usize = 4 << 20;

fn count(context: &Context) -> Result<()> {
    let halting = TemporaryFile::new("halting-guest")?;
    std::fs::write(&halting.0, tiny::halting())?;
    let mut firmware = Counted::boot(context, Configuration::new(&halting.0, Accelerator::Tcg))?;
    let firmware = firmware.steady_count()?;
    let guest = Configuration {
        link: Link::User(Vec::new()),
        // A static address: an answer from DHCP would be waited for, not computed.
        append: ["ip=10.0.2.15/24", "gw=10.0.2.2"]
            .map(str::to_owned)
            .to_vec(),
        ..context.configuration("http")?
    };
    let mut guest = Counted::boot(context, guest)?;
    guest.boot.wait_until_ready(2 * BOOT_LIMIT)?;
    let serving = guest.count()?;
    let instructions = serving.saturating_sub(firmware);
    ensure!(
        instructions > 0,
        "the firmware executed {firmware} instructions, all until serving {serving}"
    );
    context.measurements.note(
        "instructions from entry to serving (http, -icount)",
        grouped(instructions),
    );
    Ok(())
}

/// Requests on one connection, then a download, then an upload that comes back. The driver is
/// virtio's; above it everything is as on Xen.
fn count_requests(context: &Context) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(120);
    let host_port = free_port()?;
    let service = Service {
        protocol: Protocol::Tcp,
        port: 80,
    };
    let guest = Configuration {
        link: Link::User(vec![Forward { host_port, service }]),
        append: ["ip=10.0.2.15/24", "gw=10.0.2.2"]
            .map(str::to_owned)
            .to_vec(),
        ..context.configuration("http")?
    };
    let mut guest = Counted::boot(context, guest)?;
    guest.boot.wait_until_ready(2 * BOOT_LIMIT)?;
    let mut connection = Connection::open(host_port, LIMIT)?;
    for _ in 0..WARM_UP {
        connection.get("/bytes/1")?;
    }
    let idle = guest.steady_count()?;
    for _ in 0..REQUESTS {
        connection.get("/bytes/1")?;
    }
    let asked = guest.steady_count()?;
    let body = connection.get(&format!("/bytes/{BULK}"))?;
    ensure!(
        body.len() == BULK,
        "{} bytes came instead of {BULK}",
        body.len()
    );
    let downloaded = guest.steady_count()?;
    let echoed = http::post(host_port, "/echo", &body, LIMIT)?;
    ensure!(
        echoed.body == body,
        "the echo is not what was sent to be echoed"
    );
    let uploaded = guest.steady_count()?;
    let kibibytes = BULK as u64 / 1024;
    let note = |what: &str, figure| context.measurements.note(what, grouped(figure));
    note(
        "instructions per keep-alive request (http, -icount)",
        (asked - idle) / u64::from(REQUESTS),
    );
    note(
        "instructions per KiB sent (http, -icount)",
        (downloaded - asked) / kibibytes,
    );
    note(
        "instructions per KiB received and sent back (http, -icount)",
        (uploaded - downloaded) / kibibytes,
    );
    Ok(())
}

/// A machine whose instructions are counted.
struct Counted {
    boot: Boot,
    monitor: Monitor,
    _record: TemporaryFile,
}

impl Counted {
    fn boot(context: &Context, mut configuration: Configuration) -> Result<Self> {
        let socket = TemporaryFile::new("monitor")?;
        let record = TemporaryFile::new("record")?;
        let listener = UnixListener::bind(&socket.0).context("no socket for QEMU's monitor")?;
        configuration.accelerator = Accelerator::Tcg;
        configuration.extra = vec![
            "-icount".to_owned(),
            format!("shift=0,rr=record,rrfile={}", record.0.display()),
            "-qmp".to_owned(),
            format!("unix:{}", socket.0.display()),
        ];
        let boot = context.boot(&configuration)?;
        let monitor = boot.explain(Monitor::accept(&listener))?;
        Ok(Self {
            boot,
            monitor,
            _record: record,
        })
    }

    /// Instructions executed so far.
    fn count(&mut self) -> Result<u64> {
        let state = self.monitor.ask("query-replay")?;
        state["icount"]
            .as_u64()
            .with_context(|| format!("query-replay answered {state}"))
    }

    /// The count once it no longer grows, which is when the guest has halted.
    fn steady_count(&mut self) -> Result<u64> {
        let until = Instant::now() + BOOT_LIMIT;
        let mut before = 0;
        loop {
            let now = self.count()?;
            if now > 0 && now == before {
                return Ok(now);
            }
            ensure!(Instant::now() < until, "the machine does not come to rest");
            before = now;
            sleep(Duration::from_millis(500));
        }
    }
}

/// QEMU's machine protocol, as much of it as a query needs.
struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Waits for QEMU to connect, and greets it.
    fn accept(listener: &UnixListener) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let until = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < until => sleep(Duration::from_millis(10)),
                Err(error) => return Err(error).context("QEMU's monitor did not connect"),
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut monitor = Self {
            reader: BufReader::new(stream.try_clone()?),
            writer: stream,
        };
        monitor.ask("qmp_capabilities")?;
        Ok(monitor)
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.writer, "{{\"execute\": \"{command}\"}}")
            .context("QEMU's monitor was lost")?;
        loop {
            let mut line = String::new();
            let length = self
                .reader
                .read_line(&mut line)
                .with_context(|| format!("no answer to {command}"))?;
            ensure!(length > 0, "QEMU's monitor was closed");
            let mut answer: Value =
                serde_json::from_str(&line).context("QEMU's monitor answers no JSON")?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
            // The greeting and events stand between the answers.
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }
}

/// A name in the temporary folder whose file is removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("rekernel-{name}-{}", process::id()));
        // What a run that was killed left behind.
        if path.exists() {
            std::fs::remove_file(&path)
                .with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        Ok(Self(path))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `12,345,678`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1234), "1,234");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
