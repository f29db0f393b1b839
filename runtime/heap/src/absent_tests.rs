//! Pages that come and go: what is absent is neither handed out nor written to.

use super::tests::{Model, free, layout, regions};
use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const POISON: u8 = 0xcd;

fn page(address: usize) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(address)
}

fn poison(run: &Range<usize>) {
    // SAFETY: pages of the test's memory that the heap has no use for.
    unsafe { page(run.start).write_bytes(POISON, run.len()) };
}

fn restore(memory: &mut Memory, run: Range<usize>) {
    // SAFETY: as for `poison`, which wrote all of them.
    let bytes = unsafe { core::slice::from_raw_parts(page(run.start), run.len()) };
    assert!(
        bytes.iter().all(|&byte| byte == POISON),
        "written to while absent"
    );
    // SAFETY: absent, and memory of the test.
    unsafe { memory.restore(run) };
}

/// `pages` pages in one piece, those from `present` on absent.
fn memory(pages: usize, present: usize) -> Memory {
    let regions = regions(&[pages], 0);
    let end = regions[0].start + present * PAGE_SIZE;
    poison(&(end..regions[0].end));
    let mut memory = Memory::new();
    // SAFETY: 1. and 2. fresh memory, never freed. 3. once.
    assert_eq!(unsafe { memory.start(|| regions.iter().cloned(), end) }, 0);
    memory
}

fn restore_all(memory: &mut Memory) {
    while let Some(run) = memory.absent_run(usize::MAX) {
        restore(memory, run);
    }
}

#[test]
fn all_free_memory_can_go_and_come_back() {
    let mut memory = memory(2000, 2000);
    let before = memory.information();
    let kept = memory.alloc(layout(100, 8)).unwrap();
    let mut longest = 0;
    while let Some(run) = memory.withdraw(usize::MAX) {
        assert!(run.len().is_power_of_two() && run.start % run.len() == 0);
        longest = longest.max(run.len());
        poison(&run);
    }
    assert_eq!(longest, 2 << 20);
    let without = memory.information();
    assert_eq!(without.free, 0);
    assert_eq!(without.total + without.absent, before.total);
    assert_eq!(without.total, PAGE_SIZE);
    assert_eq!(memory.alloc(layout(PAGE_SIZE, 8)), None);
    // What is in use still has its memory.
    assert!(memory.alloc(layout(100, 8)).is_some());
    restore_all(&mut memory);
    assert_eq!(memory.information().total, before.total);
    // Joined again: a large block is there.
    assert!(memory.alloc(layout(2 << 20, 8)).is_some());
    // SAFETY: allocated above.
    unsafe { memory.dealloc(kept, layout(100, 8)) };
}

#[test]
fn what_is_absent_from_the_start_is_not_touched_and_can_come() {
    for present in [3, 64, 700, 1535, 1536] {
        let mut memory = memory(2048, present);
        let information = memory.information();
        assert_eq!(information.absent, (2048 - present) * PAGE_SIZE);
        let mut model = Model::default();
        while model.alloc(&mut memory, layout(5000, 8), 1).is_some() {}
        while model.alloc(&mut memory, layout(8, 8), 2).is_some() {}
        model.clear(&mut memory);
        restore_all(&mut memory);
        assert_eq!(memory.information().absent, 0);
        assert_eq!(
            memory.information().total,
            information.total + information.absent
        );
        assert!(memory.alloc(layout(2 << 20, 8)).is_some());
    }
}

#[test]
fn no_more_than_asked_for() {
    let mut memory = memory(1024, 512);
    for most in [1, 2, 3, 7, 63, 64, 100, 511, 512, 513] {
        let run = memory.absent_run(most).unwrap();
        assert!(run.len() <= most * PAGE_SIZE, "{most}");
        let run = memory.withdraw(most).unwrap();
        assert!(run.len() <= most * PAGE_SIZE, "{most}");
        poison(&run);
        restore(&mut memory, run);
    }
    assert_eq!(memory.absent_run(0), None);
    assert_eq!(memory.withdraw(0), None);
}

#[test]
#[should_panic(expected = "not absent")]
fn pages_restored_twice_are_noticed() {
    let mut memory = memory(64, 63);
    let run = memory.absent_run(1).unwrap();
    for _ in 0..2 {
        // SAFETY: not kept, the second time: the point of the test.
        unsafe { memory.restore(run.clone()) };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Dealloc(prop::sample::Index),
    Withdraw(usize),
    Restore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![1..4200_usize, 4200..300_000_usize].prop_map(Step::Alloc),
        3 => any::<prop::sample::Index>().prop_map(Step::Dealloc),
        2 => (1..600_usize).prop_map(Step::Withdraw),
        2 => (1..600_usize).prop_map(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn absent_pages_are_left_alone(
        steps in prop::collection::vec(step(), 1..300),
        pages in 600..1500_usize,
        present in 300..1500_usize,
    ) {
        let mut memory = memory(pages, present.min(pages));
        let whole = memory.information();
        let whole = whole.total + whole.absent;
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Alloc(size) => {
                    model.alloc(&mut memory, layout(size, 8), number as u8);
                }
                Step::Dealloc(index) if !model.0.is_empty() => {
                    let address = *model.0.keys().nth(index.index(model.0.len())).unwrap();
                    model.dealloc(&mut memory, address);
                }
                Step::Dealloc(_) => {}
                Step::Withdraw(most) => {
                    if let Some(run) = memory.withdraw(most) {
                        poison(&run);
                    }
                }
                Step::Restore(most) => {
                    if let Some(run) = memory.absent_run(most) {
                        restore(&mut memory, run);
                    }
                }
            }
            let now = memory.information();
            prop_assert_eq!(now.total + now.absent, whole);
            prop_assert!(now.free <= now.total);
        }
        model.clear(&mut memory);
        restore_all(&mut memory);
        let all: Vec<_> = core::iter::from_fn(|| memory.withdraw(usize::MAX)).collect();
        prop_assert_eq!(all.iter().map(Range::len).sum::<usize>(), whole);
        prop_assert_eq!(free(&mut memory), 0);
    }
}
