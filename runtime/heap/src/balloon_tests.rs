use super::*;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn heap(total: usize, free: usize, absent: usize) -> Information {
    Information {
        total,
        free,
        absent,
    }
}

#[test]
fn only_a_guest_with_less_than_its_ram_has_absent_pages_at_the_start() {
    let pages = |mib: u64| mib * 256;
    let ram = 128 << 20;
    // What xl gives: RAM and the pages beside it.
    assert_eq!(absent_at_start(ram, pages(128) + 12), 0);
    assert_eq!(absent_at_start(ram, pages(128)), 0);
    assert_eq!(
        absent_at_start(ram, pages(32) + 12),
        (96 << 20) - (12 << 12) + OUTSIDE_RAM
    );
    assert_eq!(absent_at_start(ram, 0), ram);
    assert_eq!(absent_at_start(ram, u64::MAX), 0);
}

#[test]
fn targets_are_parsed_and_refused() {
    let wanted = |maximum, target| wanted(maximum, "0", target);
    let refused = |maximum, target| wanted(maximum, target).unwrap_err().to_string();
    assert_eq!(wanted("131072", "65536"), Ok(64 * MIB));
    assert_eq!(wanted("131072", "131072"), Ok(0));
    assert_eq!(wanted("131072", "131070"), Ok(0));
    assert_eq!(
        refused("131072", "131073"),
        "131073 KiB are more than the maximum of 131072 KiB"
    );
    assert_eq!(refused("131072", "0"), "0 KiB are too few for any guest");
    for garbage in [
        "",
        "-1",
        "+4096",
        "4096 ",
        "0x1000",
        "99999999999999999999999",
        "\u{e9}",
    ] {
        assert_eq!(
            wanted("131072", garbage),
            Err(TargetError::NotANumber { value: garbage })
        );
    }
    assert!(wanted("", "65536").is_err());
    assert!(super::wanted("131072", "", "65536").is_err());
    assert_eq!(super::wanted("131072", "8192", "122880"), Ok(0));
    assert_eq!(super::wanted("131072", "8192", "65536"), Ok(56 * MIB));
    assert!(super::wanted("131072", "999999", "65536").is_err());
    let long = "\u{e9}".repeat(4000);
    assert!(refused("131072", &long).len() < 120);
}

#[test]
fn runs_are_aligned_and_cover_the_range() {
    for range in [
        0x1000..0x1000,
        0x1000..0x9000,
        0x1f_f000..0x60_1000,
        0..0x40_0000,
        0x7ff_f000..0x1_2345_6000,
    ] {
        let mut next = range.start;
        for run in runs(range.clone()) {
            assert_eq!(run.start, next);
            assert!(run.len().is_power_of_two() && run.start % run.len() == 0);
            assert!((PAGE_SIZE..=LARGE_SIZE).contains(&run.len()));
            next = run.end;
        }
        assert_eq!(next, range.end);
    }
    assert_eq!(runs(0x1f_f000..0x60_1000).count(), 4);
}

#[test]
fn the_reserve_is_kept_and_told() {
    let mut balloon = Balloon::default();
    assert!(balloon.aim(32 * MIB));
    assert!(!balloon.aim(32 * MIB));
    assert_eq!(
        balloon.step(&heap(64 * MIB, 60 * MIB, 0)),
        Step::GiveBack(BATCH)
    );
    assert_eq!(
        balloon.step(&heap(32 * MIB, 28 * MIB, 32 * MIB)),
        Step::Done
    );
    let step = balloon.step(&heap(40 * MIB, 5 * MIB, 24 * MIB));
    let Step::Short(shortage) = step else {
        panic!("{step:?}");
    };
    let message: String = shortage.to_string();
    assert_eq!(
        message,
        "8192 KiB more are wanted, but of the heap only 5120 KiB are free, of which 5120 KiB stay so"
    );
    // A page beyond the reserve is not worth a step, but the last page is.
    let little = heap(40 * MIB, 5 * MIB + PAGE_SIZE, 24 * MIB);
    assert!(matches!(balloon.step(&little), Step::Short(_)));
    let last = heap(40 * MIB, 5 * MIB + PAGE_SIZE, 32 * MIB - PAGE_SIZE);
    assert_eq!(balloon.step(&last), Step::GiveBack(1));
    assert_eq!(
        balloon.step(&heap(8 * MIB, 8 * MIB, 33 * MIB)),
        Step::Take(256)
    );
}

#[test]
fn pauses_grow_and_only_the_first_miss_is_told() {
    let mut balloon = Balloon::default();
    balloon.aim(MIB);
    let told: Vec<_> = (0..40).map(|_| balloon.missed()).collect();
    assert_eq!(told[0], (FIRST_PAUSE, true));
    assert_eq!(told[1], (2 * FIRST_PAUSE, false));
    assert_eq!(told[39], (LAST_PAUSE, false));
    balloon.progressed();
    assert_eq!(balloon.missed(), (FIRST_PAUSE, true));
    balloon.aim(2 * MIB);
    assert_eq!(balloon.missed(), (FIRST_PAUSE, true));
}

proptest! {
    /// Whatever the host wants and the program holds, it ends: at what is wanted, or with the
    /// reserve untouched.
    #[test]
    fn every_aim_is_reached_or_refused(
        total in 8 * MIB..96 * MIB,
        held in 0..96 * MIB,
        aims in prop::collection::vec(0..128 * MIB, 1..6),
    ) {
        let total = total & !(PAGE_SIZE - 1);
        let mut heap = heap(total, total.saturating_sub(held) & !(PAGE_SIZE - 1), 0);
        let mut balloon = Balloon::default();
        for aim in aims {
            balloon.aim(aim & !(PAGE_SIZE - 1));
            loop {
                match balloon.step(&heap) {
                    Step::Done => {
                        prop_assert_eq!(heap.absent, aim & !(PAGE_SIZE - 1));
                        break;
                    }
                    Step::GiveBack(pages) => {
                        prop_assert!((1..=BATCH).contains(&pages));
                        let bytes = pages * PAGE_SIZE;
                        prop_assert!(heap.free - bytes >= reserve(heap.total));
                        heap.total -= bytes;
                        heap.free -= bytes;
                        heap.absent += bytes;
                    }
                    Step::Take(pages) => {
                        let bytes = pages * PAGE_SIZE;
                        heap.total += bytes;
                        heap.free += bytes;
                        heap.absent -= bytes;
                    }
                    Step::Short(shortage) => {
                        prop_assert!(shortage.free < shortage.reserve + LEAST);
                        break;
                    }
                }
            }
        }
    }
}
