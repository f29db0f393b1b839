//! Memory and a device of the host's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec::Vec;

use crate::{DeviceMemory, Queue};

std::thread_local! {
    /// All memory of this test. Its place is the upper half of its address.
    static MEMORY: RefCell<Vec<Rc<RefCell<Vec<u8>>>>> = const { RefCell::new(Vec::new()) };
    /// Bytes that may still be allocated.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(super) fn limit_memory(bytes: usize) {
    LEFT.set(bytes);
}

#[derive(Debug)]
pub(super) struct HostMemory {
    number: usize,
    bytes: Rc<RefCell<Vec<u8>>>,
}

fn at(address: u64) -> HostMemory {
    let number = (address >> 32) as usize;
    let bytes = MEMORY.with_borrow(|memory| memory[number].clone());
    HostMemory { number, bytes }
}

impl DeviceMemory for HostMemory {
    fn allocate(bytes: usize) -> Option<Self> {
        LEFT.set(LEFT.get().checked_sub(bytes)?);
        let bytes = Rc::new(RefCell::new(std::vec![0; bytes]));
        let number = MEMORY.with_borrow_mut(|memory| {
            memory.push(bytes.clone());
            memory.len() - 1
        });
        Some(Self { number, bytes })
    }

    fn address(&self) -> u64 {
        (self.number as u64) << 32
    }

    fn load_u16(&self, offset: usize) -> u16 {
        assert!(offset.is_multiple_of(2));
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn store_u16(&self, offset: usize, value: u16) {
        assert!(offset.is_multiple_of(2));
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes.borrow()[offset..][..into.len()]);
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes.borrow()[offset..][..length]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.bytes.borrow_mut()[offset..][..from.len()].copy_from_slice(from);
    }
}

/// One buffer of a chain, as the device sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    address: u64,
    pub(super) length: usize,
    pub(super) device_writes: bool,
}

impl Part {
    pub(super) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length && self.device_writes);
        at(self.address).write(self.address as u32 as usize, bytes);
    }

    pub(super) fn read(&self) -> Vec<u8> {
        assert!(!self.device_writes);
        let mut bytes = Vec::new();
        at(self.address).append(self.address as u32 as usize, self.length, &mut bytes);
        bytes
    }
}

/// The device's side of one queue, written from the standard and not from the driver.
pub(super) struct FakeQueue {
    descriptors: u64,
    available: u64,
    used: u64,
    size: u16,
    event_index: bool,
    seen: u16,
    written: u16,
    shown: u16,
}

impl FakeQueue {
    pub(super) fn of(queue: &Queue<HostMemory>, event_index: bool) -> Self {
        let [descriptors, available, used] = queue.addresses();
        Self {
            descriptors,
            available,
            used,
            size: queue.size(),
            event_index,
            seen: 0,
            written: 0,
            shown: 0,
        }
    }

    fn load(&self, address: u64) -> u16 {
        at(address).load_u16(address as u32 as usize)
    }

    fn store(&self, address: u64, value: u16) {
        at(address).store_u16(address as u32 as usize, value);
    }

    /// The next chain that the driver made available: its head and its buffers.
    pub(super) fn next(&mut self) -> Option<(u16, Vec<Part>)> {
        if self.load(self.available + 2) == self.seen {
            return None;
        }
        let entry = self.available + 4 + 2 * u64::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        let head = self.load(entry);
        let mut parts = Vec::new();
        let mut number = head;
        loop {
            let mut bytes = [0; 16];
            let place = self.descriptors + 16 * u64::from(number);
            at(place).read(place as u32 as usize, &mut bytes);
            let flags = u16::from_le_bytes([bytes[12], bytes[13]]);
            parts.push(Part {
                address: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                length: u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize,
                device_writes: flags & 2 != 0,
            });
            assert!(parts.len() <= usize::from(self.size), "chain is a loop");
            if flags & 1 == 0 {
                return Some((head, parts));
            }
            number = u16::from_le_bytes([bytes[14], bytes[15]]);
        }
    }

    /// Says that there is nothing left to do, so that a notification is wanted.
    pub(super) fn sleep(&self) {
        if self.event_index {
            self.store(self.used + 4 + 8 * u64::from(self.size), self.seen);
        }
    }

    /// Whether the driver made more available than the device has seen.
    pub(super) fn is_behind(&self) -> bool {
        self.load(self.available + 2) != self.seen
    }

    /// Writes an entry of the used ring.
    pub(super) fn put(&mut self, head: u32, length: u32) {
        let entry = self.used + 4 + 8 * u64::from(self.written % self.size);
        let memory = at(entry);
        memory.write(entry as u32 as usize, &head.to_le_bytes());
        memory.write(entry as u32 as usize + 4, &length.to_le_bytes());
        self.written = self.written.wrapping_add(1);
    }

    /// Shows the driver the entries written. True if it is to be interrupted.
    pub(super) fn show(&mut self) -> bool {
        let old = core::mem::replace(&mut self.shown, self.written);
        self.show_index(self.written);
        if !self.event_index {
            return old != self.written && self.load(self.available) & 1 == 0;
        }
        let event = self.load(self.available + 4 + 2 * u64::from(self.size));
        let steps = self.written.wrapping_sub(old);
        (0..steps).any(|step| old.wrapping_add(step) == event)
    }

    /// Claims to have used entries up to `index`.
    pub(super) fn show_index(&self, index: u16) {
        self.store(self.used + 2, index);
    }
}

/// Numbers that differ from test to test step, the same in each run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, end: usize) -> usize {
        // Knuth's multiplier; the upper bits are good enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let first = self.below(251);
        (first..first + length).map(|byte| byte as u8).collect()
    }
}
