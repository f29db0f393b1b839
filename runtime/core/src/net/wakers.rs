//! Tasks that wait for the same thing.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;

/// Tasks that wait for the same thing: several may accept on one listener or use one UDP socket.
#[derive(Default)]
pub(super) struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// Without memory to remember it the task is woken at once, and looks again.
    pub(super) fn register(&self, waker: &Waker) {
        let mut waiting = self.0.borrow_mut();
        if waiting.iter().any(|other| other.will_wake(waker)) {
            return;
        }
        match waiting.try_reserve(1) {
            Ok(()) => waiting.push(waker.clone()),
            Err(_) => waker.wake_by_ref(),
        }
    }

    pub(super) fn wake_all(&self) {
        // Not borrowed while wakers run. The list's memory serves again.
        let mut waiting = self.0.take();
        waiting.drain(..).for_each(Waker::wake);
        let mut since = self.0.borrow_mut();
        if since.is_empty() {
            *since = waiting;
        }
    }
}
