//! How much memory the buffers of all sockets take.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

/// The size of a connection's buffers where nothing limits their number, in bytes.
const USUAL_BUFFER: usize = 16 * 1024;

/// The bounds within which buffers shrink as the budget is used up, in bytes.
const SMALLEST_BUFFER: usize = 4 * 1024;
const LARGEST_BUFFER: usize = 64 * 1024;

/// A limit on the bytes of all socket buffers together.
pub(super) struct Budget {
    limit: Cell<usize>,
    used: Cell<usize>,
}

impl Budget {
    pub(super) fn unlimited() -> Rc<Self> {
        Rc::new(Self {
            limit: Cell::new(usize::MAX),
            used: Cell::new(0),
        })
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.set(bytes);
    }

    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    /// The size of a connection's buffer if the program does not say: few connections get large
    /// ones, many get small ones.
    pub(super) fn buffer_size(&self) -> usize {
        match self.limit.get() {
            usize::MAX => USUAL_BUFFER,
            limit => {
                let left = limit.saturating_sub(self.used.get());
                (left / 64).clamp(SMALLEST_BUFFER, LARGEST_BUFFER)
            }
        }
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

/// A zeroed buffer, or `None` when the heap has no room for it.
pub(super) fn try_buffer(bytes: usize) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).ok()?;
    buffer.resize(bytes, 0);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_shrink_as_the_budget_is_used_up() {
        let budget = Budget::unlimited();
        assert_eq!(budget.buffer_size(), USUAL_BUFFER);
        budget.set_limit(4 << 20);
        assert_eq!(budget.buffer_size(), LARGEST_BUFFER);
        let mut shares = Vec::new();
        while let Some(share) = budget.take(2 * budget.buffer_size()) {
            shares.push(share);
        }
        assert!(shares.len() > 100, "{}", shares.len());
        assert_eq!(budget.buffer_size(), SMALLEST_BUFFER);
        assert!(budget.used() <= 4 << 20);
        drop(shares);
        assert_eq!(budget.used(), 0);
        assert!(budget.take(usize::MAX).is_none());
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_none() {
        assert!(try_buffer(isize::MAX as usize).is_none());
        assert_eq!(try_buffer(10).unwrap(), [0; 10]);
    }
}
