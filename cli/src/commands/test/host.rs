//! Where guests full of tests are booted, as far as the runner has to know.

use std::time::Duration;

use anyhow::Result;

use crate::qemu::Next;

/// A machine that boots guests, one after the other.
pub(super) trait Boots {
    /// A guest on it.
    type Guest: Booted;

    /// Boots a guest with this order for its tests.
    ///
    /// # Errors
    /// Where it cannot be booted.
    fn boot(&mut self, order: &str) -> Result<Self::Guest>;
}

/// A guest under way.
pub(super) trait Booted {
    /// Waits up to `limit` for the next line of its console.
    ///
    /// # Errors
    /// Where the host has lost it.
    fn next(&mut self, limit: Duration) -> Result<Next>;

    /// How it ended, for people. Call it when its console is closed.
    ///
    /// # Errors
    /// Where the host does not know.
    fn end(&mut self) -> Result<String>;
}
