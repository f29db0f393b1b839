//! The guest's command line and network, right and wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use cargo_rekernel::package::{Protocol, Service};
use cargo_rekernel::ports::Forward;
use cargo_rekernel::progress::status;
use cargo_rekernel::qemu::{Configuration, Link};

use super::{BOOT_LIMIT, Context, Test};
use crate::command::free_port;
use crate::http;

pub(super) const TESTS: &[Test] = &[
    ("command line: a static address is used", static_address),
    (
        "command line: wrong keys are named, the rest is honoured",
        wrong_keys,
    ),
    ("no network device: runs and says so", no_network),
    ("DHCP without answer: says so and keeps trying", silent_dhcp),
    (
        "capture=: tcpdump reads what whoever connects gets",
        capture,
    ),
];

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

fn static_address(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.append = words("ip=10.0.2.15/24 gw=10.0.2.2 dns=10.0.2.3");
    })?;
    let place = boot.wait_until_ready(BOOT_LIMIT)?;
    ensure!(place.contains("10.0.2.15"), "it serves at {place}");
    let page = http::get(port, "/", REQUEST_LIMIT);
    ensure!(boot.explain(page)?.status == 200, "GET / failed");
    Ok(())
}

/// The wrong keys stand first, so that a parser that gives up at them loses the address.
fn wrong_keys(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.append = words("colour=blue gw=10.0.2.999 log=loud ip=10.0.2.15/24");
    })?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    for (key, value) in [("colour", "blue"), ("gw", "10.0.2.999"), ("log", "loud")] {
        boot.must_have_line_with(&[key, value])?;
    }
    let page = http::get(port, "/", REQUEST_LIMIT);
    ensure!(boot.explain(page)?.status == 200, "GET / failed");
    Ok(())
}

fn no_network(context: &Context) -> Result<()> {
    let mut boot = context.boot(&context.configuration("http")?)?;
    boot.wait_for("no network", BOOT_LIMIT)?;
    Ok(())
}

/// QEMU records what the guest sends; the next request after the complaint shows that it
/// still tries.
fn silent_dhcp(context: &Context) -> Result<()> {
    let record = std::env::temp_dir().join(format!("rekernel-dhcp-{}.pcap", std::process::id()));
    let configuration = Configuration {
        link: Link::Silent,
        extra: vec![
            "-object".to_owned(),
            format!(
                "filter-dump,id=record,netdev=network,file={}",
                record.display()
            ),
        ],
        ..context.configuration("http")?
    };
    let outcome = still_tries(context, &configuration, &record);
    // Whatever came of it, the record has served.
    let _ = std::fs::remove_file(&record);
    outcome
}

/// The recording is read by somebody else's program.
fn capture(context: &Context) -> Result<()> {
    const PORT: u16 = 5555;
    let why = "tcpdump reads a recording that a guest has made";
    lab::packages::ensure(&["tcpdump"], why, &|line| status("Installing", line))?;
    let recorder = free_port()?;
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.append = vec![format!("capture={PORT}")];
        if let Link::User(forwards) = &mut guest.link {
            forwards.push(Forward {
                host_port: recorder,
                service: Service {
                    protocol: Protocol::Tcp,
                    port: PORT,
                },
            });
        }
    })?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    boot.must_have_line_with(&["capture=5555", "gets all frames"])?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, recorder))?;
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    boot.wait_for("records frames", BOOT_LIMIT)?;
    let page = boot.explain(http::get(port, "/bytes/3000", REQUEST_LIMIT))?;
    ensure!(page.body.len() == 3000, "GET /bytes/3000 failed");
    let read = boot.explain(read_recording(&mut stream))?;
    for words in ["GET /bytes/3000", "10.0.2.15.80: Flags [S]", "HTTP/1.1 200"] {
        ensure!(
            read.contains(words),
            "tcpdump does not see `{words}`: {read}"
        );
    }
    ensure!(
        !read.contains(&format!(".{PORT}")),
        "the recording records itself: {read}"
    );
    Ok(())
}

/// What tcpdump prints of a recording, until it has seen the end of an answer.
fn read_recording(stream: &mut TcpStream) -> Result<String> {
    let mut recording = tempfile::NamedTempFile::new()?;
    let mut bytes = [0; 65_536];
    loop {
        let count = stream.read(&mut bytes)?;
        ensure!(count > 0, "the recording ends by itself");
        recording.write_all(&bytes[..count])?;
        // A block that is not whole yet is the end for tcpdump, which is an error then.
        let output = Command::new("tcpdump")
            .args(["-nnA", "-r"])
            .arg(recording.path())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("HTTP/1.1 200") {
            return Ok(text);
        }
    }
}

fn still_tries(context: &Context, configuration: &Configuration, record: &Path) -> Result<()> {
    let mut boot = context.boot(configuration)?;
    boot.wait_for("no DHCP server answers", BOOT_LIMIT)?;
    let before = dhcp_requests(&std::fs::read(record)?);
    ensure!(before > 0, "it complained before it asked");
    let until = Instant::now() + BOOT_LIMIT;
    while dhcp_requests(&std::fs::read(record)?) == before {
        let asked = if Instant::now() < until {
            Ok(())
        } else {
            Err(anyhow!("it does not ask again"))
        };
        boot.explain(asked)?;
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Counts the frames to a DHCP server's port in a record in the format of pcap: a header of
/// 24 bytes, then each frame behind 16 bytes of which the third four are its length.
fn dhcp_requests(record: &[u8]) -> usize {
    let mut rest = record.get(24..).unwrap_or_default();
    let mut count = 0;
    while let Some((header, frames)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some((frame, next)) = frames.split_at_checked(length) else {
            break;
        };
        // Ethernet carrying IPv4 without options, carrying UDP, to port 67.
        let is_udp = frame.get(12..15) == Some(&[8, 0, 0x45]) && frame.get(23) == Some(&17);
        count += usize::from(is_udp && frame.get(36..38) == Some(&[0, 67]));
        rest = next;
    }
    count
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dhcp_requests_are_counted_in_a_record() {
        let mut frame = [0; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        frame[36..38].copy_from_slice(&[0, 67]);
        let mut record = vec![0; 24];
        for frame in [&frame[..], &[0; 60], &frame[..]] {
            record.extend([0; 8]);
            record.extend(60u32.to_le_bytes());
            record.extend(60u32.to_le_bytes());
            record.extend(frame);
        }
        assert_eq!(dhcp_requests(&record), 2);
        record.truncate(record.len() - 1);
        assert_eq!(
            dhcp_requests(&record),
            1,
            "a frame still being written does not count"
        );
        assert_eq!(dhcp_requests(&[]), 0);
    }
}
