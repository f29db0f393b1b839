//! Buffers of connections whose pages take memory only once they are written to, where the
//! platform has such memory (`Platform::socket_buffer`).
//!
//! The send buffer of a connection can be large then: while little is written at a time, smoltcp
//! begins at its start again and again, and what a burst has touched goes back when the
//! connection has been quiet for a while. A receive buffer goes round, and smoltcp never shows
//! the unused part of it; so its size is counted in full, and its pages stay until the
//! connection ends.

use alloc::vec::Vec;

use crate::context;

/// The size of a send buffer that takes no memory while it is empty, in bytes.
pub(super) const SEND_BUFFER: usize = 256 * 1024;

/// What such a buffer takes when little is sent at a time, in bytes.
pub(super) const PAGE: usize = 4096;

/// Smaller buffers are not worth pages of their own, in bytes.
const SMALLEST: usize = 2 * PAGE;

/// A zeroed buffer whose pages take memory only once they are touched.
pub(super) fn try_buffer(bytes: usize) -> Option<Vec<u8>> {
    if bytes < SMALLEST {
        return None;
    }
    context::current().platform.socket_buffer(bytes)
}

/// How many of `wanted` bytes may be written to one buffer now.
pub(super) fn room_for(wanted: usize) -> usize {
    let runtime = context::current();
    // Both ends may lie within a page.
    let fits = |bytes| runtime.platform.can_back(bytes + 2 * PAGE);
    if fits(wanted) {
        return wanted;
    }
    match fits(PAGE) {
        true => wanted.min(PAGE),
        false => 0,
    }
}

/// Gives back the memory of an empty buffer.
pub(super) fn give_back(empty: &mut [u8]) {
    context::current().platform.give_back(empty);
}
