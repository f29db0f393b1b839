use super::*;
use alloc::boxed::Box;
use alloc::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pages are numbers; a processor that remembers what it used until it is told to forget.
#[derive(Default)]
struct Fake {
    limit: usize,
    next: u64,
    pages: BTreeSet<u64>,
    tables: usize,
    remembered: BTreeMap<usize, u64>,
}

impl Fake {
    fn with(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    fn used(&self) -> usize {
        self.pages.len() + self.tables
    }
}

impl Backing for Fake {
    fn take_page(&mut self) -> Option<u64> {
        if self.used() == self.limit {
            return None;
        }
        self.next += PAGE_SIZE as u64;
        self.pages.insert(self.next);
        Some(self.next)
    }

    fn give_page_back(&mut self, address: u64) {
        assert!(self.pages.remove(&address), "{address:#x} is not in use");
        let stale = self.remembered.values().find(|page| **page == address);
        assert_eq!(stale, None, "the processor still uses the page");
    }

    fn take_table(&mut self) -> Option<&'static Table> {
        if self.used() == self.limit {
            return None;
        }
        self.tables += 1;
        Some(Box::leak(Box::new(Table::new())))
    }

    fn give_table_back(&mut self, _: &'static Table) {
        self.tables -= 1;
    }

    fn forget(&mut self, address: usize) {
        self.remembered.remove(&address);
    }
}

/// What the processor finds at `address`, walking the tables as it does.
fn translate(space: &Space, fake: &mut Fake, address: usize) -> Option<u64> {
    let root = space.root?;
    let number = |shift: u32| (address >> shift) % 512;
    let directory = space.directories.iter().flatten();
    let upper = root.get(number(30));
    let directory = directory
        .into_iter()
        .find(|table| table.address() | LINK == upper)?;
    let middle = directory.get(number(21));
    let mut tables = space.regions.iter().filter_map(|region| region.table);
    let table = tables.find(|table| table.address() | LINK == middle)?;
    let entry = table.get(number(12));
    (entry & PRESENT != 0).then(|| {
        assert_eq!(entry & !ADDRESS, BACKED);
        fake.remembered.insert(address & !0xfff, entry & ADDRESS);
        entry & ADDRESS
    })
}

#[test]
fn a_touch_backs_one_page_and_dropping_gives_it_back() {
    let (mut space, mut fake) = (Space::new(), Fake::with(100));
    let start = space.issue(5 * PAGE_SIZE, &mut fake).unwrap();
    assert_eq!(translate(&space, &mut fake, start), None);
    assert_eq!((space.backed(), space.tables()), (0, 3 * PAGE_SIZE));
    assert_eq!(space.touch(start + 5000, &mut fake), Touch::Backed);
    assert!(translate(&space, &mut fake, start + 4096).is_some());
    assert_eq!(translate(&space, &mut fake, start), None);
    assert_eq!(space.backed(), PAGE_SIZE);
    assert_eq!(space.touch(start + 5000, &mut fake), Touch::NotOurs);
    space.retire(start, 5 * PAGE_SIZE, &mut fake);
    assert_eq!(translate(&space, &mut fake, start + 4096), None);
    assert_eq!((space.backed(), fake.pages.len()), (0, 0));
    assert_eq!(space.touch(start, &mut fake), Touch::NotOurs);
}

#[test]
fn only_whole_pages_are_released() {
    let (mut space, mut fake) = (Space::new(), Fake::with(100));
    let start = space.issue(4 * PAGE_SIZE, &mut fake).unwrap();
    for page in 0..4 {
        space.touch(start + page * PAGE_SIZE, &mut fake);
    }
    space.release(start + 1..start + 3 * PAGE_SIZE - 1, &mut fake);
    assert_eq!(space.backed(), 3 * PAGE_SIZE);
    assert!(translate(&space, &mut fake, start).is_some());
    assert!(translate(&space, &mut fake, start + PAGE_SIZE).is_none());
    assert_eq!(space.touch(start + PAGE_SIZE, &mut fake), Touch::Backed);
    // Not ours, or no page in it: nothing happens.
    for range in [0..8192, start + 1..start + 4000, usize::MAX - 9..usize::MAX] {
        space.release(range, &mut fake);
    }
    assert_eq!(space.backed(), 4 * PAGE_SIZE);
}

#[test]
fn addresses_outside_of_buffers_are_not_backed() {
    let (mut space, mut fake) = (Space::new(), Fake::with(100));
    let bytes = 3 * PAGE_SIZE;
    let start = space.issue(bytes, &mut fake).unwrap();
    for address in [0, start - 1, start + bytes, BASE + REGION_SIZE, usize::MAX] {
        assert_eq!(space.touch(address, &mut fake), Touch::NotOurs);
    }
    assert_eq!(space.issue(PAGE_SIZE - 1, &mut fake), None);
    assert_eq!(space.issue(REGION_SIZE + 1, &mut fake), None);
}

