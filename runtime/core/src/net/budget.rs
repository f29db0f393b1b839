//! How much memory the buffers of all sockets take.

use alloc::rc::Rc;
use core::cell::Cell;

use super::wakers::Wakers;

/// The size of a connection's buffers where nothing limits their number, in bytes.
const USUAL_BUFFER: usize = 16 * 1024;

/// The bounds within which buffers shrink as connections become more, in bytes.
const SMALLEST_BUFFER: usize = 2 * 1024;
const LARGEST_BUFFER: usize = 256 * 1024;

/// A limit on the bytes of all socket buffers together.
pub(super) struct Budget {
    limit: Cell<usize>,
    used: Cell<usize>,
    connections: Cell<usize>,
    /// Who waits for memory to write to.
    pub(super) writers: Wakers,
}

impl Budget {
    pub(super) fn unlimited() -> Rc<Self> {
        Rc::new(Self {
            limit: Cell::new(usize::MAX),
            used: Cell::new(0),
            connections: Cell::new(0),
            writers: Wakers::default(),
        })
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.set(bytes);
    }

    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    /// The size of a connection's buffer if the program does not say: few connections get large
    /// ones, many get small ones. What the n-th gets is in proportion to 1/n, so that the sum of
    /// all grows with the logarithm of their number only, and there is enough for thousands more
    /// until each gets the least.
    pub(super) fn buffer_size(&self) -> usize {
        match self.limit.get() {
            usize::MAX => USUAL_BUFFER,
            limit => {
                let share = limit / (80 * (self.connections.get() + 1));
                share.clamp(SMALLEST_BUFFER, LARGEST_BUFFER)
            }
        }
    }

    /// As [`take`](Self::take), for one more connection.
    pub(super) fn take_for_connection(self: &Rc<Self>, bytes: usize) -> Option<ConnectionShare> {
        let share = self.take(bytes)?;
        self.connections.set(self.connections.get() + 1);
        Some(ConnectionShare { share })
    }

    /// Takes `bytes` for as long as the [`Share`] lives; `None` when the limit would be passed.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Option<Share> {
        let used = self.used.get().checked_add(bytes)?;
        if used > self.limit.get() {
            return None;
        }
        self.used.set(used);
        Some(Share {
            budget: self.clone(),
            bytes,
        })
    }
}

/// A part of a [`Budget`], given back when dropped.
pub(super) struct Share {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let used = self.budget.used.get();
        self.budget.used.set(used.saturating_sub(self.bytes));
    }
}

/// The part of a [`Budget`] that a connection has.
pub(super) struct ConnectionShare {
    share: Share,
}

impl Drop for ConnectionShare {
    fn drop(&mut self) {
        let budget = &self.share.budget;
        budget.connections.set(budget.connections.get() - 1);
        budget.writers.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn buffers_shrink_as_connections_become_more() {
        let budget = Budget::unlimited();
        assert_eq!(budget.buffer_size(), USUAL_BUFFER);
        let limit = 120 << 20;
        budget.set_limit(limit);
        assert_eq!(budget.buffer_size(), LARGEST_BUFFER);
        let mut shares = Vec::new();
        let mut take = |count: usize| {
            for _ in 0..count {
                shares.push(
                    budget
                        .take_for_connection(2 * budget.buffer_size())
                        .unwrap(),
                );
            }
            budget.buffer_size()
        };
        assert!(take(8) > 128 * 1024);
        assert!(take(92) > 12 * 1024);
        assert_eq!(take(9_900), SMALLEST_BUFFER);
        // Ten thousand have taken less than half of it, and less than 6 KiB each.
        assert!(budget.used() < limit / 2, "{}", budget.used());
        assert!(budget.used() / 10_000 < 6 * 1024, "{}", budget.used());
        drop(shares);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.buffer_size(), LARGEST_BUFFER);
        assert!(budget.take(usize::MAX).is_none());
    }
}
