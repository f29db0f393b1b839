//! Tests of `page_tables`: entries as the processor reads them.

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

const BASE: u64 = 0x40_0000;
const MEGABYTES_2: u64 = 2 << 20;
const GIGABYTE: u64 = 1 << 30;

/// Frames full of garbage, as RAM is.
fn frames(count: usize) -> &'static [Table] {
    let frames: Vec<Table> = (0..count)
        .map(|_| Table([const { AtomicU64::new(u64::MAX) }; 512]))
        .collect();
    Box::leak(frames.into_boxed_slice())
}

fn tables(count: usize, gigabyte_pages: bool) -> Tables<'static> {
    Tables::new(frames(count), BASE, gigabyte_pages).unwrap()
}

fn region(start: u64, length: u64) -> MemoryRegion {
    MemoryRegion::new(start, start + length)
}

#[test]
fn an_entry_has_the_bits_the_manual_says() {
    let tables = tables(8, true);
    tables.map(region(0x1000, 0x1000), Access::Code).unwrap();
    tables
        .map(region(0x2000, 0x1000), Access::ReadOnly)
        .unwrap();
    tables.map(region(0x3000, 0x1000), Access::Data).unwrap();
    tables.map(region(0x4000, 0x1000), Access::Device).unwrap();
    tables
        .map(region(MEGABYTES_2, MEGABYTES_2), Access::Data)
        .unwrap();
    tables
        .map(region(GIGABYTE, GIGABYTE), Access::Data)
        .unwrap();

    let entry = |frame: usize, index| tables.frames[frame].entry(index);
    assert_eq!(tables.root(), BASE);
    assert_eq!(entry(0, 0), 0x40_1023);
    assert_eq!(entry(1, 0), 0x40_2023);
    assert_eq!(entry(2, 0), 0x40_3023);
    assert_eq!(entry(3, 0), 0);
    assert_eq!(entry(3, 1), 0x1061);
    assert_eq!(entry(3, 2), 0x8000_0000_0000_2061);
    assert_eq!(entry(3, 3), 0x8000_0000_0000_3063);
    assert_eq!(entry(3, 4), 0x8000_0000_0000_407b);
    assert_eq!(entry(2, 1), 0x8000_0000_0020_00e3);
    assert_eq!(entry(1, 1), 0x8000_0000_4000_00e3);
    assert_eq!(tables.used(), 4);
}

#[test]
fn nothing_in_the_upper_half_is_executable() {
    let tables = tables(4, true);
    tables.map(region(0x1000, 0x1000), Access::Data).unwrap();
    tables.attach_upper_half(0x12_3000);
    // Present, writable, accessed, and no execution whatever the tables below say.
    assert_eq!(tables.frames[0].entry(256), 0x8000_0000_0012_3023);
    assert_eq!(tables.frames[0].entry(255), 0);
    assert_eq!(tables.used(), 4);
}

#[test]
fn the_largest_pages_that_fit_are_used() {
    let whole = region(0x1000, 3 * GIGABYTE);
    for (gigabyte_pages, frames_used) in [(true, 6), (false, 8)] {
        let tables = tables(16, gigabyte_pages);
        tables.map(whole, Access::Data).unwrap();
        let size = |address| tables.protection(address).unwrap().page_size;
        assert_eq!(size(0x1000), PAGE);
        assert_eq!(size(MEGABYTES_2), MEGABYTES_2);
        assert_eq!(
            size(GIGABYTE),
            if gigabyte_pages {
                GIGABYTE
            } else {
                MEGABYTES_2
            }
        );
        assert_eq!(size(3 * GIGABYTE), PAGE);
        assert_eq!(tables.protection(0), None);
        assert_eq!(tables.protection(whole.end), None);
        assert_eq!(tables.used(), frames_used);
    }
}

#[test]
fn mapping_again_is_allowed_with_the_same_protection_only() {
    let tables = tables(8, true);
    tables.map(region(0, GIGABYTE), Access::Data).unwrap();
    let used = tables.used();
    tables
        .map(region(0x5000, MEGABYTES_2), Access::Data)
        .unwrap();
    assert_eq!(tables.used(), used);
    assert_eq!(
        tables.map(region(0x5000, 0x1000), Access::Device),
        Err(Refusal::Conflict { address: 0x5000 })
    );

    tables
        .map(region(GIGABYTE, 0x1000), Access::Device)
        .unwrap();
    tables
        .map(region(GIGABYTE, MEGABYTES_2), Access::Device)
        .unwrap();
    assert_eq!(
        tables.map(region(GIGABYTE, GIGABYTE), Access::Data),
        Err(Refusal::Conflict { address: GIGABYTE })
    );
}

#[test]
fn running_out_of_tables_is_an_error() {
    assert!(Tables::new(&[], BASE, false).is_none());
    let tables = tables(3, false);
    tables.map(region(0, GIGABYTE), Access::Data).unwrap();
    assert_eq!(
        tables.map(region(GIGABYTE, 0x1000), Access::Data),
        Err(Refusal::OutOfTables)
    );
}

#[test]
fn a_shrunk_tree_is_the_same_tree() {
    let frames = frames(64);
    let tables = Tables::new(frames, BASE, true).unwrap();
    tables.map(region(0x1000, 0x1000), Access::Data).unwrap();
    let tables = tables.shrink(&frames[..5]);
    assert!(tables.protection(0x1000).is_some());
    tables
        .map(region(MEGABYTES_2, 0x1000), Access::Data)
        .unwrap();
    assert_eq!(
        tables.map(region(2 * MEGABYTES_2, 0x1000), Access::Data),
        Err(Refusal::OutOfTables)
    );
}

#[test]
fn hundreds_of_gigabytes_need_a_table_each_or_none() {
    let memory = region(4 * GIGABYTE, 600 * GIGABYTE);
    let small = tables(700, false);
    small.map(memory, Access::Data).unwrap();
    assert_eq!(small.used(), 1 + 2 + 600);
    let large = tables(4, true);
    large.map(memory, Access::Data).unwrap();
    assert_eq!(large.used(), 1 + 2);
}

proptest! {
    /// Page by page against a plain list of what was mapped.
    #[test]
    fn the_tables_say_what_was_mapped(
        ranges in prop::collection::vec((0u64..2000, 1u64..1500, 0usize..4), 1..12),
        gigabyte_pages in any::<bool>(),
    ) {
        const KINDS: [Access; 4] = [Access::Code, Access::ReadOnly, Access::Data, Access::Device];
        let tables = tables(64, gigabyte_pages);
        let mut model = std::vec![None; 4096];
        for (first, count, kind) in ranges {
            let access = KINDS[kind];
            let pages = first as usize..(first + count) as usize;
            let free = model[pages.clone()].iter().all(|known| known.is_none_or(|known| known == access));
            let outcome = tables.map(region(first * PAGE, count * PAGE), access);
            prop_assert_eq!(outcome.is_ok(), free);
            // A refused range is mapped up to the conflict.
            for page in pages {
                match model[page] {
                    None => model[page] = Some(access),
                    Some(known) if known == access => {}
                    Some(_) => break,
                }
            }
        }
        for (page, expected) in model.iter().enumerate() {
            let found = tables.protection(page as u64 * PAGE);
            let rights = found.map(|page| (page.writable, page.executable, page.cached, page.user));
            let expected = expected.map(|access| match access {
                Access::Code => (false, true, true, false),
                Access::ReadOnly => (false, false, true, false),
                Access::Data => (true, false, true, false),
                Access::Device => (true, false, false, false),
            });
            prop_assert_eq!(rights, expected, "page {}", page);
        }
    }
}
