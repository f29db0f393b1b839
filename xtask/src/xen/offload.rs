//! Long packets between the guest and a real netback, in both directions.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::network;

use super::guest::address;
use super::network::link_local;
use super::{Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    ("segmentation offload over IPv4", over_ipv4),
    ("segmentation offload over IPv6", over_ipv6),
];

const BULK_BYTES: u64 = 32 << 20;

/// What a frame of the usual MTU carries at most, Ethernet header included.
const USUAL_FRAME: u64 = 1514;

fn over_ipv4(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-gso-ipv4", 79))?;
    bulk(context, &guest, &address(79), "IPv4")
}

fn over_ipv6(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-gso-ipv6", 80))?;
    let console = guest.console();
    let own = link_local(&console)?;
    let host = format!("[{own}%25{}]", network::BRIDGE);
    bulk(context, &guest, &host, "IPv6")
}

/// Sends a file there and back. When the interface is then taken away, the guest prints what it
/// has counted.
fn bulk(context: &Context, guest: &Guest, host: &str, version: &str) -> Result<()> {
    let script = format!(
        "set -e; cd /tmp; trap 'rm -f sent received' EXIT
         head -c {BULK_BYTES} /dev/urandom > sent
         curl -sS -g --max-time 280 -H 'Expect:' -X POST -T sent -o received 'http://{host}/echo'
         sha256sum < sent; sha256sum < received"
    );
    let cpu_time = || Ok::<_, anyhow::Error>(guest.listing()?.context("the guest is gone")?.time);
    let before = cpu_time()?;
    let printed = guest.explain(context.sh(&script, Duration::from_secs(300)))?;
    let used = cpu_time()? - before;
    let mut sums = printed.split_whitespace().filter(|word| *word != "-");
    let (sent, received) = (sums.next(), sums.next());
    ensure!(
        sent.is_some() && sent == received,
        "the file came back changed: {printed}"
    );
    context.sh(&format!("xl network-detach {} 0", guest.name), XL_LIMIT)?;
    let line = guest.explain(guest.wait_for("vif0: disconnected", XL_LIMIT))?;
    let counted = Counted::parse(&line).with_context(|| format!("counters in `{line}`"))?;
    context.measurements.note(
        &format!("CPU time of the guest per MiB echoed, {version} on Xen"),
        format!("{:.1} ms", used * 1000.0 / (BULK_BYTES >> 20) as f64),
    );
    for (direction, frames) in [("in", counted.received), ("out", counted.transmitted)] {
        context.measurements.note(
            &format!("bytes per frame of a bulk transfer {direction}, {version} on Xen"),
            format!(
                "{} ({} of {} frames are several segments)",
                frames.bytes / frames.frames.max(1),
                frames.segmented,
                frames.frames
            ),
        );
    }
    context.measurements.note(
        &format!("spurious events in a bulk transfer each way, {version} on Xen"),
        format!("{} of {}", counted.spurious, counted.events),
    );
    ensure!(
        counted.received.bytes > BULK_BYTES && counted.transmitted.bytes > BULK_BYTES,
        "fewer bytes than were transferred: {line}"
    );
    for frames in [counted.received, counted.transmitted] {
        // The other half of each direction's frames are acknowledgements without data.
        ensure!(
            frames.segmented > 0 && frames.bytes / frames.frames > USUAL_FRAME / 2,
            "a direction has no long packets: {line}"
        );
    }
    ensure!(
        counted.received.dropped == 0 && counted.transmitted.dropped == 0,
        "frames were dropped: {line}"
    );
    ensure!(
        counted.spurious * 100 < counted.events,
        "1 % of the events or more are spurious: {line}"
    );
    Ok(())
}

/// What an interface counted, as it prints it when it disconnects.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counted {
    received: Frames,
    transmitted: Frames,
    events: u64,
    spurious: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Frames {
    frames: u64,
    segmented: u64,
    dropped: u64,
    bytes: u64,
}

impl Counted {
    fn parse(line: &str) -> Option<Self> {
        let frames = |text: &str| {
            let numbers = numbers(text);
            let [frames, segmented, dropped, bytes, ..] = numbers[..] else {
                return None;
            };
            Some(Frames {
                frames,
                segmented,
                dropped,
                bytes,
            })
        };
        let (_, received) = line.split_once("received ")?;
        let (_, transmitted) = received.split_once("transmitted ")?;
        let numbers = numbers(transmitted);
        Some(Self {
            received: frames(received)?,
            transmitted: frames(transmitted)?,
            events: *numbers.get(4)?,
            spurious: *numbers.get(5)?,
        })
    }
}

/// The whole numbers in `text`, in their order.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_counters_is_parsed() {
        let line = "     9.120 INFO  vif0: disconnected; backend is Closing; received 10 frames \
                    (2 segmented, 3 dropped) 4000 bytes, transmitted 50 frames (6 segmented, \
                    7 dropped) 80000 bytes, 90 events (1 spurious), 11 notifications \
                    (8 of pages), 12 times full, 13 frames while down";
        let expected = Counted {
            received: Frames {
                frames: 10,
                segmented: 2,
                dropped: 3,
                bytes: 4000,
            },
            transmitted: Frames {
                frames: 50,
                segmented: 6,
                dropped: 7,
                bytes: 80000,
            },
            events: 90,
            spurious: 1,
        };
        assert_eq!(Counted::parse(line), Some(expected));
        assert_eq!(Counted::parse("vif0: disconnected"), None);
    }
}
