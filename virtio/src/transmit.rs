//! Frames to the device.

use alloc::vec::Vec;

use super::features::Features;
use super::header::Header;
use super::memory::{BUFFER, DeviceMemory};
use super::queue::{BLOCK_BUFFERS, Direction, Misbehaviour, Queue};

/// There is no room for a frame now; the device will interrupt when there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// The sending side of a device.
#[derive(Debug)]
pub struct Transmitter<M> {
    queue: Queue<M>,
    header_length: usize,
    /// The chain of one frame, kept for its memory.
    chain: Vec<(u16, usize)>,
}

impl<M: DeviceMemory> Transmitter<M> {
    /// A transmitter for a device that allows queues of `size`. `None` if there is no memory.
    pub fn new(size: u16, features: Features) -> Option<Self> {
        let event_index = features.contains(Features::EVENT_IDX);
        let mut queue = Queue::new(size, Direction::DriverWrites, event_index)?;
        queue.refuse_interrupts();
        Some(Self {
            queue,
            header_length: features.header_length(),
            chain: Vec::new(),
        })
    }

    /// The queue, to be told to the device and to be published.
    pub fn queue(&mut self) -> &mut Queue<M> {
        &mut self.queue
    }

    /// Longest frame that can ever be sent, in bytes.
    pub fn longest_frame(&self) -> usize {
        // The buffers of the beginning, as there may be no memory for more.
        usize::from(self.queue.size().min(BLOCK_BUFFERS)) * BUFFER - self.header_length
    }

    /// Queues a frame of at most [`longest_frame`](Self::longest_frame) bytes. The inner error
    /// says that there is no room for it now.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    ///
    /// # Panics
    /// If the frame is longer, or the header names an odd place for the checksum.
    pub fn transmit(
        &mut self,
        header: Header,
        frame: &[u8],
    ) -> Result<Result<(), QueueFull>, Misbehaviour> {
        assert!(frame.len() <= self.longest_frame(), "frame without room");
        let partial = header.partial();
        assert!(
            partial.is_none_or(|(field, _)| field.is_multiple_of(2)),
            "odd place"
        );
        let buffers = (self.header_length + frame.len()).div_ceil(BUFFER);
        if self.queue.free() < buffers && !self.make_room(buffers)? {
            return Ok(Err(QueueFull));
        }
        self.chain.clear();
        let first = frame.len().min(BUFFER - self.header_length);
        let (first, rest) = frame.split_at(first);
        let bytes = &header.emit()[..self.header_length];
        if let Some(buffer) = self.queue.take_free() {
            self.queue.write(buffer, 0, bytes);
            self.queue.write(buffer, bytes.len(), first);
            self.chain.push((buffer, bytes.len() + first.len()));
        }
        for part in rest.chunks(BUFFER) {
            if let Some(buffer) = self.queue.take_free() {
                self.queue.write(buffer, 0, part);
                self.chain.push((buffer, part.len()));
            }
        }
        if let Some((field, sum)) = partial {
            // An even place, so that both bytes are in one buffer.
            let place = self.header_length + field;
            if let Some(&(buffer, _)) = self.chain.get(place / BUFFER) {
                self.queue.write(buffer, place % BUFFER, &sum);
            }
        }
        self.queue.lend(&self.chain);
        Ok(Ok(()))
    }

    /// Sees to it that `buffers` are free: takes those back that the device is done with, else
    /// takes more memory, else asks for an interrupt. False if there are too few.
    fn make_room(&mut self, buffers: usize) -> Result<bool, Misbehaviour> {
        self.queue.look()?;
        loop {
            self.reclaim()?;
            while self.queue.free() < buffers && self.queue.grow() {}
            if self.queue.free() >= buffers {
                self.queue.refuse_interrupts();
                return Ok(true);
            }
            // Not for each frame, but for half of what is under way.
            let chains = self.queue.lent().div_ceil(2);
            if !self.queue.await_used(chains)? {
                return Ok(false);
            }
        }
    }

    fn reclaim(&mut self) -> Result<(), Misbehaviour> {
        while let Some((used, count)) = self.queue.take_used()? {
            self.queue.release(used.head, count);
        }
        Ok(())
    }
}
