//! How a connection to xenstored stands.

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
