//! Frames from the device.

use alloc::vec::Vec;

use super::features::Features;
use super::header::{Header, HeaderFlags, LONGEST};
use super::memory::{BUFFER, DeviceMemory};
use super::queue::{Direction, Misbehaviour, Queue};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Longest frame: the longest IP packet, an Ethernet header and a VLAN tag.
const LONGEST_FRAME: usize = ETHERNET + 4 + 65535;

/// What the host says of the TCP or UDP checksum of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It verified it, or never took the frame from a wire: what is in the field says nothing.
    Vouched,
    /// Nothing: it has to be verified.
    Unknown,
}

/// Frames that came in and were not handed on, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Shorter than an Ethernet header, or longer than any frame.
    pub size: u64,
    /// Unsegmented in a way that was not agreed on.
    pub kind: u64,
}

/// The receiving side of a device.
#[derive(Debug)]
pub struct Receiver<M> {
    queue: Queue<M>,
    header_length: usize,
    mergeable: bool,
    vouches: bool,
    drops: Drops,
}

impl<M: DeviceMemory> Receiver<M> {
    /// A receiver whose buffers are lent, for a device that allows queues of `size`. `None` if
    /// there is no memory.
    pub fn new(size: u16, features: Features) -> Option<Self> {
        let event_index = features.contains(Features::EVENT_IDX);
        let mut receiver = Self {
            queue: Queue::new(size, Direction::DeviceWrites, event_index)?,
            header_length: features.header_length(),
            mergeable: features.contains(Features::MRG_RXBUF),
            vouches: features.contains(Features::GUEST_CSUM),
            drops: Drops::default(),
        };
        receiver.lend_free();
        Some(receiver)
    }

    /// The queue, to be told to the device and to be published.
    pub fn queue(&mut self) -> &mut Queue<M> {
        &mut self.queue
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Takes the next frame, replacing what `frame` held. `None` if there is none; then the
    /// device will interrupt when there is one.
    ///
    /// # Errors
    /// [`Misbehaviour`]. What `frame` holds then is nothing to be used.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> Result<Option<Checksum>, Misbehaviour> {
        loop {
            let Some((header, buffers)) = self.next_header()? else {
                return Ok(None);
            };
            self.queue.refuse_interrupts();
            self.collect(buffers, frame)?;
            if !header.is_understood() {
                self.drops.kind += 1;
            } else if !(ETHERNET..=LONGEST_FRAME).contains(&frame.len()) {
                self.drops.size += 1;
            } else {
                let vouched = header
                    .flags
                    .intersects(HeaderFlags::NEEDS_CSUM | HeaderFlags::DATA_VALID);
                return Ok(Some(if vouched && self.vouches {
                    Checksum::Vouched
                } else {
                    Checksum::Unknown
                }));
            }
        }
    }

    /// The header of the next frame and how many buffers that is in, once it has arrived whole.
    fn next_header(&mut self) -> Result<Option<(Header, u16)>, Misbehaviour> {
        let mut wanted = 1;
        loop {
            if self.queue.pending() >= wanted
                && let Some(first) = self.queue.peek()?
            {
                let header = self.header(first.head);
                let buffers = if self.mergeable { header.buffers } else { 1 };
                if buffers == 0 || buffers > self.queue.size() {
                    return Err(Misbehaviour::BufferCount(buffers));
                }
                if self.queue.pending() >= buffers {
                    return Ok(Some((header, buffers)));
                }
                wanted = buffers;
            }
            if self.queue.look()? >= wanted {
                self.grow_if_short();
            } else if !self.queue.await_used(wanted)? {
                return Ok(None);
            }
        }
    }

    fn header(&self, buffer: u16) -> Header {
        let mut bytes = [0; LONGEST];
        self.queue.read(buffer, &mut bytes[..self.header_length]);
        Header::parse(&bytes)
    }

    /// Copies the frame out of the next `count` buffers, and lends them again.
    fn collect(&mut self, count: u16, frame: &mut Vec<u8>) -> Result<(), Misbehaviour> {
        frame.clear();
        for position in 0..count {
            // There are as many, by `next_header`; fewer would be a shorter frame.
            let Some((used, _)) = self.queue.take_used()? else {
                break;
            };
            let start = if position == 0 { self.header_length } else { 0 };
            let end = usize::try_from(used.length)
                .ok()
                .filter(|end| (start..=BUFFER).contains(end))
                .ok_or(Misbehaviour::Length(used.length))?;
            // Beyond the longest frame nothing is kept: it will be dropped for its length.
            if frame.len() <= LONGEST_FRAME {
                self.queue.append(used.head, start, end, frame);
            }
            self.queue.lend(&[(used.head, BUFFER)]);
        }
        Ok(())
    }

    /// Takes more buffers if the device had few left.
    fn grow_if_short(&mut self) {
        let left = self.queue.lent() - self.queue.pending();
        if left < self.queue.lent() / 4 && self.queue.grow() {
            self.lend_free();
        }
    }

    fn lend_free(&mut self) {
        while let Some(buffer) = self.queue.take_free() {
            self.queue.lend(&[(buffer, BUFFER)]);
        }
    }
}
