//! Request/response rings over one shared page (`xen/include/public/io/ring.h`).
//!
//! The page starts with four 32-bit words and ends in a power of two of equal slots. Requests
//! and responses share the slots: a response may only be put where a request was taken. Both
//! ends are here, as different types: [`FrontRing`] for drivers, [`BackRing`] for the peers
//! that tests play.
//!
//! Nothing here depends on the machine: this module moves bytes and is careful about order.

mod back;
mod front;
#[cfg(test)]
mod loom_tests;
#[cfg(test)]
mod tests;

use core::fmt;

pub use self::back::BackRing;
pub use self::front::FrontRing;
use crate::hypervisor::{PAGE_SIZE, SharedPage};

/// Largest slot this module copies, in bytes. The largest of Xen's own protocols, the block
/// device's, has 112.
pub const MAX_SLOT_SIZE: usize = 128;

/// Byte offset of slot 0 (`offsetof(struct netif_tx_sring, ring)`).
pub const SLOTS_OFFSET: usize = 64;

/// A request or a response as it lies in a slot.
pub trait Slot: Sized {
    /// Bytes this message takes. The slot may be larger.
    const SIZE: usize;

    /// Reads a message from exactly [`SIZE`](Self::SIZE) bytes. Every bit pattern has a value:
    /// judging it is the driver's part.
    fn decode(bytes: &[u8]) -> Self;

    /// Writes the message into exactly [`SIZE`](Self::SIZE) bytes.
    fn encode(&self, into: &mut [u8]);
}

/// A free-running position in a ring. It wraps, so positions have no order, only distances.
///
/// ```
/// use xen_proto::ring::RingIndex;
/// let before_wrap = RingIndex::new(u32::MAX);
/// let after_wrap = before_wrap.advanced(3);
/// assert_eq!(after_wrap.distance_from(before_wrap), 3);
/// ```
///
/// ```compile_fail
/// use xen_proto::ring::RingIndex;
/// let _ = RingIndex::new(1) < RingIndex::new(2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RingIndex(u32);

impl RingIndex {
    /// The position a new ring starts at.
    pub const ZERO: Self = Self(0);

    /// The position with this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The bare value, as it stands in the shared page.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The position `count` slots further.
    #[must_use]
    pub const fn advanced(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How many slots this position is ahead of `earlier`.
    pub const fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The place in an array of `size` (a power of two) that this position falls on.
    pub const fn place(self, size: u32) -> usize {
        (self.0 & (size - 1)) as usize
    }
}

impl fmt::Display for RingIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Slots in a ring whose slots have `slot_size` bytes: the largest power of two that fits in
/// the page after its header (`__CONST_RING_SIZE`).
///
/// # Panics
/// If `slot_size` is not a multiple of 4 in `4..=MAX_SLOT_SIZE`.
pub const fn slots_in_page(slot_size: usize) -> u32 {
    assert!(slot_size >= 4 && slot_size <= MAX_SLOT_SIZE && slot_size.is_multiple_of(4));
    let fitting = (PAGE_SIZE - SLOTS_OFFSET) / slot_size;
    1 << fitting.ilog2()
}

/// The peer broke the ring protocol. The ring must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The peer says it produced more than it can have.
    ProducerOutOfRange {
        /// Which of the peer's words (`req_prod` or `rsp_prod`).
        field: &'static str,
        /// The value found there.
        value: u32,
        /// How far we have consumed.
        consumed: u32,
        /// How many messages the peer could have produced since.
        possible: u32,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::ProducerOutOfRange {
            field,
            value,
            consumed,
            possible,
        } = self;
        write!(
            formatter,
            "peer's {field} is {value:#x}: at most {possible} messages can follow {consumed:#x}"
        )
    }
}

impl core::error::Error for RingError {}

/// There is no free slot: our caller asked too much. The ring is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFull;

impl fmt::Display for RingFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no free slot in the ring")
    }
}

impl core::error::Error for RingFull {}

