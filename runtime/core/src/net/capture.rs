//! Recording frames for Wireshark and its like: the format pcapng, and a bounded place to keep what
//! nobody has fetched yet.
//!
//! The data path never waits for the recording: a frame for which there is no room, or no memory, is left out, and
//! the next one says how many were. Format: draft-ietf-opsawg-pcapng, sections 4.1 to 4.3.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use super::frame::{Class, classify};
use super::wakers::Wakers;
use crate::time::Instant;

/// A recording of the frames of all interfaces, from when it is made until it is dropped.
pub struct Capture {
    tap: Rc<Tap>,
}

/// There is a recording already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureError;

impl fmt::Display for CaptureError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("frames are recorded already")
    }
}

impl core::error::Error for CaptureError {}

impl Capture {
    /// Records all frames from now on, except for TCP segments from or to `own_port`, through which the
    /// recording leaves: each would cause more.
    pub(super) fn start(tap: Rc<Tap>, own_port: u16) -> Result<Self, CaptureError> {
        if tap.is_on.replace(true) {
            return Err(CaptureError);
        }
        tap.start(own_port);
        Ok(Self { tap })
    }

    /// Waits for something that was not fetched yet, and takes it: the next bytes of a file in the format
    /// pcapng, 256 KiB at most.
    pub async fn fetch(&mut self) -> Vec<u8> {
        self.tap.fetch().await
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.tap.stop();
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Capture").finish_non_exhaustive()
    }
}

/// Bytes of a recording that may wait to be fetched.
const LONGEST_BACKLOG: usize = 256 * 1024;

/// Which way a frame went. The values are those of pcapng.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Received = 1,
    Sent = 2,
}

/// Where the interfaces of a stack record what they carry, while somebody wants that.
#[derive(Default)]
pub(super) struct Tap {
    is_on: Cell<bool>,
    recording: RefCell<Recording>,
    waiting: Wakers,
}

#[derive(Default)]
struct Recording {
    /// Blocks that nobody has fetched.
    blocks: Vec<u8>,
    /// Interfaces that have been described, in the order of their numbers in the recording.
    interfaces: Vec<usize>,
    /// Frames left out since the last one that was not.
    left_out: u64,
    /// TCP port whose segments are not recorded: those of the recording's own way out.
    own_port: u16,
}

impl Tap {
    fn start(&self, own_port: u16) {
        let mut recording = Recording {
            own_port,
            ..Recording::default()
        };
        section(&mut recording.blocks);
        self.recording.replace(recording);
    }

    /// Forgets what was not fetched.
    fn stop(&self) {
        self.is_on.set(false);
        self.recording.replace(Recording::default());
    }

    /// Records a frame of the interface with this number and name, if somebody wants that.
    pub(super) fn note(&self, interface: usize, name: &str, direction: Direction, frame: &[u8]) {
        if self.is_on.get() {
            let now = Instant::recent().duration_since_boot().as_micros();
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            let mut recording = self.recording.borrow_mut();
            recording.note(interface, name, direction, now, frame);
            drop(recording);
            self.waiting.wake_all();
        }
    }

    async fn fetch(&self) -> Vec<u8> {
        poll_fn(|task| {
            let mut recording = self.recording.borrow_mut();
            if recording.blocks.is_empty() {
                self.waiting.register(task.waker());
                return Poll::Pending;
            }
            Poll::Ready(core::mem::take(&mut recording.blocks))
        })
        .await
    }
}

impl Recording {
    fn note(&mut self, interface: usize, name: &str, direction: Direction, now: u64, frame: &[u8]) {
        if let Class::Tcp(arrival) = classify(frame).class {
            let ports = [arrival.flow.local.port, arrival.flow.peer.port];
            if ports.contains(&self.own_port) {
                return;
            }
        }
        // With all that may go with it.
        let room = frame.len() + name.len() + 128;
        let fits = self.blocks.len() + room <= LONGEST_BACKLOG;
        if !fits || self.blocks.try_reserve(room).is_err() {
            self.left_out += 1;
            return;
        }
        let known = self.interfaces.iter().position(|known| *known == interface);
        let number = known.unwrap_or_else(|| {
            describe(&mut self.blocks, name);
            self.interfaces.push(interface);
            self.interfaces.len() - 1
        });
        let left_out = core::mem::take(&mut self.left_out);
        packet(
            &mut self.blocks,
            number as u32,
            direction,
            now,
            left_out,
            frame,
        );
    }
}

/// The first block, which says the byte order, and that the length is not known.
fn section(blocks: &mut Vec<u8>) {
    block(blocks, 0x0a0d_0d0a, |body| {
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(u64::MAX.to_le_bytes());
    });
}

