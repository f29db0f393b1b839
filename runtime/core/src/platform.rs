//! What the executor and the clocks ask of the machine below them.

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

/// The machine: a clock, a way to sleep, a source of entropy.
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
}
