//! How an interrupt reaches a task: the handler notes, the executor dispatches, the task runs.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use spin::Mutex;

/// Set by every handler, after its own flag; what idling looks at.
static ANY_NOTED: AtomicBool = AtomicBool::new(false);

/// One source of interrupts, and the task that waits for it.
#[derive(Debug)]
pub(crate) struct Signal {
    noted: AtomicBool,
    ready: AtomicBool,
    /// Locked by tasks only, never by a handler.
    waiting: Mutex<Option<Waker>>,
}

impl Signal {
    /// A signal that counts as having come, so that the first look is free.
    pub(crate) const fn new() -> Self {
        Self {
            noted: AtomicBool::new(false),
            ready: AtomicBool::new(true),
            waiting: Mutex::new(None),
        }
    }

    /// For the interrupt handler: remembers that the interrupt came.
    pub(crate) fn note(&self) {
        self.noted.store(true, Ordering::Release);
        note_any();
    }

    /// Wakes the task if an interrupt was noted.
    pub(crate) fn dispatch(&self) {
        if self.noted.swap(false, Ordering::Acquire) {
            self.ready.store(true, Ordering::Release);
            if let Some(waker) = self.waiting.lock().take() {
                waker.wake();
            }
        }
    }

    /// Ready once if interrupts were dispatched since it was last ready.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        *self.waiting.lock() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether interrupts were dispatched since the last time.
    pub(crate) fn take(&self) -> bool {
        self.ready.swap(false, Ordering::Acquire)
    }
}

/// For handlers without a signal of their own: makes idling end.
pub(crate) fn note_any() {
    ANY_NOTED.store(true, Ordering::Release);
}

/// Whether an interrupt came that was not yet taken.
pub(crate) fn any_noted() -> bool {
    ANY_NOTED.load(Ordering::Acquire)
}

/// Like [`any_noted`], and forgets it.
pub(crate) fn take_any() -> bool {
    ANY_NOTED.swap(false, Ordering::Acquire)
}
