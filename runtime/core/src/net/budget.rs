//! How much memory the buffers of all sockets take.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

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
