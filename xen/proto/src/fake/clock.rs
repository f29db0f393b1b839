//! Time that a test moves.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use failing_memory::unharmed;

#[derive(Default)]
pub(super) struct Clock {
    now: Cell<Duration>,
    next_timer: Cell<u64>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.now.get()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let timers = self.timers.borrow();
        timers.keys().next().map(|(deadline, _)| *deadline)
    }

    pub(super) fn advance_to(&self, time: Duration) {
        assert!(time >= self.now.get(), "time would go backwards");
        self.now.set(time);
        let due = {
            let mut timers = self.timers.borrow_mut();
            let later = unharmed(|| timers.split_off(&(time + Duration::from_nanos(1), 0)));
            core::mem::replace(&mut *timers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    pub(super) fn sleep_until(self: &Rc<Self>, deadline: Duration) -> FakeSleep {
        let number = self.next_timer.get();
        self.next_timer.set(number + 1);
        FakeSleep {
            clock: self.clone(),
            key: (deadline, number),
        }
    }
}

/// Ready once the fake clock has reached its deadline.
pub struct FakeSleep {
    clock: Rc<Clock>,
    key: (Duration, u64),
}

impl Future for FakeSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.key.0 {
            return Poll::Ready(());
        }
        let mut timers = self.clock.timers.borrow_mut();
        unharmed(|| timers.insert(self.key, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for FakeSleep {
    fn drop(&mut self) {
        self.clock.timers.borrow_mut().remove(&self.key);
    }
}
