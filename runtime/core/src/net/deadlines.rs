//! Connections by the time at which they are to be looked at.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::memory::OutOfMemory;
use crate::time::Instant;

/// What has a place among [`Deadlines`].
pub(super) trait Timed {
    /// Unlike that of every other: decides between equal times.
    fn number(&self) -> u64;
    /// Where it stands, for [`Deadlines`] alone.
    fn place(&self) -> &Cell<Option<usize>>;
}

/// A binary heap, the earliest first, in which each entry knows its place. Unlike an ordered map it needs no memory
/// but what was [reserved](Self::reserve).
pub(super) struct Deadlines<T>(Vec<(Instant, Rc<T>)>);

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Timed> Deadlines<T> {
    /// Finds memory for `count` entries in all.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let more = count.saturating_sub(self.0.len());
        self.0.try_reserve(more).map_err(|_| OutOfMemory)
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, at: Instant, entry: Rc<T>) {
        entry.place().set(Some(self.0.len()));
        self.0.push((at, entry));
        self.up(self.0.len() - 1);
    }

    /// Takes one out, if it is there.
    pub(super) fn remove(&mut self, entry: &T) {
        let Some(place) = entry.place().take() else {
            return;
        };
        self.0.swap_remove(place);
        if place < self.0.len() {
            let place = self.up(place);
            self.down(place);
        }
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest of those that are due.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Rc<T>> {
        let (_, entry) = self.0.first().filter(|(at, _)| *at <= now)?;
        let entry = entry.clone();
        self.remove(&entry);
        Some(entry)
    }

    fn key(&self, place: usize) -> (Instant, u64) {
        let (at, entry) = &self.0[place];
        (*at, entry.number())
    }

    /// Moves the entry at `place` up to where it belongs, or tells it where it stands. Returns that place.
    fn up(&mut self, mut place: usize) -> usize {
        while place > 0 && self.key(place) < self.key((place - 1) / 2) {
            let parent = (place - 1) / 2;
            self.0.swap(place, parent);
            self.note(place);
            place = parent;
        }
        self.note(place);
        place
    }

    /// Moves the entry at `place` down to where it belongs.
    fn down(&mut self, mut place: usize) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.0.len());
            let Some(child) = children.min_by_key(|&child| self.key(child)) else {
                return;
            };
            if self.key(place) <= self.key(child) {
                return;
            }
            self.0.swap(place, child);
            self.note(place);
            self.note(child);
            place = child;
        }
    }

    fn note(&self, place: usize) {
        self.0[place].1.place().set(Some(place));
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::time::Duration;

    struct Entry {
        number: u64,
        place: Cell<Option<usize>>,
    }

    impl Timed for Entry {
        fn number(&self) -> u64 {
            self.number
        }

        fn place(&self) -> &Cell<Option<usize>> {
            &self.place
        }
    }

    /// Against an ordered map, over many random insertions, removals and expirations.
    #[test]
    fn agrees_with_an_ordered_map() {
        let mut state = 1_u64;
        let mut random = move |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let at = |second| Instant::since_boot(Duration::from_secs(second));
        let mut deadlines = Deadlines::default();
        let mut expected = BTreeMap::new();
        let (mut now, mut expired) = (0, 0);
        for number in 0..20_000 {
            match random(5) {
                0..3 => {
                    let due = now + random(1000);
                    let place = Cell::new(None);
                    let entry = Rc::new(Entry { number, place });
                    deadlines.reserve(expected.len() + 1).unwrap();
                    deadlines.insert(at(due), entry.clone());
                    expected.insert((due, number), entry);
                }
                3 => {
                    let pick = random(expected.len() as u64 + 1) as usize;
                    if let Some((&key, _)) = expected.iter().nth(pick) {
                        let entry = expected.remove(&key).expect("it was found");
                        deadlines.remove(&entry);
                        deadlines.remove(&entry);
                    }
                }
                _ => {
                    now += random(20);
                    while let Some(entry) = deadlines.next_due(at(now)) {
                        let (key, _) = expected.pop_first().expect("one that is due");
                        assert_eq!(key.1, entry.number);
                        assert!(key.0 <= now);
                        expired += 1;
                    }
                }
            }
            let first = expected.first_key_value().map(|(key, _)| at(key.0));
            assert_eq!(deadlines.next(), first);
        }
        assert!(expired > 1000, "only {expired} expired");
    }
}