/// The page's four words: who produced how far, and when to send an event.
mod word {
    pub(super) const REQUEST_PRODUCER: usize = 0;
    pub(super) const REQUEST_EVENT: usize = 1;
    pub(super) const RESPONSE_PRODUCER: usize = 2;
    pub(super) const RESPONSE_EVENT: usize = 3;
}

/// What both ends do, each rule once. `P` is the page.
struct SharedRing<P> {
    page: P,
    slot_size: usize,
    slots: u32,
}

/// One direction of a ring: its producer word, its event word, and the producer's name.
#[derive(Clone, Copy)]
struct Direction {
    producer: usize,
    event: usize,
    name: &'static str,
}

const REQUESTS: Direction = Direction {
    producer: word::REQUEST_PRODUCER,
    event: word::REQUEST_EVENT,
    name: "req_prod",
};

const RESPONSES: Direction = Direction {
    producer: word::RESPONSE_PRODUCER,
    event: word::RESPONSE_EVENT,
    name: "rsp_prod",
};

impl<P: SharedPage> SharedRing<P> {
    fn new(page: P, slot_size: usize) -> Self {
        Self {
            page,
            slot_size,
            slots: slots_in_page(slot_size),
        }
    }

    /// The notify rule: publishes everything up to `new` and tells whether the peer asked for
    /// an event on the way from `old`, the last position published.
    fn publish(&self, direction: Direction, old: RingIndex, new: RingIndex) -> bool {
        if old == new {
            return false;
        }
        // The release store orders the slots' bytes before the index.
        self.page.store(direction.producer, new.value());
        // The peer first writes its event word and then looks at our index; we do the reverse.
        // Without a full fence both may miss the other's store, and both sleep for ever. x86
        // needs it too: it lets a load pass an earlier store.
        self.page.full_fence();
        let event = RingIndex::new(self.page.load(direction.event));
        new.distance_from(event) < new.distance_from(old)
    }

    /// The final check before sleeping: asks the peer for an event once it produced `after`
    /// more messages than we consumed, and tells whether something is there already, in which
    /// case that event may never come.
    fn final_check(&self, direction: Direction, consumed: RingIndex, after: u32) -> bool {
        if self.produced(direction) != consumed {
            return true;
        }
        let event = consumed.advanced(after);
        self.page.store(direction.event, event.value());
        // The mirror image of the fence in `publish`.
        self.page.full_fence();
        self.produced(direction) != consumed
    }

    /// Reads the peer's producer index and believes it only if at most `possible` messages
    /// can follow `consumed`.
    fn checked_producer(
        &self,
        direction: Direction,
        consumed: RingIndex,
        possible: u32,
    ) -> Result<RingIndex, RingError> {
        let producer = self.produced(direction);
        if producer.distance_from(consumed) > possible {
            return Err(RingError::ProducerOutOfRange {
                field: direction.name,
                value: producer.value(),
                consumed: consumed.value(),
                possible,
            });
        }
        Ok(producer)
    }

    /// An allegation of the peer's: compare or check it, never count with it.
    fn produced(&self, direction: Direction) -> RingIndex {
        RingIndex::new(self.page.load(direction.producer))
    }

    fn read_slot(&self, at: RingIndex, into: &mut [u8]) {
        assert!(into.len() <= self.slot_size, "message larger than a slot");
        self.page.read(self.slot_offset(at), into);
    }

    fn write_slot(&self, at: RingIndex, from: &[u8]) {
        assert!(from.len() <= self.slot_size, "message larger than a slot");
        self.page.write(self.slot_offset(at), from);
    }

    fn decode_slot<M: Slot>(&self, at: RingIndex) -> M {
        let mut bytes = [0; MAX_SLOT_SIZE];
        let bytes = &mut bytes[..M::SIZE];
        self.read_slot(at, bytes);
        M::decode(bytes)
    }

    fn encode_slot<M: Slot>(&self, at: RingIndex, message: &M) {
        let mut bytes = [0; MAX_SLOT_SIZE];
        let bytes = &mut bytes[..M::SIZE];
        message.encode(bytes);
        self.write_slot(at, bytes);
    }

    fn slot_offset(&self, at: RingIndex) -> usize {
        SLOTS_OFFSET + at.place(self.slots) * self.slot_size
    }
}
