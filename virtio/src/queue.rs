//! A split virtqueue together with the buffers that travel through it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use super::memory::{BUFFER, DeviceMemory};
use super::ring::{Places, passes};

/// Buffers that are taken at once.
pub const BLOCK_BUFFERS: u16 = 32;
/// Most buffers of one queue, for 1 MiB.
pub const MOST_BUFFERS: u16 = 256;

/// Flags of a descriptor, and of the two rings.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// The device broke the rules of the ring. It must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It says that it used this many chains more than it has.
    UsedTooMany(u16),
    /// It says that it used a chain with this head, which it does not have.
    UnknownHead(u32),
    /// It says that it wrote this many bytes into one buffer.
    Length(u32),
    /// It says that a frame is in this many buffers.
    BufferCount(u16),
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsedTooMany(count) => {
                write!(formatter, "used {count} chains more than it has")
            }
            Self::UnknownHead(head) => {
                write!(formatter, "used the chain {head}, which it does not have")
            }
            Self::Length(length) => write!(formatter, "wrote {length} bytes into one buffer"),
            Self::BufferCount(count) => write!(formatter, "put a frame into {count} buffers"),
        }
    }
}

impl core::error::Error for Misbehaviour {}

/// Who writes the buffers of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device: frames to receive.
    DeviceWrites,
    /// The driver: frames to send.
    DriverWrites,
}

/// A chain that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Its first buffer.
    pub(crate) head: u16,
    /// Bytes that the device wrote.
    pub(crate) length: u32,
}

/// A ring and its buffers. Buffer `n` always travels under descriptor `n`.
pub struct Queue<M> {
    ring: M,
    places: Places,
    size: u16,
    direction: Direction,
    event_index: bool,
    blocks: Vec<M>,
    /// No memory was left when more was wanted: do not ask again.
    exhausted: bool,
    free: Vec<u16>,
    /// Per descriptor: buffers in the chain that begins there and that the device has, else 0.
    chain_length: Vec<u16>,
    /// Per descriptor: the next one in its chain, if there is one.
    next: Vec<u16>,
    /// Entries of the available ring that were written, and those that the device was shown.
    written: u16,
    shown: u16,
    /// Entries of the used ring that were taken, and those the device was seen to have written.
    taken: u16,
    seen: u16,
    /// Chains that the device has.
    lent: u16,
    interrupts_wanted: bool,
}

impl<M: DeviceMemory> Queue<M> {
    /// A queue of at most `size` descriptors, a power of two, with its first buffers. `None` if
    /// there is no memory.
    ///
    /// # Panics
    /// If `size` is no power of two.
    pub fn new(size: u16, direction: Direction, event_index: bool) -> Option<Self> {
        assert!(size.is_power_of_two(), "queue of {size} descriptors");
        let size = size.min(MOST_BUFFERS);
        let places = Places::new(size);
        let mut queue = Self {
            ring: M::allocate(places.bytes)?,
            places,
            size,
            direction,
            event_index,
            blocks: Vec::new(),
            exhausted: false,
            free: Vec::new(),
            chain_length: vec![0; usize::from(size)],
            next: vec![0; usize::from(size)],
            written: 0,
            shown: 0,
            taken: 0,
            seen: 0,
            lent: 0,
            interrupts_wanted: true,
        };
        queue.grow().then_some(queue)
    }

    /// Number of descriptors, to be told to the device.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Where the device sees descriptors, available ring and used ring.
    pub fn addresses(&self) -> [u64; 3] {
        let start = self.ring.address();
        [0, self.places.available, self.places.used].map(|offset| start + offset as u64)
    }

    /// Takes one more block of buffers. False if the queue has all it may have, or no memory is
    /// left.
    pub(crate) fn grow(&mut self) -> bool {
        let first = self.buffers();
        let count = BLOCK_BUFFERS.min(self.size - first);
        if count == 0 || self.exhausted {
            return false;
        }
        let Some(block) = M::allocate(usize::from(count) * BUFFER) else {
            self.exhausted = true;
            return false;
        };
        self.blocks.push(block);
        self.free.extend((first..first + count).rev());
        true
    }

    /// Buffers there are.
    pub(crate) fn buffers(&self) -> u16 {
        // Each block but the last is full, and `grow` keeps within the size.
        (self.blocks.len() as u16)
            .saturating_mul(BLOCK_BUFFERS)
            .min(self.size)
    }

    /// Buffers that are neither lent nor taken.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Chains that the device has.
    pub(crate) fn lent(&self) -> u16 {
        self.lent
    }

