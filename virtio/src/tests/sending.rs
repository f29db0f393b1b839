use std::collections::VecDeque;
use std::vec::Vec;

use super::fake::{FakeQueue, HostMemory, Numbers, limit_memory};
use crate::{Features, Header, QueueFull, Transmitter};

/// A driver, and a device that looks only when it is notified.
struct Bench {
    transmitter: Transmitter<HostMemory>,
    device: FakeQueue,
    notified: bool,
    interrupted: bool,
}

impl Bench {
    fn new(size: u16, features: Features) -> Self {
        let mut transmitter = Transmitter::new(size, features).unwrap();
        let event_index = features.contains(Features::EVENT_IDX);
        let device = FakeQueue::of(transmitter.queue(), event_index);
        Self {
            transmitter,
            device,
            notified: false,
            interrupted: false,
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> Result<(), QueueFull> {
        self.transmitter.transmit(Header::COMPLETE, frame).unwrap()
    }

    fn publish(&mut self) {
        self.notified |= self.transmitter.queue().publish();
    }

    /// What the device finds when it was notified, each frame with its header.
    fn work(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if core::mem::take(&mut self.notified) {
            while let Some((head, parts)) = self.device.next() {
                frames.push(parts.iter().flat_map(super::fake::Part::read).collect());
                self.device.put(head.into(), 0);
            }
            self.device.sleep();
            self.interrupted |= self.device.show();
        }
        frames
    }
}

/// Runs long enough for the 16-bit indices to wrap.
fn every_frame_arrives(features: Features) {
    let mut bench = Bench::new(256, features);
    let mut numbers = Numbers(2);
    let mut under_way = VecDeque::new();
    let mut arrived = 0;
    let mut interrupts = 0;
    let mut full = 0;
    while arrived < 70_000 {
        for _ in 0..numbers.below(200) {
            let length = match numbers.below(60) {
                0 => 14 + numbers.below(65_536),
                _ => 14 + numbers.below(60),
            };
            let frame = numbers.bytes(length);
            if bench.transmit(&frame) == Err(QueueFull) {
                full += 1;
                bench.interrupted = false;
                bench.publish();
                for sent in bench.work() {
                    assert_eq!(&sent[12..], under_way.pop_front().unwrap());
                    arrived += 1;
                }
                assert!(bench.interrupted, "room without an interrupt");
                assert_eq!(bench.transmit(&frame), Ok(()));
            }
            under_way.push_back(frame);
        }
        bench.interrupted = false;
        bench.publish();
        for sent in bench.work() {
            assert_eq!(&sent[12..], under_way.pop_front().unwrap());
            arrived += 1;
        }
        assert!(under_way.is_empty(), "frames without a notification");
        interrupts += usize::from(bench.interrupted);
    }
    assert!(full > 0 && interrupts <= full + 2);
}

#[test]
fn frames_in_many_buffers_arrive_with_event_indices() {
    every_frame_arrives(Features::all());
}

#[test]
fn frames_in_many_buffers_arrive_without_event_indices() {
    every_frame_arrives(Features::all() - Features::EVENT_IDX);
}

#[test]
fn a_batch_is_one_notification() {
    let mut bench = Bench::new(256, Features::all());
    for _ in 0..20 {
        assert_eq!(bench.transmit(&[1; 60]), Ok(()));
    }
    bench.publish();
    assert!(bench.notified);
    // The device has not looked yet, and will see these without being told.
    assert_eq!(bench.transmit(&[1; 60]), Ok(()));
    assert!(!bench.transmitter.queue().publish());
    assert_eq!(bench.work().len(), 21);
}

#[test]
fn a_small_queue_says_how_long_a_frame_may_be() {
    for (size, memory) in [(8, usize::MAX), (256, 1 << 18)] {
        limit_memory(memory);
        let mut bench = Bench::new(size, Features::all());
        let longest = bench.transmitter.longest_frame();
        let frame = std::vec![3; longest];
        assert_eq!(bench.transmit(&frame), Ok(()));
        assert_eq!(
            bench.transmit(&[1; 60]).is_ok(),
            memory > 1 << 18 && size > 8
        );
        bench.publish();
        assert_eq!(&bench.work()[0][12..], frame);
        assert!(bench.interrupted);
        assert_eq!(bench.transmit(&frame), Ok(()));
    }
}

#[test]
fn the_sum_for_the_device_replaces_two_bytes() {
    for field in [50, 4082, 4084, 4086] {
        let mut bench = Bench::new(256, Features::all());
        let mut frame = Numbers(3).bytes(9000);
        let header = Header::partial_checksum(field - 16, 16, 0xabcd);
        let queued = bench.transmitter.transmit(header, &frame);
        assert_eq!(queued, Ok(Ok(())));
        bench.publish();
        let place = usize::from(field);
        frame[place..place + 2].copy_from_slice(&[0xab, 0xcd]);
        assert_eq!(bench.work(), [[&header.emit()[..], &frame].concat()]);
    }
}
