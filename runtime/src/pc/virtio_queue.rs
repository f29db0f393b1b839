//! A virtio queue together with the buffers that travel through it.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::{BufferDirection, Error};

use super::virtio_hal::DeviceMemory;
use crate::dma::{self, PAGE_SIZE};

/// Buffers of one queue. QEMU offers 256 by default.
pub(crate) const SLOTS: usize = 128;
/// Bytes of a buffer: a full Ethernet frame and the header in front of it, with room to spare.
pub(crate) const BUFFER: usize = 2048;

/// One queue and its [`SLOTS`] buffers. A buffer is either the device's or ours.
pub(crate) struct Queue {
    index: u16,
    direction: BufferDirection,
    queue: VirtQueue<DeviceMemory, SLOTS>,
    /// [`SLOTS`] times [`BUFFER`] bytes. Never given back: a device that is dropped in the
    /// middle of its work may still write to them.
    buffers: NonNull<u8>,
    /// Which buffer the device has under each token; `None` for a token it does not have.
    slots: [Option<u16>; SLOTS],
    /// How many bytes of each buffer the device has; `None` for one of ours.
    lent: [Option<usize>; SLOTS],
    ours: Vec<u16>,
    unannounced: bool,
}

impl Queue {
    /// Sets up queue number `index` of a device whose initialisation has begun.
    ///
    /// # Errors
    /// When the device has no such queue, or the pool no memory.
    pub(crate) fn new(
        transport: &mut impl Transport,
        index: u16,
        direction: BufferDirection,
    ) -> Result<Self, Error> {
        // Neither indirect descriptors, which single buffers do not need, nor event indices:
        // the crate compares those without regard to wrapping.
        let queue = VirtQueue::new(transport, index, false, false)?;
        Ok(Self {
            index,
            direction,
            queue,
            buffers: dma::take(SLOTS * BUFFER / PAGE_SIZE).ok_or(Error::DmaError)?,
            slots: [None; SLOTS],
            lent: [None; SLOTS],
            ours: (0..SLOTS as u16).collect(),
            unannounced: false,
        })
    }

    /// A buffer of ours to fill, to be [`lend`](Self::lend)ed then.
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.ours.pop()
    }

    /// The contents of a buffer from [`take`](Self::take) or [`reclaim`](Self::reclaim).
    ///
    /// # Panics
    /// If the device has it: this crate's mistake.
    pub(crate) fn contents(&mut self, slot: u16) -> &mut [u8] {
        assert!(
            self.lent[usize::from(slot)].is_none(),
            "buffer {slot} is the device's"
        );
        // SAFETY: the buffer is ours, and the borrow of `self` keeps it from being lent.
        unsafe { self.slice(slot, BUFFER) }
    }

    /// Gives the first `length` bytes of a buffer to the device.
    ///
    /// # Errors
    /// When the queue is full, which it cannot be: there are as many slots as buffers.
    pub(crate) fn lend(&mut self, slot: u16, length: usize) -> Result<(), Error> {
        assert!(
            self.lent[usize::from(slot)].is_none(),
            "buffer {slot} is the device's"
        );
        // SAFETY: the buffer is ours until the next statement gives it away.
        let bytes = unsafe { self.slice(slot, length) };
        let token = match self.direction {
            // SAFETY: the buffer lives as long as the queue, and `lent` keeps everyone from
            // it until `reclaim` has popped the token.
            BufferDirection::DriverToDevice => unsafe { self.queue.add(&[bytes], &mut []) },
            // SAFETY: as above.
            _ => unsafe { self.queue.add(&[], &mut [bytes]) },
        }?;
        self.slots[usize::from(token)] = Some(slot);
        self.lent[usize::from(slot)] = Some(length);
        self.unannounced = true;
        Ok(())
    }

    /// Takes the next buffer back that the device is done with: its number, and how many
    /// bytes the device wrote to it. The caller lends it again or [`keep`](Self::keep)s it.
    pub(crate) fn reclaim(&mut self) -> Option<(u16, usize)> {
        let token = self.queue.peek_used()?;
        let slot = self.slots.get_mut(usize::from(token))?.take()?;
        let length = self.lent[usize::from(slot)].take()?;
        // SAFETY: the device is done with the buffer: it names the token under which it was lent.
        let bytes = unsafe { self.slice(slot, length) };
        let written = match self.direction {
            // SAFETY: the same buffer as was added under this token.
            BufferDirection::DriverToDevice => unsafe {
                self.queue.pop_used(token, &[bytes], &mut [])
            },
            // SAFETY: as above.
            _ => unsafe { self.queue.pop_used(token, &[], &mut [bytes]) },
        };
        Some((slot, (written.ok()? as usize).min(length)))
    }

    /// Puts a buffer back among ours.
    pub(crate) fn keep(&mut self, slot: u16) {
        self.ours.push(slot);
    }

    /// Tells the device of what was lent since the last time, if it wants to know.
    pub(crate) fn announce(&mut self, transport: &mut impl Transport) {
        if !core::mem::take(&mut self.unannounced) {
            return;
        }
        // What was lent must be visible before we read whether the device sleeps: a load may
        // overtake a store even on this processor.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            transport.notify(self.index);
        }
    }

    /// Whether the device shall interrupt when it is done with a buffer.
    pub(crate) fn interrupt(&mut self, wanted: bool) {
        self.queue.set_dev_notify(wanted);
        // The caller looks for finished buffers next; the wish must be visible before.
        fence(Ordering::SeqCst);
    }

    /// The first `length` bytes of a buffer.
    ///
    /// # Safety
    /// The device does not have the buffer, and no other slice of it exists.
    unsafe fn slice<'a>(&self, slot: u16, length: usize) -> &'a mut [u8] {
        assert!(usize::from(slot) < SLOTS && length <= BUFFER);
        // SAFETY: the slot lies in the buffers, as just checked.
        let start = unsafe { self.buffers.add(usize::from(slot) * BUFFER) };
        // SAFETY: the pool zeroed the buffers and they live for ever; that nobody else
        // accesses this one is this function's contract.
        unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), length) }
    }
}
