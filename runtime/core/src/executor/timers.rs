//! The timers of the executor.

use alloc::vec::Vec;
use core::task::Waker;

use crate::deadlines::Deadlines;
use crate::memory::{self, OutOfMemory};
use crate::time::{Duration, Instant};

/// Timers by deadline: slots, and their numbers in a heap that tells each slot its place.
///
/// A timer is set, moved and cancelled in O(log n) where it lies, and a cancelled one leaves at
/// once: a program that sets and cancels a time limit for every packet uses memory for the limits
/// that are still running only, and allocates nothing once there were that many at a time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Slots that wait.
    heap: Deadlines<usize>,
    /// Timers set for a time from now, whose deadline the next reading of the clock decides.
    starting: Vec<TimerId>,
    /// Makes the timers of one instant differ, and keeps them in the order they were set.
    next_number: u64,
}

/// Names one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    slot: usize,
    number: u64,
}

#[derive(Debug)]
struct Slot {
    /// Of the timer that lives here; a free slot has that of none.
    number: u64,
    deadline: Deadline,
    /// Who waits. Without it the timer is not in the heap.
    waker: Option<Waker>,
    /// Position in the heap, if there.
    place: Option<usize>,
}

/// When a timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Then.
    At(Instant),
    /// This long after the next reading of the clock, which comes before the processor sleeps.
    After(Duration),
}

/// The number of a slot that is free.
const NOBODY: u64 = u64::MAX;

impl Timers {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Timers there are.
    pub(crate) fn count(&self) -> usize {
        let live = |slot: &&Slot| slot.number != NOBODY;
        self.slots.iter().filter(live).count()
    }