/// The description of an Ethernet interface; the times of its frames are in microseconds.
fn describe(blocks: &mut Vec<u8>, name: &str) {
    const ETHERNET: u16 = 1;
    const NAME: u16 = 2;
    block(blocks, 1, |body| {
        body.extend(ETHERNET.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // Frames are not cut.
        body.extend(0_u32.to_le_bytes());
        option(body, NAME, name.as_bytes());
        option(body, 0, &[]);
    });
}

fn packet(
    blocks: &mut Vec<u8>,
    interface: u32,
    direction: Direction,
    now: u64,
    left_out: u64,
    frame: &[u8],
) {
    const FLAGS: u16 = 2;
    const DROPS: u16 = 4;
    block(blocks, 6, |body| {
        let length = frame.len() as u32;
        body.extend(interface.to_le_bytes());
        body.extend(((now >> 32) as u32).to_le_bytes());
        body.extend((now as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(length.to_le_bytes());
        padded(body, frame);
        option(body, FLAGS, &(direction as u32).to_le_bytes());
        if left_out > 0 {
            option(body, DROPS, &left_out.to_le_bytes());
        }
        option(body, 0, &[]);
    });
}

/// A block of this type; `write` adds its body, a multiple of four bytes.
fn block(blocks: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = blocks.len();
    blocks.extend(kind.to_le_bytes());
    blocks.extend([0; 4]);
    write(blocks);
    let length = (blocks.len() - start + 4) as u32;
    blocks[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    blocks.extend(length.to_le_bytes());
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    body.extend(core::iter::repeat_n(0, padding));
}

#[cfg(test)]
mod tests {
    use std::vec;

    use smoltcp::wire::{EthernetFrame, Ipv4Packet, TcpPacket};

    use super::*;

    const OWN_PORT: u16 = 5555;

    fn recording() -> Recording {
        Recording {
            own_port: OWN_PORT,
            ..Recording::default()
        }
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Types and bodies of the blocks.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(bytes, length - 4) as usize, length, "at both ends");
            blocks.push((word(bytes, 0), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        blocks
    }

    /// The options of a block whose body's other part is so long.
    fn options(body: &[u8], mut at: usize) -> Vec<(u16, Vec<u8>)> {
        let mut options = Vec::new();
        loop {
            let (code, length) = (word(body, at) as u16, (word(body, at) >> 16) as usize);
            if code == 0 {
                assert_eq!(at + 4, body.len());
                return options;
            }
            options.push((code, body[at + 4..at + 4 + length].to_vec()));
            at += 4 + length.next_multiple_of(4);
        }
    }

    #[test]
    fn a_recording_begins_with_its_byte_order() {
        let mut bytes = Vec::new();
        section(&mut bytes);
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        let [(_, body)] = &*blocks(&bytes) else {
            panic!("not one block");
        };
        assert_eq!(word(body, 0), 0x1a2b_3c4d);
        assert_eq!(word(body, 4), 1, "version 1.0");
        assert_eq!(body[8..], [0xff; 8]);
    }

    #[test]
    fn interfaces_are_described_before_their_first_frame() {
        let mut recording = recording();
        let time = (7 << 32) + 9;
        recording.note(3, "vif3", Direction::Received, time, &[0xaa; 61]);
        recording.note(0, "vif0", Direction::Sent, time, &[0xbb; 64]);
        recording.note(3, "vif3", Direction::Sent, time, &[0xcc; 60]);
        let blocks = blocks(&recording.blocks);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 6, 1, 6, 6]);
        assert_eq!(options(&blocks[0].1, 8), [(2, b"vif3".to_vec())]);
        let frame = &blocks[1].1;
        let header: Vec<_> = (0..5).map(|number| word(frame, 4 * number)).collect();
        assert_eq!(header, [0, 7, 9, 61, 61]);
        assert_eq!(frame[20..81], [0xaa; 61]);
        assert_eq!(options(frame, 84), [(2, vec![1, 0, 0, 0])]);
        assert_eq!(word(&blocks[3].1, 0), 1, "the second interface");
        assert_eq!(options(&blocks[3].1, 84), [(2, vec![2, 0, 0, 0])]);
        assert_eq!(word(&blocks[4].1, 0), 0);
    }

    #[test]
    fn what_has_no_room_is_counted_with_the_next_frame() {
        let mut recording = recording();
        for _ in 0..1000 {
            recording.note(0, "vif0", Direction::Sent, 0, &[0; 1500]);
        }
        assert!(recording.blocks.len() <= LONGEST_BACKLOG);
        let kept = blocks(&recording.blocks).len() - 1;
        assert!((100..1000).contains(&kept));
        recording.blocks.clear();
        recording.note(0, "vif0", Direction::Sent, 0, &[0; 60]);
        let blocks = blocks(&recording.blocks);
        let left_out = (1000 - kept as u64).to_le_bytes().to_vec();
        assert_eq!(options(&blocks[0].1, 80)[1], (4, left_out));
        recording.note(0, "vif0", Direction::Sent, 0, &[0; 60]);
        assert_eq!(recording.left_out, 0);
    }

    #[test]
    fn the_recording_does_not_record_its_own_way_out() {
        let segment = |source, destination| {
            let mut frame = vec![0; 14 + 20 + 20];
            EthernetFrame::new_unchecked(&mut frame[..])
                .set_ethertype(smoltcp::wire::EthernetProtocol::Ipv4);
            let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
            ip.set_version(4);
            ip.set_header_len(20);
            ip.set_total_len(40);
            ip.set_next_header(smoltcp::wire::IpProtocol::Tcp);
            let mut tcp = TcpPacket::new_unchecked(&mut frame[34..]);
            tcp.set_src_port(source);
            tcp.set_dst_port(destination);
            tcp.set_header_len(20);
            frame
        };
        let mut recording = recording();
        recording.note(0, "vif0", Direction::Sent, 0, &segment(OWN_PORT, 40_000));
        recording.note(
            0,
            "vif0",
            Direction::Received,
            0,
            &segment(40_000, OWN_PORT),
        );
        assert!(recording.blocks.is_empty() && recording.left_out == 0);
        recording.note(0, "vif0", Direction::Received, 0, &segment(40_000, 80));
        assert_eq!(blocks(&recording.blocks).len(), 2);
    }
}
