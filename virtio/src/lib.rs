//! What decides in a virtio network driver: which features to use, when the device is to be
//! notified, when it shall interrupt, which buffers a frame is in. Safe code without I/O.
//!
//! [`Receiver`] and [`Transmitter`] move frames through a [`Queue`] each, in memory that is
//! reached through [`DeviceMemory`]; who uses this implements that trait, sets the device up and
//! rings its doorbell. What is wrong with a frame makes it a counted [`Drops`]; what is wrong with
//! the ring itself is a [`Misbehaviour`], after which the device must not be used any more.
//!
//! The split ring, its event indices and the frame header are those of virtio 1.2, sections 2.7
//! and 5.1.6.
//!
//! # Memory
//! A queue takes three pages for its ring. Its buffers are single pages in blocks of
//! [`BLOCK_BUFFERS`]: each direction begins with one block and takes another only when it ran
//! short, until there are [`MOST_BUFFERS`]. They are never given back.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod features;
mod header;
mod memory;
mod queue;
mod receive;
mod ring;
mod transmit;

#[cfg(test)]
mod tests;

pub use self::features::Features;
pub use self::header::{Header, HeaderFlags, SegmentKind};
pub use self::memory::{BUFFER, DeviceMemory};
pub use self::queue::{BLOCK_BUFFERS, Direction, MOST_BUFFERS, Misbehaviour, Queue};
pub use self::receive::{Checksum, Drops, Receiver};
pub use self::ring::Places;
pub use self::transmit::{QueueFull, Transmitter};