    /// A free buffer, to be lent then.
    pub(crate) fn take_free(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Copies out of a buffer that the device does not have.
    pub(crate) fn read(&self, buffer: u16, into: &mut [u8]) {
        let (block, offset) = self.place(buffer);
        block.read(offset, into);
    }

    /// Copies the bytes from `start` to `end` of a buffer to the end of `into`.
    pub(crate) fn append(&self, buffer: u16, start: usize, end: usize, into: &mut Vec<u8>) {
        assert!(start <= end && end <= BUFFER, "{start}..{end} of a buffer");
        let (block, offset) = self.place(buffer);
        block.append(offset + start, end - start, into);
    }

    /// Copies to the bytes from `start` on of a buffer.
    pub(crate) fn write(&self, buffer: u16, start: usize, from: &[u8]) {
        assert!(start + from.len() <= BUFFER, "longer than a buffer");
        let (block, offset) = self.place(buffer);
        block.write(offset + start, from);
    }

    fn place(&self, buffer: u16) -> (&M, usize) {
        let block = &self.blocks[usize::from(buffer / BLOCK_BUFFERS)];
        (block, usize::from(buffer % BLOCK_BUFFERS) * BUFFER)
    }

    /// Lends buffers with the bytes of each that the device may access, as one chain. The device
    /// learns of it by [`publish`](Self::publish).
    ///
    /// # Panics
    /// If the chain is empty.
    pub(crate) fn lend(&mut self, chain: &[(u16, usize)]) {
        let (head, _) = chain[0];
        for (position, &(buffer, length)) in chain.iter().enumerate() {
            let next = chain.get(position + 1).map(|&(next, _)| next);
            self.describe(buffer, length, next);
        }
        self.chain_length[usize::from(head)] = chain.len() as u16;
        let entry = self.places.available_entry(self.written);
        self.ring.store_u16(entry, head);
        self.written = self.written.wrapping_add(1);
        self.lent += 1;
    }

    fn describe(&mut self, buffer: u16, length: usize, next: Option<u16>) {
        let (block, offset) = self.place(buffer);
        let address = block.address() + offset as u64;
        let mut flags = match self.direction {
            Direction::DeviceWrites => WRITE,
            Direction::DriverWrites => 0,
        };
        if next.is_some() {
            flags |= NEXT;
        }
        let next = next.unwrap_or(0);
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&address.to_le_bytes());
        descriptor[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
        descriptor[14..].copy_from_slice(&next.to_le_bytes());
        self.ring.write(self.places.descriptor(buffer), &descriptor);
        self.next[usize::from(buffer)] = next;
    }

    /// Shows the device everything lent. True if it wants to be notified.
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.shown, self.written);
        if old == self.written {
            return false;
        }
        self.ring
            .store_u16(self.places.available_index(), self.written);
        // The device must see that before we read whether it sleeps: a load may overtake a
        // store even on this processor.
        fence(Ordering::SeqCst);
        if self.event_index {
            let event = self.ring.load_u16(self.places.available_event());
            passes(event, self.written, old)
        } else {
            self.ring.load_u16(self.places.used_flags()) & NO_NOTIFY == 0
        }
    }

    /// Chains that the device is done with and that were not taken.
    ///
    /// # Errors
    /// [`Misbehaviour::UsedTooMany`].
    pub(crate) fn look(&mut self) -> Result<u16, Misbehaviour> {
        self.seen = self.ring.load_u16(self.places.used_index());
        let pending = self.pending();
        match pending.checked_sub(self.lent) {
            None | Some(0) => Ok(pending),
            Some(excess) => Err(Misbehaviour::UsedTooMany(excess)),
        }
    }

    /// Like [`look`](Self::look), as of when that was last called.
    pub(crate) fn pending(&self) -> u16 {
        self.seen.wrapping_sub(self.taken)
    }

    /// The next chain that the device is done with, which stays where it is.
    ///
    /// # Errors
    /// [`Misbehaviour::UnknownHead`].
    pub(crate) fn peek(&self) -> Result<Option<Used>, Misbehaviour> {
        if self.pending() == 0 {
            return Ok(None);
        }
        let mut entry = [0; 8];
        let place = self.places.used_entry(self.taken);
        self.ring.read(place, &mut entry);
        let [head, length] = [&entry[..4], &entry[4..]]
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let known = u16::try_from(head)
            .ok()
            .filter(|&head| self.chain_length.get(usize::from(head)) > Some(&0));
        match known {
            Some(head) => Ok(Some(Used { head, length })),
            None => Err(Misbehaviour::UnknownHead(head)),
        }
    }

    /// Takes the next chain that the device is done with: its buffers are the caller's, to be
    /// lent again or [freed](Self::release).
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub(crate) fn take_used(&mut self) -> Result<Option<(Used, u16)>, Misbehaviour> {
        let Some(used) = self.peek()? else {
            return Ok(None);
        };
        let count = core::mem::take(&mut self.chain_length[usize::from(used.head)]);
        self.taken = self.taken.wrapping_add(1);
        self.lent -= 1;
        Ok(Some((used, count)))
    }

    /// Frees the `count` buffers of a chain that was taken.
    pub(crate) fn release(&mut self, head: u16, count: u16) {
        let mut buffer = head;
        for _ in 0..count {
            self.free.push(buffer);
            buffer = self.next[usize::from(buffer)];
        }
    }

    /// Asks for an interrupt when the device will be done with `chains` more than were taken.
    /// True if it is already.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(crate) fn await_used(&mut self, chains: u16) -> Result<bool, Misbehaviour> {
        let wanted_before = core::mem::replace(&mut self.interrupts_wanted, true);
        if self.event_index {
            let event = self.taken.wrapping_add(chains).wrapping_sub(1);
            self.ring.store_u16(self.places.used_event(), event);
        } else if !wanted_before {
            self.ring.store_u16(self.places.available_flags(), 0);
        }
        // The device must see the wish before we look a last time.
        fence(Ordering::SeqCst);
        Ok(self.look()? >= chains)
    }

    /// Takes the wish for an interrupt back. One may still come.
    pub(crate) fn refuse_interrupts(&mut self) {
        if !core::mem::replace(&mut self.interrupts_wanted, false) {
            return;
        }
        if self.event_index {
            // An entry that was passed already: 65535 others come first.
            let event = self.taken.wrapping_sub(1);
            self.ring.store_u16(self.places.used_event(), event);
        } else {
            self.ring
                .store_u16(self.places.available_flags(), NO_INTERRUPT);
        }
    }
}

impl<M> fmt::Debug for Queue<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("size", &self.size)
            .field("lent", &self.lent)
            .finish_non_exhaustive()
    }
}
