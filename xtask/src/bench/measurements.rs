//! The measurements: which load, and which figures come of it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::candidates::{Candidate, Image};
use super::dom0::{Guest, HTTP, Host, Output};
use super::figures::{self, Figure};

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// From unpausing a created guest to the first byte of an HTTP answer
    Boot,
    /// ICMP round trips
    Ping,
    /// HTTP requests one after another on one connection
    KeepAlive,
    /// HTTP requests on a new connection each
    Connections,
    /// HTTP requests on 1, 8 and 64 connections at once
    Wrk,
    /// TCP, 1 and 8 streams, each way
    Bulk,
    /// UDP datagrams there and back
    Udp,
    /// What is booted, in bytes; once
    Size,
    /// The least memory with which a guest serves; once
    Memory,
    /// What many idle connections cost the others; once, rekernel only
    Idle,
}

impl Measurement {
    pub(crate) const ALL: [Self; 10] = [
        Self::Boot,
        Self::Ping,
        Self::KeepAlive,
        Self::Connections,
        Self::Wrk,
        Self::Bulk,
        Self::Udp,
        Self::Size,
        Self::Memory,
        Self::Idle,
    ];

    /// Whether it is a load on a running server, taken in every round.
    pub(super) fn is_load(self) -> bool {
        !matches!(self, Self::Boot | Self::Size | Self::Memory | Self::Idle)
    }
}

/// What a request asks for: so many bytes.
pub(super) const PATH: &str = "/bytes/1024";

/// Time for a guest to serve: several times what the slowest needs.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(150);

/// Where a load goes.
pub(super) struct Target<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) candidate: Candidate,
    pub(super) address: String,
}

/// Receives a figure in its unit.
pub(super) type Record<'a> = &'a mut dyn FnMut(Figure, f64);

const SOURCE: u16 = 5001;
const SINK: u16 = 5002;
const ECHO: u16 = 5003;
const HOLD: u16 = 5004;