    /// A timer for `deadline` that wakes nobody yet.
    pub(crate) fn add(&mut self, deadline: Deadline) -> Result<TimerId, OutOfMemory> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.add_slot()?,
        };
        let number = self.next_number;
        self.next_number += 1;
        self.slots[slot] = Slot {
            number,
            deadline,
            waker: None,
            place: None,
        };
        let id = TimerId { slot, number };
        if matches!(deadline, Deadline::After(_)) {
            self.starting.push(id);
        }
        Ok(id)
    }

    /// One more slot, which may be in each of the lists: what is done with a timer later needs no
    /// memory.
    fn add_slot(&mut self) -> Result<usize, OutOfMemory> {
        let slot = self.slots.len();
        memory::reserve(&mut self.slots, slot + 1)?;
        memory::reserve(&mut self.free, slot + 1)?;
        self.heap.reserve(slot + 1)?;
        memory::reserve(&mut self.starting, slot + 1)?;
        self.slots.push(Slot {
            number: NOBODY,
            deadline: Deadline::After(Duration::ZERO),
            waker: None,
            place: None,
        });
        Ok(slot)
    }

    /// When a timer is due; `None` for one that is not there.
    pub(crate) fn deadline(&self, id: TimerId) -> Option<Deadline> {
        self.find(id).map(|slot| slot.deadline)
    }

    /// Has `waker` woken when the timer is due, in place of whoever waited before. For a timer
    /// that is there.
    pub(crate) fn wait(&mut self, id: TimerId, waker: &Waker) {
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        match &mut slot.waker {
            Some(current) => current.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        self.enter(id.slot);
    }

    /// Forgets a timer, if it is there.
    pub(crate) fn cancel(&mut self, id: TimerId) {
        if self.find(id).is_none() {
            return;
        }
        self.leave(id.slot);
        if let Deadline::After(_) = self.slots[id.slot].deadline
            && let Some(position) = self.starting.iter().rposition(|other| *other == id)
        {
            self.starting.swap_remove(position);
        }
        let slot = &mut self.slots[id.slot];
        slot.number = NOBODY;
        slot.waker = None;
        self.free.push(id.slot);
    }

    /// Whether [`read`](Self::read) has deadlines to decide.
    pub(crate) fn any_starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// The clock was read: decides the deadlines of the timers set since.
    pub(crate) fn read(&mut self, now: Instant) {
        for index in 0..self.starting.len() {
            let id = self.starting[index];
            let slot = &mut self.slots[id.slot];
            if let Deadline::After(duration) = slot.deadline {
                slot.deadline = Deadline::At(now + duration);
                self.enter(id.slot);
            }
        }
        self.starting.clear();
    }

    /// Whom to wake of those whose deadline is not after `now`, earliest first.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Waker> {
        let (_, &first) = self.heap.first().filter(|(at, _)| *at <= now)?;
        self.leave(first);
        self.slots[first].waker.take()
    }

    /// The earliest deadline somebody waits for, of those that are decided.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| at)
    }

    fn find(&self, id: TimerId) -> Option<&Slot> {
        self.slots
            .get(id.slot)
            .filter(|slot| slot.number == id.number)
    }

    /// Puts a slot into the heap, if it waits for a moment that is known and is not there.
    fn enter(&mut self, slot: usize) {
        let Self { slots, heap, .. } = self;
        let timer = &slots[slot];
        if let Deadline::At(deadline) = timer.deadline
            && timer.waker.is_some()
            && timer.place.is_none()
        {
            let due = (deadline, timer.number);
            heap.insert(due, slot, |&slot, place| slots[slot].place = Some(place));
        }
    }

    /// Takes a slot out of the heap, if it is there.
    fn leave(&mut self, slot: usize) {
        let Self { slots, heap, .. } = self;
        if let Some(place) = slots[slot].place.take() {
            heap.remove(place, |&slot, place| slots[slot].place = Some(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::deadlines::tests::random;

    fn at(milliseconds: u64) -> Instant {
        Instant::since_boot(Duration::from_millis(milliseconds))
    }

    fn set(timers: &mut Timers, milliseconds: u64, waker: &Waker) -> TimerId {
        let id = timers.add(Deadline::At(at(milliseconds))).unwrap();
        timers.wait(id, waker);
        id
    }

    #[test]
    fn cancelled_timers_leave_at_once() {
        let mut timers = Timers::new();
        let last = set(&mut timers, 100, Waker::noop());
        for number in 0..1000 {
            let timer = set(&mut timers, number, Waker::noop());
            timers.cancel(timer);
            timers.cancel(timer);
        }
        assert_eq!((timers.heap.len(), timers.slots.len()), (1, 2));
        assert_eq!(timers.next_deadline(), Some(at(100)));
        assert!(timers.next_due(at(99)).is_none());
        assert!(timers.next_due(at(100)).is_some());
        assert!(timers.next_due(at(100)).is_none());
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.deadline(last), Some(Deadline::At(at(100))));
        timers.cancel(last);
        assert_eq!(timers.deadline(last), None);
    }

    #[test]
    fn the_next_reading_of_the_clock_decides_and_no_later_one() {
        let mut timers = Timers::new();
        let after = |milliseconds| Deadline::After(Duration::from_millis(milliseconds));
        let gone = timers.add(after(1)).unwrap();
        let silent = timers.add(after(2)).unwrap();
        let waiting = timers.add(after(3)).unwrap();
        timers.wait(waiting, Waker::noop());
        timers.cancel(gone);
        assert_eq!(timers.next_deadline(), None);
        assert!(timers.any_starting());
        timers.read(at(10));
        assert!(!timers.any_starting());
        timers.read(at(20));
        assert_eq!(timers.next_deadline(), Some(at(13)));
        assert_eq!(timers.deadline(silent), Some(Deadline::At(at(12))));
        timers.wait(silent, Waker::noop());
        assert_eq!(timers.next_deadline(), Some(at(12)));
        // The slot of the cancelled one has somebody else now.
        let other = set(&mut timers, 5, Waker::noop());
        assert_eq!(timers.slots.len(), 3);
        assert_eq!(timers.deadline(gone), None);
        timers.cancel(gone);
        assert_eq!(timers.next_deadline(), Some(at(5)));
        timers.cancel(other);
    }

    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Against an ordered map, over many random insertions, cancellations and expirations.
    #[test]
    fn agrees_with_an_ordered_map() {
        let mut random = random();
        let mut timers = Timers::new();
        let mut expected = BTreeMap::new();
        let counted = Arc::new(Counted(AtomicUsize::new(0)));
        let waker = Waker::from(counted.clone());
        let (mut now, mut fired) = (0, 0);
        for _ in 0..20_000 {
            match random(5) {
                0..3 => {
                    let deadline = now + random(1000);
                    let id = set(&mut timers, deadline, &waker);
                    expected.insert((deadline, id.number), id);
                }
                3 => {
                    let pick = random(expected.len() as u64 + 1) as usize;
                    if let Some((&key, &id)) = expected.iter().nth(pick) {
                        expected.remove(&key);
                        timers.cancel(id);
                    }
                }
                _ => {
                    now += random(20);
                    while let Some(waker) = timers.next_due(at(now)) {
                        waker.wake();
                        let (key, id) = expected.pop_first().expect("one that is due");
                        assert!(key.0 <= now);
                        fired += 1;
                        timers.cancel(id);
                    }
                }
            }
            let first = expected.first_key_value().map(|(key, _)| at(key.0));
            assert_eq!(timers.next_deadline(), first);
            assert_eq!(counted.0.load(Ordering::Relaxed), fired);
        }
        assert!(fired > 1000, "only {fired} fired");
    }
}
