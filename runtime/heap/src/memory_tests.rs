use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Pieces of fresh memory of `sizes` pages, the first `skip` pages after a multiple of 2 MiB.
pub(super) fn regions(sizes: &[usize], skip: usize) -> Vec<Range<usize>> {
    const ALIGN: usize = 2 << 20;
    let total = sizes.iter().sum::<usize>() + sizes.len() + skip;
    let layout = Layout::from_size_align(total * PAGE_SIZE, ALIGN).unwrap();
    // SAFETY: the layout is not empty.
    let start = unsafe { std::alloc::alloc(layout) }.expose_provenance();
    let mut next = start + skip * PAGE_SIZE;
    sizes
        .iter()
        .map(|pages| {
            let region = next..next + pages * PAGE_SIZE;
            next = region.end + PAGE_SIZE;
            region
        })
        .collect()
}

/// A heap of such memory.
fn memory(sizes: &[usize], skip: usize) -> Memory {
    let regions = regions(sizes, skip);
    let mut memory = Memory::new();
    // SAFETY: 1. and 2. fresh memory, never freed. 3. once.
    let left_out = unsafe { memory.start(|| regions.iter().cloned(), usize::MAX) };
    assert_eq!(left_out, 0);
    memory
}

pub(super) fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// Memory in use, and what was written to it.
pub(super) struct Held {
    layout: Layout,
    mark: u8,
}

/// Allocations by address: fails on overlaps, wrong alignment and changed content.
#[derive(Default)]
pub(super) struct Model(pub(super) BTreeMap<usize, Held>);

impl Model {
    pub(super) fn alloc(&mut self, memory: &mut Memory, layout: Layout, mark: u8) -> Option<usize> {
        let start = memory.alloc(layout)?;
        let address = start.addr().get();
        assert_eq!(address % layout.align(), 0);
        let before = self.0.range(..address + layout.size().max(1)).next_back();
        if let Some((other, held)) = before {
            assert!(other + held.layout.size().max(1) <= address, "overlap");
        }
        // SAFETY: the memory was just handed out, for so many bytes.
        unsafe { start.write_bytes(mark, layout.size()) };
        self.0.insert(address, Held { layout, mark });
        Some(address)
    }

    pub(super) fn dealloc(&mut self, memory: &mut Memory, address: usize) {
        let held = self.0.remove(&address).unwrap();
        let start: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: handed out, for so many bytes, which `alloc` wrote.
        let bytes = unsafe { core::slice::from_raw_parts(start, held.layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == held.mark), "overwritten");
        // SAFETY: from `alloc` with this layout, and removed from the model.
        unsafe { memory.dealloc(NonNull::new(start).unwrap(), held.layout) };
    }

    pub(super) fn clear(&mut self, memory: &mut Memory) {
        while let Some((&address, _)) = self.0.first_key_value() {
            self.dealloc(memory, address);
        }
    }
}

/// The bytes that no request has; what the heap keeps at hand is given back first.
pub(super) fn free(memory: &mut Memory) -> usize {
    memory.slabs.give_empty_slabs_back(&mut memory.pages);
    memory.information().free
}

#[test]
fn every_size_fits_and_comes_back() {
    let mut memory = memory(&[1024], 3);
    let all = free(&mut memory);
    let mut model = Model::default();
    for size in (0..5000).chain((5000..300_000).step_by(997)) {
        for align in [1, 8, 16, 32, 256, 4096, 16384] {
            let address = model.alloc(&mut memory, layout(size, align), size as u8);
            let address = address.expect("4 MiB have room for one allocation");
            model.dealloc(&mut memory, address);
        }
    }
    assert_eq!(free(&mut memory), all);
}

