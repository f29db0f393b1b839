//! Things by the time at which they are due.

use alloc::vec::Vec;

use crate::memory::{self, OutOfMemory};
use crate::time::Instant;

/// When something is due, and a number unlike that of every other, which decides between equal times.
pub(crate) type Due = (Instant, u64);

/// A binary heap, the earliest first, that tells where each thing stands, so that one can be taken out from
/// anywhere in O(log n). Needs no memory but what was [reserved](Self::reserve).
///
/// What is told where it stands is `told`, by whoever owns the things: called with a thing and its place.
#[derive(Debug)]
pub(crate) struct Deadlines<T>(Vec<(Due, T)>);

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deadlines<T> {
    /// Finds memory for `count` things in all.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        memory::reserve(&mut self.0, count)
    }

    /// The earliest, and when it is due. It stands at 0.
    pub(crate) fn first(&self) -> Option<(Instant, &T)> {
        self.0.first().map(|((at, _), thing)| (*at, thing))
    }

    /// Adds one that is not there.
    pub(crate) fn insert(&mut self, due: Due, thing: T, mut told: impl FnMut(&T, usize)) {
        let place = self.0.len();
        self.0.push((due, thing));
        self.up(place, &mut told);
    }

    /// Takes out the one that stands at `place`. It is not told so.
    ///
    /// # Panics
    /// Where nothing stands there.
    pub(crate) fn remove(&mut self, place: usize, mut told: impl FnMut(&T, usize)) -> T {
        let (_, thing) = self.0.swap_remove(place);
        if place < self.0.len() {
            let place = self.up(place, &mut told);
            self.down(place, &mut told);
        }
        thing
    }

    /// Moves what stands at `place` up to where it belongs, and tells it, moved or not. Returns that place.
    fn up(&mut self, mut place: usize, told: &mut impl FnMut(&T, usize)) -> usize {
        while place > 0 && self.0[place].0 < self.0[(place - 1) / 2].0 {
            let parent = (place - 1) / 2;
            self.0.swap(place, parent);
            told(&self.0[place].1, place);
            place = parent;
        }
        told(&self.0[place].1, place);
        place
    }

    /// Moves what stands at `place` down to where it belongs.
    fn down(&mut self, mut place: usize, told: &mut impl FnMut(&T, usize)) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.0.len());
            let Some(child) = children.min_by_key(|&child| self.0[child].0) else {
                return;
            };
            if self.0[place].0 <= self.0[child].0 {
                return;
            }
            self.0.swap(place, child);
            told(&self.0[place].1, place);
            told(&self.0[child].1, child);
            place = child;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::collections::BTreeMap;
    use alloc::rc::Rc;
    use core::cell::Cell;

    use super::*;
    use crate::time::Duration;

    struct Entry {
        number: u64,
        place: Cell<Option<usize>>,
    }

    fn stands_at(entry: &Rc<Entry>, place: usize) {
        entry.place.set(Some(place));
    }

    fn remove(deadlines: &mut Deadlines<Rc<Entry>>, entry: &Rc<Entry>) {
        if let Some(place) = entry.place.take() {
            let removed = deadlines.remove(place, stands_at);
            assert!(Rc::ptr_eq(&removed, entry), "another one stood there");
        }
    }

    /// Numbers below a bound, the same in each run.
    pub(crate) fn random() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |bound| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        }
    }

    /// Against an ordered map, over many random insertions, removals and expirations.
    #[test]
    fn agrees_with_an_ordered_map() {
        let mut random = random();
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
                    deadlines.insert((at(due), number), entry.clone(), stands_at);
                    expected.insert((due, number), entry);
                }
                3 => {
                    let pick = random(expected.len() as u64 + 1) as usize;
                    if let Some((&key, _)) = expected.iter().nth(pick) {
                        let entry = expected.remove(&key).expect("it was found");
                        remove(&mut deadlines, &entry);
                        remove(&mut deadlines, &entry);
                    }
                }
                _ => {
                    now += random(20);
                    while let Some((due, entry)) = deadlines.first()
                        && due <= at(now)
                    {
                        let entry = entry.clone();
                        remove(&mut deadlines, &entry);
                        let (key, _) = expected.pop_first().expect("one that is due");
                        assert_eq!(key.1, entry.number);
                        assert!(key.0 <= now);
                        expired += 1;
                    }
                }
            }
            let first = expected.first_key_value().map(|(key, _)| at(key.0));
            assert_eq!(deadlines.first().map(|(at, _)| at), first);
        }
        assert!(expired > 1000, "only {expired} expired");
    }
}
