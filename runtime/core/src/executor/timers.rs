//! The timers of the executor.

use alloc::collections::BTreeMap;
use core::task::Waker;

use crate::time::Instant;

/// Wakers by deadline.
///
/// An ordered map rather than a binary heap: a cancelled timer leaves at once instead of
/// staying until its deadline, so a program that sets and cancels a time limit for every
/// packet uses memory for the limits that are still running only.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<TimerId, Waker>,
    /// Makes the timers of one instant differ, and keeps them in the order they were set.
    next_number: u64,
}

/// Names one timer; ordered by deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    deadline: Instant,
    number: u64,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Wakes `waker` once `deadline` has come.
    pub(crate) fn insert(&mut self, deadline: Instant, waker: &Waker) -> TimerId {
        let id = TimerId {
            deadline,
            number: self.next_number,
        };
        self.next_number += 1;
        self.waiting.insert(id, waker.clone());
        id
    }

    /// Lets a waiting timer wake `waker` instead. False when it is not waiting any more.
    pub(crate) fn rearm(&mut self, id: TimerId, waker: &Waker) -> bool {
        match self.waiting.get_mut(&id) {
            Some(current) => {
                current.clone_from(waker);
                true
            }
            None => false,
        }
    }

    /// Forgets a timer, whether it still waits or not.
    pub(crate) fn cancel(&mut self, id: TimerId) {
        self.waiting.remove(&id);
    }

    /// Wakes every timer whose deadline is not after `now`, earliest first.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().deadline <= now
        {
            entry.remove().wake();
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(id, _)| id.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn at(milliseconds: u64) -> Instant {
        Instant::since_boot(Duration::from_millis(milliseconds))
    }

    #[test]
    fn cancelled_timers_leave_at_once() {
        let mut timers = Timers::new();
        let last = timers.insert(at(100), Waker::noop());
        for number in 0..1000 {
            let timer = timers.insert(at(number), Waker::noop());
            timers.cancel(timer);
        }
        assert_eq!(timers.waiting.len(), 1);
        assert_eq!(timers.next_deadline(), Some(at(100)));
        timers.expire(at(99));
        assert!(timers.rearm(last, Waker::noop()));
        timers.expire(at(100));
        assert!(!timers.rearm(last, Waker::noop()));
        assert_eq!(timers.next_deadline(), None);
        timers.cancel(last);
    }
}