#[test]
fn all_of_ram_can_be_had_in_any_size() {
    for size in [16, 100, 1536, 3000, 4096, 20_000, 65_536, 131_072] {
        let mut memory = memory(&[700, 90, 7], 5);
        let all = free(&mut memory);
        let mut model = Model::default();
        while model.alloc(&mut memory, layout(size, 8), 7).is_some() {}
        let used: usize = model.0.values().map(|held| held.layout.size()).sum();
        // Long runs leave ragged ends, small objects an eighth at most.
        let least = if size < 5000 {
            all / 8 * 7 - 40_000
        } else {
            all / 2
        };
        assert!(used >= least, "{size}: {used} of {all}");
        model.clear(&mut memory);
        assert_eq!(free(&mut memory), all, "{size}");
        // Not lost to that size: the largest block is there again.
        assert!(model.alloc(&mut memory, layout(1 << 20, 8), 1).is_some());
    }
}

#[test]
fn empty_slabs_serve_other_sizes_when_memory_runs_out() {
    let mut memory = memory(&[64], 0);
    let mut model = Model::default();
    for class in (16..=3584).step_by(16) {
        let address = model.alloc(&mut memory, layout(class, 8), 1).unwrap();
        model.dealloc(&mut memory, address);
    }
    // An empty slab of each class is kept; none of them stands in the way of the last page.
    let mut pages = 0;
    while model.alloc(&mut memory, layout(4096, 8), 2).is_some() {
        pages += 1;
    }
    assert_eq!(
        pages, 61,
        "one page is for the windows, two are for small requests"
    );
    assert!(model.alloc(&mut memory, layout(100, 8), 3).is_some());
}

#[test]
fn growing_within_what_was_rounded_up_stays_in_place() {
    let grows = |from, to| Memory::fits_the_same_place(layout(from, 1), layout(to, 1));
    assert!(grows(1400, 1500));
    assert!(!grows(1500, 1600));
    assert!(grows(5000, 8192));
    assert!(!grows(8192, 8193));
    assert!(!grows(1 << 20, (1 << 20) + 1));
}

#[test]
fn ram_too_small_for_the_windows_gives_nothing_and_loses_nothing() {
    let mut memory = memory(&[1, 1], 0);
    let all = free(&mut memory);
    for size in [1, 4096] {
        assert_eq!(memory.alloc(layout(size, 1)), None);
    }
    assert_eq!(free(&mut memory), all);
}

#[test]
fn far_pieces_of_ram_are_told_apart() {
    let mut pages = Pages::new();
    let far = |number: usize| number << 40..(number << 40) + 0x8_0000;
    let layout: Vec<_> = (1..=10).map(far).collect();
    // Only the arithmetic: nothing is written there.
    assert_eq!(pages.lay_out_for_test(layout.into_iter()), 8 * 2);
}

#[test]
#[should_panic(expected = "not in use")]
fn a_page_freed_twice_is_noticed() {
    let mut memory = memory(&[64], 0);
    let page = memory.alloc(layout(4096, 4096)).unwrap();
    for _ in 0..2 {
        // SAFETY: not kept, the second time: the point of the test.
        unsafe { memory.dealloc(page, layout(4096, 4096)) };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize, usize),
    Dealloc(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        6 => 0..200_usize,
        6 => 200..4200_usize,
        3 => 4200..140_000_usize,
        1 => 140_000..600_000_usize,
    ];
    prop_oneof![
        5 => (size, 0..15_u32).prop_map(|(size, align)| Step::Alloc(size, 1 << align)),
        4 => any::<prop::sample::Index>().prop_map(Step::Dealloc),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_overlaps_and_all_comes_back(
        steps in prop::collection::vec(step(), 1..400),
        pieces in prop::collection::vec(1..400_usize, 1..5),
        skip in 0..70_usize,
    ) {
        let mut memory = memory(&pieces, skip);
        let all = free(&mut memory);
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Alloc(size, align) => {
                    model.alloc(&mut memory, layout(size, align), number as u8);
                }
                Step::Dealloc(index) if !model.0.is_empty() => {
                    let address = *model.0.keys().nth(index.index(model.0.len())).unwrap();
                    model.dealloc(&mut memory, address);
                }
                Step::Dealloc(_) => {}
            }
            let information = memory.information();
            prop_assert!(information.free <= information.total);
        }
        model.clear(&mut memory);
        prop_assert_eq!(free(&mut memory), all);
    }
}
