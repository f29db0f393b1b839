//! From the loader's memory map to the RAM that is there.

use crate::error::BootError;
use crate::region::{MemoryRegion, Regions, TooManyRegions};
use crate::start_info::{MapEntry, MemoryKind};

impl From<TooManyRegions> for BootError {
    fn from(_: TooManyRegions) -> Self {
        Self::MemoryInPieces
    }
}

/// The RAM among `entries`, which may come in any order and overlap. Where RAM and something else
/// claim the same address, it is not RAM. Empty entries count for nothing.
///
/// `limit` is the first physical address that cannot be mapped.
pub(crate) fn ram(entries: &[MapEntry], limit: u64) -> Result<Regions, BootError> {
    let mut ram = Regions::new();
    for (entry, index) in entries.iter().zip(0..) {
        if entry.kind == MemoryKind::RAM {
            ram.insert(ram_region(entry, index, limit)?)?;
        }
    }
    for entry in entries {
        if entry.kind != MemoryKind::RAM {
            // Too large a size here only takes more away: the safe side.
            let end = entry.start.saturating_add(entry.size);
            ram.exclude(MemoryRegion::new(entry.start, end))?;
        }
    }
    Ok(ram)
}

fn ram_region(entry: &MapEntry, index: u32, limit: u64) -> Result<MemoryRegion, BootError> {
    let MapEntry { start, size, .. } = *entry;
    let end = start.checked_add(size).ok_or(BootError::RamOverflows {
        entry: index,
        start,
        size,
    })?;
    let region = MemoryRegion::new(start, end);
    if !region.is_empty() && end > limit {
        return Err(BootError::RamBeyondReach {
            entry: index,
            region,
            limit,
        });
    }
    Ok(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const LIMIT: u64 = 1 << 46;

    fn entry(start: u64, size: u64, kind: u32) -> MapEntry {
        MapEntry {
            start,
            size,
            kind: MemoryKind(kind),
        }
    }

    fn regions(entries: &[MapEntry]) -> Vec<(u64, u64)> {
        let ram = ram(entries, LIMIT).unwrap();
        ram.as_slice()
            .iter()
            .map(|region| (region.start, region.end))
            .collect()
    }

    #[test]
    fn unsorted_entries_are_sorted_and_joined() {
        let entries = [
            entry(0x10_0000, 0x10_0000, 1),
            entry(0xf_0000, 0x1_0000, 2),
            entry(0, 0x9_fc00, 1),
            entry(0x20_0000, 0x1000, 1),
        ];
        assert_eq!(regions(&entries), [(0, 0x9_fc00), (0x10_0000, 0x20_1000)]);
    }

    #[test]
    fn what_is_also_something_else_is_not_ram() {
        let entries = [
            entry(0x4000, 0x1000, 3),
            entry(0, 0x1_0000, 1),
            entry(0x3000, 0x4000, 1),
            entry(0x4800, 0x1000, 99),
        ];
        assert_eq!(regions(&entries), [(0, 0x4000), (0x5800, 0x1_0000)]);
    }

    #[test]
    fn empty_entries_count_for_nothing() {
        let entries = [
            entry(0x5000, 0, 1),
            entry(u64::MAX, 0, 1),
            entry(0x2000, 0, 2),
            entry(0x1000, 0x3000, 1),
        ];
        assert_eq!(regions(&entries), [(0x1000, 0x4000)]);
        assert_eq!(regions(&[]), vec![]);
    }

    #[test]
    fn ram_past_the_end_of_the_address_space_is_refused_by_entry() {
        let entries = [entry(0, 0x1000, 1), entry(u64::MAX - 0xfff, 0x2000, 1)];
        assert_eq!(
            ram(&entries, LIMIT).unwrap_err(),
            BootError::RamOverflows {
                entry: 1,
                start: u64::MAX - 0xfff,
                size: 0x2000
            }
        );
        assert!(matches!(
            ram(&[entry(LIMIT - 0x1000, 0x2000, 1)], LIMIT),
            Err(BootError::RamBeyondReach { entry: 0, .. })
        ));
    }

    #[test]
    fn an_overlong_reserved_range_takes_everything_above() {
        let entries = [entry(0, 0x4000, 1), entry(0x2000, u64::MAX, 2)];
        assert_eq!(regions(&entries), [(0, 0x2000)]);
    }

    #[test]
    fn too_many_pieces_is_an_error() {
        let entries: Vec<_> = (0..129)
            .map(|index| entry(index * 0x2000, 0x1000, 1))
            .collect();
        assert_eq!(ram(&entries, LIMIT).unwrap_err(), BootError::MemoryInPieces);
    }

    proptest! {
        /// Any map at all: an answer or an error, and an address is RAM exactly if some entry says
        /// so and none says otherwise.
        #[test]
        fn an_address_is_ram_if_all_agree(
            map in prop::collection::vec((0u64..64, 0u64..16, 1u32..4), 0..40),
        ) {
            let entries: Vec<_> = map.iter().map(|&(start, size, kind)| entry(start, size, kind)).collect();
            let ram = ram(&entries, LIMIT).unwrap();
            for address in 0..96 {
                let mut kinds = entries
                    .iter()
                    .filter(|entry| (entry.start..entry.start + entry.size).contains(&address))
                    .map(|entry| entry.kind)
                    .peekable();
                let expected = kinds.peek().is_some() && kinds.all(|kind| kind == MemoryKind::RAM);
                let found = ram.as_slice().iter().any(|region| region.contains(address));
                prop_assert_eq!(found, expected, "address {}", address);
            }
        }

        #[test]
        fn no_map_makes_it_panic(map in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..9), 0..200)) {
            let entries: Vec<_> = map.iter().map(|&(start, size, kind)| entry(start, size, kind)).collect();
            if let Ok(ram) = ram(&entries, LIMIT) {
                prop_assert!(ram.as_slice().iter().all(|region| region.end <= LIMIT));
                prop_assert!(ram.whole_pages().as_slice().iter().all(|region| region.start % 4096 == 0 && region.end % 4096 == 0));
            }
        }
    }
}