impl Target<'_> {
    /// Takes one of the measurements that are loads.
    pub(super) fn measure(&self, measurement: Measurement, record: Record) -> Result<()> {
        match measurement {
            Measurement::Ping => self.ping(record),
            Measurement::KeepAlive => self.keep_alive(record),
            Measurement::Connections => self.connections(record),
            Measurement::Wrk => self.wrk(record),
            Measurement::Bulk => self.bulk(record),
            Measurement::Udp => self.datagrams(record),
            _ => bail!("{measurement:?} is no load"),
        }
    }

    fn load(&self) -> Duration {
        self.host.plan.load
    }

    fn client(&self, order: &str, arguments: &str) -> Result<Output> {
        let order = format!("{order} {arguments}");
        self.host.client(&order, self.load())
    }

    /// Records what a guest worked for each of `count`, in the figure's unit.
    fn charge(&self, figure: Figure, output: &Output, count: f64, record: Record) {
        let per_second = if figure.unit == "ms" { 1e3 } else { 1e6 };
        if self.candidate.is_guest() && count > 0.0 {
            record(figure, output.guest.as_secs_f64() * per_second / count);
        }
    }

    fn ping(&self, record: Record) -> Result<()> {
        let count = (self.load().as_millis() / 30).max(10);
        let printed = self.host.sh(
            &format!("ping -c {count} -i 0.02 -W 5 {}", self.address),
            self.load() + Duration::from_secs(60),
        )?;
        // `64 bytes from 10.0.2.70: seq=0 ttl=64 time=0.581 ms`
        let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
        let times = printed.lines().filter_map(time);
        let spread = super::statistics::Spread::of(times).context("ping had no answer")?;
        record(figures::PING, 1000.0 * spread.median);
        Ok(())
    }

    fn keep_alive(&self, record: Record) -> Result<()> {
        let output = self.client(
            "requests",
            &format!(
                "{}:{HTTP} {PATH} 1 {}",
                self.address,
                self.load().as_millis()
            ),
        )?;
        record(figures::ROUND_TRIP, output.get("median")? / 1e3);
        record(figures::ROUND_TRIP_P99, output.get("p99")? / 1e3);
        self.charge(
            figures::CPU_PER_REQUEST,
            &output,
            output.get("requests")?,
            record,
        );
        Ok(())
    }

    fn connections(&self, record: Record) -> Result<()> {
        let output = self.client(
            "connections",
            &format!("{}:{HTTP} {PATH} {}", self.address, self.load().as_millis()),
        )?;
        let count = output.get("connections")?;
        record(figures::CONNECTIONS, count / (output.get("elapsed")? / 1e9));
        self.charge(figures::CPU_PER_CONNECTION, &output, count, record);
        Ok(())
    }

    fn wrk(&self, record: Record) -> Result<()> {
        for (connections, rate, cpu_each) in [
            (1, figures::WRK_1, None),
            (8, figures::WRK_8, Some(figures::WRK_8_CPU)),
            (64, figures::WRK_64, Some(figures::WRK_64_CPU)),
        ] {
            // wrk counts in seconds.
            let seconds = self.load().as_secs().max(1);
            let script = format!(
                "wrk -t1 -c{connections} -d{seconds}s --timeout 20s http://{}{PATH}",
                self.address
            );
            let output = self.host.load(&script, self.load())?;
            let wrk = Wrk::parse(&output.text)?;
            ensure!(wrk.errors.is_none(), "wrk: {}", output.text);
            record(rate, wrk.per_second);
            if let Some(figure) = cpu_each {
                self.charge(figure, &output, wrk.requests, record);
            }
        }
        Ok(())
    }

    fn bulk(&self, record: Record) -> Result<()> {
        let directions = [
            (
                "send",
                SINK,
                1,
                figures::TO_GUEST_1,
                figures::CPU_TO_GUEST_1,
            ),
            (
                "send",
                SINK,
                8,
                figures::TO_GUEST_8,
                figures::CPU_TO_GUEST_8,
            ),
            (
                "receive",
                SOURCE,
                1,
                figures::FROM_GUEST_1,
                figures::CPU_FROM_GUEST_1,
            ),
            (
                "receive",
                SOURCE,
                8,
                figures::FROM_GUEST_8,
                figures::CPU_FROM_GUEST_8,
            ),
        ];
        for (order, port, streams, rate, cpu_each) in directions {
            let arguments = format!(
                "{}:{port} {streams} {}",
                self.address,
                self.load().as_millis()
            );
            let output = self.client(order, &arguments)?;
            let mebibytes = output.get("bytes")? / f64::from(1 << 20);
            record(rate, mebibytes / (output.get("elapsed")? / 1e9));
            self.charge(cpu_each, &output, mebibytes, record);
        }
        Ok(())
    }

    fn datagrams(&self, record: Record) -> Result<()> {
        const BYTES: u32 = 64;
        const WINDOW: u32 = 32;
        let arguments = format!(
            "{}:{ECHO} {BYTES} {WINDOW} {}",
            self.address,
            self.load().as_millis()
        );
        let output = self.client("datagrams", &arguments)?;
        let count = output.get("datagrams")?;
        record(figures::DATAGRAMS, count / (output.get("elapsed")? / 1e9));
        self.charge(figures::CPU_PER_DATAGRAM, &output, count, record);
        Ok(())
    }

    /// What idle connections cost: requests per second on eight others, and memory. First those of
    /// the HTTP server, with what it keeps for each, then those of a service that keeps nothing.
    pub(super) fn idle(&self, record: Record) -> Result<()> {
        let count = self.host.plan.idle_connections;
        for (port, memory) in [
            (HTTP, figures::MEMORY_PER_HTTP),
            (HOLD, figures::MEMORY_PER_TCP),
        ] {
            let arguments = format!(
                "{}:{HTTP} {PATH} {port} {count} {}",
                self.address,
                self.load().as_millis()
            );
            let limit = Duration::from_secs(600);
            let output = self.host.client(&format!("idle {arguments}"), limit)?;
            let held = output.get("held")?;
            ensure!(
                held == f64::from(count),
                "{held} of {count} idle connections were held"
            );
            let grown = output.get("heap_after")? - output.get("heap_before")?;
            record(memory, grown / held / 1024.0);
            if port == HTTP {
                let part = output.get("beside")? / output.get("alone")?;
                record(figures::BESIDE_IDLE, part);
            }
        }
        Ok(())
    }
}

