//! One-way byte rings: xenstore's two and the console's two.
//!
//! Each has a power of two of bytes, a consumer index and a producer index in a shared page.
//! There are no event words: who moved bytes notifies the other end. [`ByteReader`] and
//! [`ByteWriter`] are the two ends; a guest reads one ring and writes the other, a fake peer
//! does the reverse with the same types.

#[cfg(test)]
mod tests;

use core::fmt;

use crate::hypervisor::SharedPage;
use crate::ring::RingIndex;

/// Where a byte ring and its indices lie in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLayout {
    /// Byte offset of the ring.
    pub offset: usize,
    /// Bytes in the ring, a power of two.
    pub size: u32,
    /// Number of the 32-bit word with the consumer's index.
    pub consumer_word: usize,
    /// Number of the 32-bit word with the producer's index.
    pub producer_word: usize,
}

/// `req` of `struct xenstore_domain_interface` (`io/xs_wire.h`): guest to xenstored.
pub const XENSTORE_REQUESTS: StreamLayout = StreamLayout {
    offset: 0,
    size: 1024,
    consumer_word: 512,
    producer_word: 513,
};

/// `rsp` of `struct xenstore_domain_interface` (`io/xs_wire.h`): xenstored to guest.
pub const XENSTORE_RESPONSES: StreamLayout = StreamLayout {
    offset: 1024,
    size: 1024,
    consumer_word: 514,
    producer_word: 515,
};

/// `in` of `struct xencons_interface` (`io/console.h`): console daemon to guest.
pub const CONSOLE_INPUT: StreamLayout = StreamLayout {
    offset: 0,
    size: 1024,
    consumer_word: 768,
    producer_word: 769,
};

/// `out` of `struct xencons_interface` (`io/console.h`): guest to console daemon.
pub const CONSOLE_OUTPUT: StreamLayout = StreamLayout {
    offset: 1024,
    size: 2048,
    consumer_word: 770,
    producer_word: 771,
};

/// The peer's index makes no sense. The stream must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// Whose index it is: "producer" or "consumer".
    pub field: &'static str,
    /// The value found there.
    pub value: u32,
    /// Our own index.
    pub ours: u32,
    /// Bytes in the ring, which the two may not differ by more than.
    pub size: u32,
}

impl fmt::Display for StreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "peer's {} index is {:#x}: not within {} bytes of ours, {:#x}",
            self.field, self.value, self.size, self.ours
        )
    }
}

impl core::error::Error for StreamError {}

/// The consuming end of a byte ring.
#[derive(Debug)]
pub struct ByteReader {
    layout: StreamLayout,
    consumer: RingIndex,
}

impl ByteReader {
    /// Takes up reading where the page says that the last reader stopped.
    pub fn attach(page: &(impl SharedPage + ?Sized), layout: StreamLayout) -> Self {
        let consumer = RingIndex::new(page.load(layout.consumer_word));
        Self { layout, consumer }
    }

    /// Moves bytes out of the ring into `into` and returns how many, 0 if there are none. When
    /// there were some, the peer has room again: notify it.
    ///
    /// # Errors
    /// [`StreamError`] if the peer claims more bytes than the ring holds.
    pub fn read(
        &mut self,
        page: &(impl SharedPage + ?Sized),
        into: &mut [u8],
    ) -> Result<usize, StreamError> {
        let waiting = self.waiting(page)?;
        let count = into.len().min(waiting);
        for_each_piece(self.layout, self.consumer, count, |offset, range| {
            page.read(offset, &mut into[range]);
        });
        if count > 0 {
            self.consumer = self.consumer.advanced(count as u32);
            // The release store keeps the copies above before it.
            page.store(self.layout.consumer_word, self.consumer.value());
        }
        Ok(count)
    }

    /// Bytes that can be read now.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn waiting(&self, page: &(impl SharedPage + ?Sized)) -> Result<usize, StreamError> {
        let producer = RingIndex::new(page.load(self.layout.producer_word));
        let waiting = producer.distance_from(self.consumer);
        if waiting > self.layout.size {
            return Err(StreamError {
                field: "producer",
                value: producer.value(),
                ours: self.consumer.value(),
                size: self.layout.size,
            });
        }
        Ok(waiting as usize)
    }
}

/// The producing end of a byte ring.
#[derive(Debug)]
pub struct ByteWriter {
    layout: StreamLayout,
    producer: RingIndex,
}

impl ByteWriter {
    /// Takes up writing where the page says that the last writer stopped.
    pub fn attach(page: &(impl SharedPage + ?Sized), layout: StreamLayout) -> Self {
        let producer = RingIndex::new(page.load(layout.producer_word));
        Self { layout, producer }
    }

    /// Moves as much of `from` into the ring as fits and returns how many bytes, 0 if the ring
    /// is full. When there were some: notify the peer.
    ///
    /// # Errors
    /// [`StreamError`] if the peer claims to have consumed what was never written.
    pub fn write(
        &mut self,
        page: &(impl SharedPage + ?Sized),
        from: &[u8],
    ) -> Result<usize, StreamError> {
        let free = self.free(page)?;
        let count = from.len().min(free);
        for_each_piece(self.layout, self.producer, count, |offset, range| {
            page.write(offset, &from[range]);
        });
        if count > 0 {
            self.producer = self.producer.advanced(count as u32);
            // The release store keeps the copies above before it.
            page.store(self.layout.producer_word, self.producer.value());
        }
        Ok(count)
    }

    /// Bytes that can be written now.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn free(&self, page: &(impl SharedPage + ?Sized)) -> Result<usize, StreamError> {
        let consumer = RingIndex::new(page.load(self.layout.consumer_word));
        let waiting = self.producer.distance_from(consumer);
        if waiting > self.layout.size {
            return Err(StreamError {
                field: "consumer",
                value: consumer.value(),
                ours: self.producer.value(),
                size: self.layout.size,
            });
        }
        Ok((self.layout.size - waiting) as usize)
    }
}

/// Calls `copy(page offset, range of the private buffer)` for the one or two contiguous
/// pieces that `count` bytes from `start` on consist of.
fn for_each_piece(
    layout: StreamLayout,
    start: RingIndex,
    count: usize,
    mut copy: impl FnMut(usize, core::ops::Range<usize>),
) {
    let place = start.place(layout.size);
    let until_end = layout.size as usize - place;
    let first = count.min(until_end);
    if first > 0 {
        copy(layout.offset + place, 0..first);
    }
    if count > first {
        copy(layout.offset, first..count);
    }
}
