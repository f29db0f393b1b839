//! A device that breaks the rules stops the driver, and nothing worse.

use std::vec::Vec;

use proptest::prelude::*;

use super::fake::{FakeQueue, HostMemory};
use crate::{Features, Header, Misbehaviour, Receiver, Transmitter};

fn receiver() -> (Receiver<HostMemory>, FakeQueue) {
    let mut receiver = Receiver::new(64, Features::all()).unwrap();
    let device = FakeQueue::of(receiver.queue(), true);
    receiver.queue().publish();
    (receiver, device)
}

/// Receives from a device that used one buffer with these `buffers` in its header.
fn after(buffers: u16, head: impl Fn(u16) -> u32, length: u32) -> Result<(), Misbehaviour> {
    let (mut receiver, mut device) = receiver();
    let (first, parts) = device.next().unwrap();
    let mut header = [0; 12];
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    parts[0].write(&header);
    device.put(head(first), length);
    device.show();
    let mut frame = Vec::new();
    while receiver.receive(&mut frame)?.is_some() {}
    Ok(())
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let same = u32::from;
    assert_eq!(after(1, same, 72), Ok(()));
    assert_eq!(after(0, same, 72), Err(Misbehaviour::BufferCount(0)));
    assert_eq!(after(65, same, 72), Err(Misbehaviour::BufferCount(65)));
    for length in [11, 4097, u32::MAX] {
        assert_eq!(after(1, same, length), Err(Misbehaviour::Length(length)));
    }
    for head in [64, 65_536, u32::MAX] {
        let refused = Err(Misbehaviour::UnknownHead(head));
        assert_eq!(after(1, |_| head, 72), refused);
    }
}

#[test]
fn an_index_that_runs_ahead_is_refused() {
    let (mut receiver, device) = receiver();
    device.show_index(33);
    let refused = receiver.receive(&mut Vec::new());
    assert_eq!(refused, Err(Misbehaviour::UsedTooMany(1)));
}

#[test]
fn a_chain_is_taken_once() {
    let mut transmitter = Transmitter::<HostMemory>::new(4, Features::all()).unwrap();
    let mut device = FakeQueue::of(transmitter.queue(), true);
    for _ in 0..4 {
        let queued = transmitter.transmit(Header::COMPLETE, &[0; 60]);
        assert_eq!(queued, Ok(Ok(())));
    }
    transmitter.queue().publish();
    let (head, _) = device.next().unwrap();
    device.put(head.into(), 0);
    device.put(head.into(), 0);
    device.show();
    assert_eq!(
        transmitter.transmit(Header::COMPLETE, &[0; 60]),
        Err(Misbehaviour::UnknownHead(head.into()))
    );
}

proptest! {
    /// Whatever the device writes where it may write, the driver neither panics nor hangs.
    #[test]
    fn nothing_the_device_writes_is_too_much(
        header in proptest::array::uniform12(any::<u8>()),
        entries in proptest::collection::vec((0u32..70, 0u32..5000), 1..40),
        index in any::<u16>(),
    ) {
        let (mut receiver, mut device) = receiver();
        while let Some((_, parts)) = device.next() {
            parts[0].write(&header);
        }
        for &(head, length) in &entries {
            device.put(head, length);
        }
        if index % 3 == 0 {
            device.show_index(index);
        } else {
            device.show();
        }
        let mut frame = Vec::new();
        for _ in 0..100 {
            if !matches!(receiver.receive(&mut frame), Ok(Some(_))) {
                break;
            }
        }
    }
}
