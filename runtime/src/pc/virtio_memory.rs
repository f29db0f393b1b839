//! Memory of the DMA pool, as the virtio driver uses it.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};

use virtio_net::DeviceMemory;

use crate::dma::{self, PAGE_SIZE};

/// Pages of the pool that a device was told of. They are never given back: a device that is
/// given up in the middle of its work may still write to them.
pub(crate) struct DmaMemory {
    start: NonNull<u8>,
    length: usize,
}

impl DmaMemory {
    /// Where `length` bytes at `offset` are.
    fn place(&self, offset: usize, length: usize) -> NonNull<u8> {
        let fits = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length);
        assert!(fits, "{length} bytes at {offset} of a device's memory");
        // SAFETY: the offset lies in the block, as just checked.
        unsafe { self.start.add(offset) }
    }

    fn number(&self, offset: usize) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2), "odd offset {offset}");
        let place = self.place(offset, 2).as_ptr().cast();
        // SAFETY: the two bytes lie in the block, which is mapped for good and begins at a page,
        // so they are aligned; the device's accesses to them are single ones like these.
        unsafe { AtomicU16::from_ptr(place) }
    }
}

impl DeviceMemory for DmaMemory {
    fn allocate(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_SIZE);
        Some(Self {
            start: dma::take(pages)?,
            length: pages * PAGE_SIZE,
        })
    }

    fn address(&self) -> u64 {
        // Physical addresses are virtual ones.
        self.start.as_ptr() as u64
    }

    fn load_u16(&self, offset: usize) -> u16 {
        self.number(offset).load(Ordering::Acquire)
    }

    fn store_u16(&self, offset: usize, value: u16) {
        self.number(offset).store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let place = self.place(offset, into.len());
        // SAFETY: both are that long and apart: nobody has a reference into the block. The
        // device, which is trusted, does not write what it said it was done with.
        unsafe { place.copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) };
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        let place = self.place(offset, length);
        into.reserve(length);
        let end = into.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: the room was just reserved; the rest is as in `read`.
        unsafe { place.as_ptr().copy_to_nonoverlapping(end, length) };
        // SAFETY: so many bytes behind the old end were just written.
        unsafe { into.set_len(into.len() + length) };
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let place = self.place(offset, from.len());
        // SAFETY: both are that long and apart, as in `read`; the device does not use what it
        // was not lent.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
    }
}

// SAFETY: the block belongs to no thread, and there is one processor.
unsafe impl Send for DmaMemory {}
