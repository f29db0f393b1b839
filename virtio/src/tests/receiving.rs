use std::collections::VecDeque;
use std::vec::Vec;

use super::fake::{FakeQueue, HostMemory, Numbers, limit_memory};
use crate::{Checksum, Features, MOST_BUFFERS, Receiver};

/// A device that delivers frames, and the driver that looks only when it is interrupted.
struct Bench {
    receiver: Receiver<HostMemory>,
    device: FakeQueue,
    header: usize,
    interrupted: bool,
    interrupts: usize,
}

impl Bench {
    fn new(features: Features) -> Self {
        let mut receiver = Receiver::new(256, features).unwrap();
        let event_index = features.contains(Features::EVENT_IDX);
        let device = FakeQueue::of(receiver.queue(), event_index);
        receiver.queue().publish();
        Self {
            receiver,
            device,
            header: features.header_length(),
            interrupted: true,
            interrupts: 0,
        }
    }

    /// Puts one frame into as many buffers as it needs; false if there were too few, which is
    /// the end of the frame.
    fn deliver(&mut self, flags: u8, frame: &[u8]) -> bool {
        let mut bytes = std::vec![0; self.header];
        bytes[0] = flags;
        bytes.extend_from_slice(frame);
        let count = bytes.len().div_ceil(4096);
        if self.header == 12 {
            bytes[10..12].copy_from_slice(&(count as u16).to_le_bytes());
        }
        let mut chains = Vec::new();
        for _ in 0..count {
            match self.device.next() {
                Some(chain) => chains.push(chain),
                None => return false,
            }
        }
        for (part, (head, buffers)) in bytes.chunks(4096).zip(chains) {
            buffers[0].write(part);
            self.device.put(head.into(), part.len() as u32);
        }
        true
    }

    fn show(&mut self) {
        if self.device.show() {
            self.interrupted = true;
            self.interrupts += 1;
        }
    }

    /// What the driver takes when it was interrupted.
    fn take(&mut self) -> Vec<(Checksum, Vec<u8>)> {
        let mut frames = Vec::new();
        if core::mem::take(&mut self.interrupted) {
            let mut frame = Vec::new();
            while let Some(checksum) = self.receiver.receive(&mut frame).unwrap() {
                frames.push((checksum, frame.clone()));
            }
            self.receiver.queue().publish();
        }
        frames
    }
}

/// Runs long enough for the 16-bit indices to wrap.
fn every_frame_arrives(features: Features, longest: usize) {
    let mut bench = Bench::new(features);
    let mut numbers = Numbers(1);
    let mut under_way = VecDeque::new();
    assert!(bench.take().is_empty());
    let mut arrived = 0;
    while arrived < 70_000 {
        for _ in 0..=numbers.below(8) {
            let length = match numbers.below(20) {
                0 => 14 + numbers.below(longest - 13),
                _ => 14 + numbers.below(60),
            };
            let frame = numbers.bytes(length);
            if !bench.deliver(0, &frame) {
                break;
            }
            under_way.push_back(frame);
        }
        bench.show();
        for (checksum, frame) in bench.take() {
            assert_eq!(checksum, Checksum::Unknown);
            assert_eq!(Some(frame), under_way.pop_front());
            arrived += 1;
        }
        assert!(under_way.is_empty(), "a frame without an interrupt");
        if bench.device.is_behind() {
            continue;
        }
        // Out of buffers in the middle of a frame: nothing can be tested from there.
        bench = Bench::new(features);
        bench.take();
    }
    assert!(bench.interrupts <= arrived);
}

#[test]
fn frames_in_many_buffers_arrive_with_event_indices() {
    every_frame_arrives(Features::all(), 65_000);
}

#[test]
fn frames_in_many_buffers_arrive_without_event_indices() {
    every_frame_arrives(Features::all() - Features::EVENT_IDX, 65_000);
}

#[test]
fn an_old_device_has_shorter_headers() {
    every_frame_arrives(Features::MAC, 4086);
}

#[test]
fn a_frame_that_is_shown_in_parts_is_waited_for() {
    let mut bench = Bench::new(Features::all());
    bench.take();
    let chains: Vec<_> = (0..2).map(|_| bench.device.next().unwrap()).collect();
    let mut bytes = std::vec![7; 4096];
    bytes[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    chains[0].1[0].write(&bytes);
    bench.device.put(chains[0].0.into(), 4096);
    bench.show();
    assert!(bench.take().is_empty());
    chains[1].1[0].write(&[7; 100]);
    bench.device.put(chains[1].0.into(), 100);
    bench.show();
    assert_eq!(
        bench.take(),
        [(Checksum::Unknown, std::vec![7; 4096 - 12 + 100])]
    );
}

#[test]
fn the_host_vouches_only_where_that_was_agreed() {
    for (flags, vouched) in [(0, false), (1, true), (2, true)] {
        for agreed in [true, false] {
            let features = match agreed {
                true => Features::all(),
                false => Features::all() - Features::GUEST_CSUM,
            };
            let mut bench = Bench::new(features);
            assert!(bench.deliver(flags, &[1; 60]));
            bench.show();
            let expected = match vouched && agreed {
                true => Checksum::Vouched,
                false => Checksum::Unknown,
            };
            assert_eq!(bench.take(), [(expected, std::vec![1; 60])]);
        }
    }
}

#[test]
fn frames_without_meaning_are_dropped_and_counted() {
    let mut bench = Bench::new(Features::all());
    assert!(bench.deliver(0, &[1; 13]));
    assert!(bench.deliver(0, &[1; 65_554]));
    // The kind is the header's second byte: UDP, which was not agreed on.
    let (head, parts) = bench.device.next().unwrap();
    let mut bytes = [0; 72];
    bytes[1] = 3;
    bytes[10] = 1;
    parts[0].write(&bytes);
    bench.device.put(head.into(), 72);
    assert!(bench.deliver(0, &[2; 14]));
    bench.show();
    assert_eq!(bench.take(), [(Checksum::Unknown, std::vec![2; 14])]);
    let drops = bench.receiver.drops();
    assert_eq!((drops.size, drops.kind), (2, 1));
}

#[test]
fn buffers_grow_under_load_and_within_memory() {
    for (memory, expected) in [(usize::MAX, usize::from(MOST_BUFFERS)), (1 << 18, 32)] {
        limit_memory(memory);
        let mut bench = Bench::new(Features::all());
        for _ in 0..20 {
            while bench.deliver(0, &[0; 60]) {}
            bench.show();
            bench.take();
        }
        let mut available = 0;
        while bench.deliver(0, &[0; 60]) {
            available += 1;
        }
        assert_eq!(available, expected);
    }
}
