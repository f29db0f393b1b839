//! How a connection to xenstored stands.

use core::fmt;

use super::connection::Connection;

/// How a connection stands, for who looks for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Requests that xenstored has not answered.
    pub unanswered: usize,
    /// Requests that are not in the ring yet.
    pub unsent: usize,
    /// Watches there are.
    pub watches: usize,
    /// xenstored broke the protocol: nothing works any more.
    pub is_broken: bool,
}

impl fmt::Display for StoreStatistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unanswered,
            unsent,
            watches,
            is_broken,
        } = self;
        let state = if *is_broken { "broken" } else { "works" };
        write!(
            formatter,
            "connection {state}, {unanswered} requests unanswered, {unsent} of them unsent, {watches} watches"
        )
    }
}

impl Connection {
    pub(super) fn statistics(&self) -> StoreStatistics {
        StoreStatistics {
            unanswered: self.unanswered.len(),
            unsent: self.output.len(),
            watches: self.watches.len(),
            is_broken: self.broken.is_some(),
        }
    }
}