#[test]
fn without_memory_nothing_changes() {
    let mut space = Space::new();
    for limit in 0..3 {
        assert_eq!(space.issue(PAGE_SIZE, &mut Fake::with(limit)), None);
        space = Space::new();
    }
    let mut fake = Fake::with(4);
    let start = space.issue(2 * PAGE_SIZE, &mut fake).unwrap();
    assert_eq!(space.touch(start, &mut fake), Touch::Backed);
    let next = start + PAGE_SIZE;
    assert_eq!(space.touch(next, &mut fake), Touch::NoMemory);
    space.release(start..next, &mut fake);
    assert_eq!(space.touch(next, &mut fake), Touch::Backed);
}

#[test]
fn tables_of_empty_regions_come_back() {
    let (mut space, mut fake) = (Space::new(), Fake::with(usize::MAX));
    let bytes = 64 << 10;
    let buffers: Vec<_> = (0..20_000)
        .map(|_| space.issue(bytes, &mut fake).unwrap())
        .collect();
    let most = space.tables();
    assert!(most <= 20_000 * bytes / 512 + 4 * PAGE_SIZE, "{most}");
    for start in buffers {
        space.retire(start, bytes, &mut fake);
    }
    // The root, two directories, and one region kept.
    assert_eq!(space.tables(), 4 * PAGE_SIZE);
    let again = space.issue(bytes, &mut fake).unwrap();
    assert!(ADDRESSES.contains(&again));
}

#[derive(Clone, Debug)]
enum Step {
    Issue(usize),
    Retire(prop::sample::Index),
    Touch(prop::sample::Index, prop::sample::Index),
    Release(prop::sample::Index, prop::sample::Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    let bytes = prop_oneof![4096..40_000_usize, 40_000..(2 << 20) + 1_usize];
    prop_oneof![
        2 => bytes.prop_map(Step::Issue),
        1 => any().prop_map(Step::Retire),
        6 => (any(), any()).prop_map(|(buffer, byte)| Step::Touch(buffer, byte)),
        1 => (any(), any(), 0..100_000_usize)
            .prop_map(|(buffer, byte, length)| Step::Release(buffer, byte, length)),
    ]
}

proptest! {
    #[test]
    fn pages_belong_to_one_buffer(steps in prop::collection::vec(step(), 1..200)) {
        let (mut space, mut fake) = (Space::new(), Fake::with(300));
        let mut buffers: Vec<(Range<usize>, BTreeSet<usize>)> = vec![];
        for step in steps {
            let count = buffers.len();
            match step {
                Step::Issue(bytes) => {
                    if let Some(start) = space.issue(bytes, &mut fake) {
                        let range = start..start + bytes;
                        let apart = |(other, _): &(Range<usize>, _)| {
                            other.end.next_multiple_of(4096) <= start || range.end <= other.start
                        };
                        prop_assert!(buffers.iter().all(apart));
                        buffers.push((range, BTreeSet::new()));
                    }
                }
                Step::Retire(index) if count > 0 => {
                    let (range, _) = buffers.swap_remove(index.index(count));
                    space.retire(range.start, range.len(), &mut fake);
                }
                Step::Touch(index, byte) if count > 0 => {
                    let (range, backed) = &mut buffers[index.index(count)];
                    let address = range.start + byte.index(range.len());
                    let page = address & !4095;
                    match space.touch(address, &mut fake) {
                        Touch::Backed => prop_assert!(backed.insert(page)),
                        Touch::NotOurs => prop_assert!(backed.contains(&page)),
                        Touch::NoMemory => prop_assert_eq!(fake.used(), 300),
                    }
                }
                Step::Release(index, byte, length) if count > 0 => {
                    let (range, backed) = &mut buffers[index.index(count)];
                    let start = range.start + byte.index(range.len());
                    let end = (start + length).min(range.end);
                    space.release(start..end, &mut fake);
                    backed.retain(|page| *page < start || page + 4096 > end);
                }
                _ => {}
            }
            let backed: usize = buffers.iter().map(|(_, pages)| pages.len()).sum();
            prop_assert_eq!(space.backed(), backed * PAGE_SIZE);
            prop_assert_eq!(fake.pages.len(), backed);
        }
        let mut found = BTreeSet::new();
        {
            for (range, pages) in &buffers {
                for page in range.clone().step_by(PAGE_SIZE) {
                    let there = translate(&space, &mut fake, page);
                    prop_assert_eq!(there.is_some(), pages.contains(&page));
                    if let Some(there) = there {
                        prop_assert!(found.insert(there), "a page backs two");
                    }
                }
            }
        }
        for (range, _) in buffers {
            space.retire(range.start, range.len(), &mut fake);
        }
        prop_assert_eq!(fake.pages.len(), 0);
        prop_assert_eq!(fake.tables * PAGE_SIZE, space.tables());
    }
}
