//! Ranges of physical memory and a sorted list of them that needs no heap.

use core::fmt;

/// Bytes of the smallest page.
pub(crate) const PAGE: u64 = 4096;

/// A range of physical addresses. As everything is mapped at its physical address, also a range
/// of pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// Address of the first byte.
    pub start: u64,
    /// Address just past the last byte.
    pub end: u64,
}

impl MemoryRegion {
    pub(crate) const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// Size in bytes.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The whole pages inside; possibly empty.
    pub(crate) const fn whole_pages(self) -> Self {
        let start = match self.start.checked_next_multiple_of(PAGE) {
            Some(start) => start,
            None => return Self::new(0, 0),
        };
        let end = self.end - self.end % PAGE;
        if start < end {
            Self::new(start, end)
        } else {
            Self::new(0, 0)
        }
    }

    /// Every page touched; the very last page of the address space is cut short.
    pub(crate) const fn touched_pages(self) -> Self {
        let end = match self.end.checked_next_multiple_of(PAGE) {
            Some(end) => end,
            None => u64::MAX,
        };
        Self::new(self.start - self.start % PAGE, end)
    }
}

impl fmt::Display for MemoryRegion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// How many separate ranges a [`Regions`] holds. Firmware tables have a dozen or two.
pub(crate) const MAX_REGIONS: usize = 128;

/// The list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyRegions;

/// A set of addresses as ranges: sorted, disjoint, never touching, never empty.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    items: [MemoryRegion; MAX_REGIONS],
    count: usize,
}

