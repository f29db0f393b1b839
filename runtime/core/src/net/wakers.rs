//! Tasks that wait for the same thing.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;

/// Tasks that wait for the same thing: several may accept on one listener or use one UDP socket.
#[derive(Default)]
pub(super) struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    pub(super) fn register(&self, waker: &Waker) {
        let mut waiting = self.0.borrow_mut();
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    pub(super) fn wake_all(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }
}
