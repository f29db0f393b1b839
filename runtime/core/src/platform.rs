//! What the executor and the clocks ask of the machine below them.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// No hardware source of randomness is there, or it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the processor offers neither RDSEED nor RDRAND, or they failed"
        )
    }
}

impl core::error::Error for NoEntropy {}

/// The machine: a clock, a way to sleep, a source of entropy, memory for buffers that are large
/// and mostly empty.
pub trait Platform {
    /// Time since boot. Never goes backwards.
    fn now(&self) -> Duration;

    /// Time since the Unix epoch, or `None` where the platform has no wall clock.
    fn wall_clock(&self) -> Option<Duration>;

    /// Wakes the tasks whose interrupts came since the last call. Returns whether there
    /// were any.
    fn dispatch_events(&self) -> bool;

    /// Stops the processor until an interrupt comes or `deadline` passes. Returns at once if
    /// an interrupt came since the last [`dispatch_events`](Self::dispatch_events): the check
    /// and the halt are atomic towards interrupts. May return early.
    fn idle(&self, deadline: Option<Duration>);

    /// Fills `seed` from a hardware source of entropy.
    ///
    /// # Errors
    /// [`NoEntropy`]: nothing was filled; nothing weaker is put in its place.
    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy>;

    /// A zeroed buffer of `bytes` bytes, length and capacity, whose pages take RAM only once they
    /// are touched. Dropping it gives everything back.
    ///
    /// Reading counts as touching. Before bytes that were not touched yet are touched,
    /// [`can_back`](Self::can_back) must have said that there is RAM for them: a page that
    /// cannot be backed ends the guest as crashed. Devices and other domains cannot reach such
    /// memory.
    ///
    /// `None` where there is no such memory, for a length it is not made for (below a page,
    /// above 2 MiB), or when its bookkeeping has no room: take an ordinary buffer then, or do
    /// without.
    fn socket_buffer(&self, bytes: usize) -> Option<Vec<u8>> {
        let _ = bytes;
        None
    }

    /// Whether `bytes` more bytes of untouched buffers, wherever they lie, may be touched before
    /// the next call. A reserve for the rest of the program is kept. Costs a few instructions.
    ///
    /// Bytes that lie next to each other may touch two pages more than their number says; count
    /// a whole page for each end.
    fn can_back(&self, bytes: usize) -> bool {
        let _ = bytes;
        true
    }

    /// Whether there is memory to take on new work: a connection, with what the program will want for
    /// it. What is under way may go on without.
    fn has_headroom(&self) -> bool {
        true
    }

    /// Takes the RAM of all pages that lie wholly in `unused`, which holds nothing of value:
    /// they read as zero when they are touched again. What else is in `unused` stays as it is.
    /// Does nothing to memory that is not from [`socket_buffer`](Self::socket_buffer).
    fn give_back(&self, unused: &mut [u8]) {
        let _ = unused;
    }

    /// Bytes of RAM that back buffers now.
    fn backed_bytes(&self) -> usize {
        0
    }
}