impl Regions {
    pub(crate) const fn new() -> Self {
        Self {
            items: [MemoryRegion::new(0, 0); MAX_REGIONS],
            count: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[MemoryRegion] {
        &self.items[..self.count]
    }

    /// Adds every address of `region`.
    pub(crate) fn insert(&mut self, region: MemoryRegion) -> Result<(), TooManyRegions> {
        if region.is_empty() {
            return Ok(());
        }
        let items = self.as_slice();
        let first = items.partition_point(|item| item.end < region.start);
        let last = items.partition_point(|item| item.start <= region.end);
        let merged = match items.get(first..last) {
            Some([one]) => union(*one, region),
            Some([low, .., high]) => union(union(*low, *high), region),
            _ => region,
        };
        self.replace(first, last, &[merged])
    }

    /// Takes every address of `region` out.
    pub(crate) fn exclude(&mut self, region: MemoryRegion) -> Result<(), TooManyRegions> {
        if region.is_empty() {
            return Ok(());
        }
        let items = self.as_slice();
        let first = items.partition_point(|item| item.end <= region.start);
        let last = items.partition_point(|item| item.start < region.end);
        let (Some(low), Some(high)) = (items.get(first), items[..last].last()) else {
            return Ok(());
        };
        if first >= last {
            return Ok(());
        }
        let below = MemoryRegion::new(low.start, region.start);
        let above = MemoryRegion::new(region.end, high.end);
        match (below.is_empty(), above.is_empty()) {
            (true, true) => self.replace(first, last, &[]),
            (false, true) => self.replace(first, last, &[below]),
            (true, false) => self.replace(first, last, &[above]),
            (false, false) => self.replace(first, last, &[below, above]),
        }
    }

    /// Whether every address of `region` is in the set.
    pub(crate) fn covers(&self, region: MemoryRegion) -> bool {
        self.as_slice()
            .iter()
            .any(|item| item.start <= region.start && region.end <= item.end)
    }

    /// Whether any address of `region` is in the set.
    pub(crate) fn intersects(&self, region: MemoryRegion) -> bool {
        self.as_slice().iter().any(|item| item.overlaps(region))
    }

    /// Number of addresses in the set.
    pub(crate) fn total(&self) -> u64 {
        self.as_slice().iter().map(|item| item.length()).sum()
    }

    /// The set cut down to whole pages.
    pub(crate) fn whole_pages(&self) -> Self {
        let mut pages = Self::new();
        for region in self.as_slice() {
            let region = region.whole_pages();
            if !region.is_empty() {
                // Rounding inwards keeps order and distance, and makes no range of none.
                pages.items[pages.count] = region;
                pages.count += 1;
            }
        }
        pages
    }

    /// Puts `pieces` in the place of the items `first..last`.
    fn replace(
        &mut self,
        first: usize,
        last: usize,
        pieces: &[MemoryRegion],
    ) -> Result<(), TooManyRegions> {
        let count = self.count - (last - first) + pieces.len();
        if count > MAX_REGIONS {
            return Err(TooManyRegions);
        }
        let tail = first + pieces.len();
        self.items.copy_within(last..self.count, tail);
        self.items[first..tail].copy_from_slice(pieces);
        self.count = count;
        Ok(())
    }
}

const fn union(one: MemoryRegion, other: MemoryRegion) -> MemoryRegion {
    MemoryRegion::new(
        if one.start < other.start {
            one.start
        } else {
            other.start
        },
        if one.end > other.end {
            one.end
        } else {
            other.end
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn region(start: u64, end: u64) -> MemoryRegion {
        MemoryRegion::new(start, end)
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut set = Regions::new();
        set.insert(region(0x3000, 0x4000)).unwrap();
        set.insert(region(0x1000, 0x2000)).unwrap();
        set.insert(region(0x2000, 0x3000)).unwrap();
        assert_eq!(set.as_slice(), [region(0x1000, 0x4000)]);
    }

    #[test]
    fn a_hole_splits_a_range() {
        let mut set = Regions::new();
        set.insert(region(0, 10)).unwrap();
        set.exclude(region(4, 6)).unwrap();
        set.exclude(region(20, 30)).unwrap();
        assert_eq!(set.as_slice(), [region(0, 4), region(6, 10)]);
        assert!(set.covers(region(6, 10)));
        assert!(!set.covers(region(3, 7)));
        assert!(set.intersects(region(3, 7)));
        assert!(!set.intersects(region(4, 6)));
    }

    #[test]
    fn a_full_list_says_so_and_stays_whole() {
        let mut set = Regions::new();
        for index in 0..MAX_REGIONS as u64 {
            set.insert(region(index * 10, index * 10 + 5)).unwrap();
        }
        assert_eq!(set.insert(region(7, 8)), Err(TooManyRegions));
        assert_eq!(set.exclude(region(2, 3)), Err(TooManyRegions));
        assert_eq!(set.total(), MAX_REGIONS as u64 * 5);
        set.insert(region(0, 10_000)).unwrap();
        assert_eq!(set.as_slice(), [region(0, 10_000)]);
    }

    #[test]
    fn whole_pages_round_inwards_and_touched_pages_outwards() {
        assert_eq!(region(1, 0x2fff).whole_pages(), region(0x1000, 0x2000));
        assert!(region(1, 0x1fff).whole_pages().is_empty());
        assert!(region(u64::MAX - 5, u64::MAX).whole_pages().is_empty());
        assert_eq!(region(1, 2).touched_pages(), region(0, 0x1000));
        assert_eq!(
            region(u64::MAX - 5, u64::MAX).touched_pages(),
            region(u64::MAX - 4095, u64::MAX)
        );
    }

    proptest! {
        /// The list against a plain set of numbers.
        #[test]
        fn behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..200, 0u64..40), 0..60)) {
            let mut regions = Regions::new();
            let mut model = BTreeSet::new();
            for (add, start, length) in steps {
                let range = region(start, start + length);
                if add {
                    regions.insert(range).unwrap();
                    model.extend(start..start + length);
                } else {
                    regions.exclude(range).unwrap();
                    model.retain(|address| !range.contains(*address));
                }
                let listed: Vec<u64> = regions.as_slice().iter().flat_map(|item| item.start..item.end).collect();
                prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
                prop_assert!(regions.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert_eq!(regions.total(), model.len() as u64);
            }
        }
    }
}
