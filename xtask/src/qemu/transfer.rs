//! Bulk transfers from inside a namespace, with the frames they took: what the tests of offloads
//! run as a program of its own, since a process has one network.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http;

/// Where the guest is and what to do with it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The `http` example
    guest: SocketAddr,

    /// Bytes to transfer each way
    bytes: usize,

    /// The network device to count frames of
    device: String,
}

/// Time for one transfer.
const LIMIT: Duration = Duration::from_secs(60);

/// Downloads, uploads, compares hashes, and prints the mean length of the frames that the guest
/// sent while downloading, and of those it received while uploading.
pub(crate) fn command(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        guest,
        bytes,
        device,
    } = arguments;
    let before = Frames::read(device)?;
    let page = http::get_from(*guest, &format!("/bytes/{bytes}"), LIMIT)?;
    let between = Frames::read(device)?;
    ensure!(page.status == 200, "the download answered {}", page.status);
    ensure!(
        http::hash(&page.body) == http::hash_of_bytes(*bytes as u64),
        "what was downloaded has another hash ({} bytes)",
        page.body.len()
    );
    let body: Vec<u8> = (0..*bytes).map(|index| (index * 31 % 241) as u8).collect();
    let echo = http::post_to(*guest, "/echo", &body, LIMIT)?;
    let after = Frames::read(device)?;
    ensure!(echo.status == 200, "the upload answered {}", echo.status);
    ensure!(
        http::hash(&echo.body) == http::hash(&body),
        "what was uploaded came back with another hash ({} bytes)",
        echo.body.len()
    );
    println!(
        "{} {}",
        between.sent_by_guest.mean_since(&before.sent_by_guest),
        after
            .received_by_guest
            .mean_since(&between.received_by_guest)
    );
    Ok(ExitCode::SUCCESS)
}

/// Frames and their bytes, as this side of the device counts them. A frame that is not yet cut
/// into segments is one.
struct Count {
    bytes: u64,
    frames: u64,
}

impl Count {
    fn mean_since(&self, before: &Self) -> u64 {
        (self.bytes - before.bytes) / (self.frames - before.frames).max(1)
    }
}

struct Frames {
    sent_by_guest: Count,
    received_by_guest: Count,
}

impl Frames {
    fn read(device: &str) -> Result<Self> {
        let table = std::fs::read_to_string("/proc/net/dev").context("/proc/net/dev")?;
        Self::find(&table, device).with_context(|| format!("{device} is not in /proc/net/dev"))
    }

    /// Eight columns about what this side received, eight about what it sent; bytes and frames
    /// are the first two of each.
    fn find(table: &str, device: &str) -> Option<Self> {
        let line = table
            .lines()
            .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map_while(|n| n.parse().ok())
            .collect();
        let count = |first: usize| {
            Some(Count {
                bytes: *numbers.get(first)?,
                frames: *numbers.get(first + 1)?,
            })
        };
        Some(Self {
            sent_by_guest: count(0)?,
            received_by_guest: count(8)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_by_their_device() {
        let table = " face |bytes\n  tap0: 100 2 0 0 0 0 0 0 900 3 0 0 0 0 0 0\n tap01: 1 1\n";
        let frames = Frames::find(table, "tap0").unwrap();
        let nothing = Count {
            bytes: 0,
            frames: 0,
        };
        assert_eq!(frames.sent_by_guest.mean_since(&nothing), 50);
        assert_eq!(frames.received_by_guest.mean_since(&nothing), 300);
        assert_eq!(nothing.mean_since(&nothing), 0);
        assert!(Frames::find(table, "tap").is_none());
    }
}