/// Lets a created guest run and measures until it serves.
pub(super) fn boot(host: &Host, guest: &Guest, candidate: Candidate, record: Record) -> Result<()> {
    record(figures::CREATE, guest.creation.as_secs_f64() * 1e3);
    let limit = BOOT_LIMIT.as_millis();
    let (order, name) = if candidate.serves() {
        let server = format!("{}:{HTTP}", candidate.address());
        let order = format!("first-byte {} {server} {PATH} {limit}", guest.domain);
        (order, "first_byte")
    } else {
        (format!("shutdown {} {limit}", guest.domain), "shutdown")
    };
    let output = guest.explain(host.client(&order, BOOT_LIMIT))?;
    record(figures::FIRST_BYTE, output.get(name)? / 1e6);
    if candidate == Candidate::Rekernel {
        let line = guest.wait_for("rekernel: ready")?;
        // `rekernel: ready http://10.0.2.70/ after 85 ms`
        let milliseconds = line.rsplit(' ').nth(1).context("no time in it")?;
        record(figures::OWN_BOOT, milliseconds.parse()?);
    }
    Ok(())
}

/// Sizes of memory that are tried, in MiB.
const SIZES_MIB: [u32; 22] = [
    1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 192, 256,
];

/// Finds the least memory with which it answers a request, by halving the list of sizes.
pub(super) fn least_memory(host: &Host, candidate: Candidate, record: Record) -> Result<()> {
    let limit = if candidate.is_linux() {
        BOOT_LIMIT
    } else {
        Duration::from_secs(15)
    };
    let serves = |memory_mib| {
        let guest = host.create(candidate, Image::Http, Some(memory_mib))?;
        let server = format!("{}:{HTTP}", candidate.address());
        let order = format!(
            "first-byte {} {server} {PATH} {}",
            guest.domain,
            limit.as_millis()
        );
        host.client(&order, limit).map(drop)
    };
    // Always: it serves with SIZES_MIB[enough].
    let mut enough = SIZES_MIB.len() - 1;
    let mut too_little = 0;
    while too_little < enough {
        let middle = (too_little + enough) / 2;
        if serves(SIZES_MIB[middle]).is_ok() {
            enough = middle;
        } else {
            too_little = middle + 1;
        }
    }
    record(figures::LEAST_MEMORY, f64::from(SIZES_MIB[enough]));
    Ok(())
}

/// What wrk reports.
#[derive(Debug, PartialEq)]
struct Wrk {
    per_second: f64,
    requests: f64,
    errors: Option<String>,
}

impl Wrk {
    fn parse(text: &str) -> Result<Self> {
        let line = |wanted: &str| text.lines().find(|line| line.contains(wanted));
        let per_second = line("Requests/sec:").and_then(|line| line.split_whitespace().nth(1));
        let requests = line(" requests in ").and_then(|line| line.split_whitespace().next());
        let (Some(per_second), Some(requests)) = (per_second, requests) else {
            bail!("wrk printed {text}");
        };
        let errors = line("Socket errors").or_else(|| line("Non-2xx"));
        Ok(Self {
            per_second: per_second.parse()?,
            requests: requests.parse()?,
            errors: errors.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 3s test @ http://10.0.2.70/bytes/1024
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.75ms    3.37ms  50.96ms   84.80%
    Req/Sec   817.17    117.42     1.04k    80.00%
  2446 requests in 3.02s, 2.69MB read
Requests/sec:    810.69
Transfer/sec:      0.89MB
";

    #[test]
    fn reports_of_wrk_are_read() {
        let wrk = Wrk::parse(REPORT).unwrap();
        let expected = Wrk {
            per_second: 810.69,
            requests: 2446.0,
            errors: None,
        };
        assert_eq!(wrk, expected);
        let broken = format!("{REPORT}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        assert!(Wrk::parse(&broken).unwrap().errors.is_some());
        assert!(Wrk::parse("unable to connect").is_err());
    }
}
