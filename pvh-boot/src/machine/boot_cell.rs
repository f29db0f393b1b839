//! A static that is written once, while booting.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

pub(super) struct BootCell<T> {
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written by the one call of `set` that finds `ready` false and cannot be
// interrupted there (interrupts are off while booting), and only shared references are handed out
// afterwards, which `T: Sync` allows; `set` may have moved the value here from elsewhere, which
// `T: Send` allows.
unsafe impl<T: Send + Sync> Sync for BootCell<T> {}

impl<T: Sync> BootCell<T> {
    pub(super) const fn new() -> Self {
        Self {
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// # Panics
    /// At the second call.
    pub(super) fn set(&self, value: T) -> &T {
        assert!(
            !self.ready.load(Ordering::Acquire),
            "boot cell is set twice"
        );
        let place = self.value.get().cast::<T>();
        // SAFETY: `place` is valid and aligned, and as `ready` is false no reference to it exists.
        unsafe { place.write(value) };
        self.ready.store(true, Ordering::Release);
        // SAFETY: just written, never written again.
        unsafe { &*place }
    }

    pub(super) fn value(&self) -> Option<&T> {
        let place = self.value.get().cast::<T>();
        // SAFETY: `ready` says that the value was written, and it is never written again.
        self.ready
            .load(Ordering::Acquire)
            .then(|| unsafe { &*place })
    }
}
