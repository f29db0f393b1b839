//! Tests of `boot_info`: from loader memory to what the program is told.

use super::*;
use crate::fake_loader::{COMMAND_LINE, FakeLoader, START_INFO};
use proptest::prelude::*;
use std::vec::Vec;

const PROGRAM: MemoryRegion = MemoryRegion::new(0x10_0000, 0x18_0000);
const LIMIT: u64 = 1 << 46;
const RAM: u32 = 1;

fn gather(loader: &FakeLoader) -> Result<BootInfo, BootError> {
    BootInfo::gather(
        loader,
        Handover::StartInfo {
            address: START_INFO,
        },
        PROGRAM,
        LIMIT,
    )
}

fn usable(boot: &BootInfo) -> Vec<(u64, u64)> {
    boot.usable_memory()
        .map(|region| (region.start, region.end))
        .collect()
}

/// The bytes were made from Xen's header by `vectors/start_info.c`.
#[test]
fn data_made_from_xens_header_is_understood() {
    let bytes = include_bytes!("../vectors/start_info.bin");
    let loader = FakeLoader::default().put(0x1_0000, [&bytes[..], &[0xff; 8192]].concat());
    let boot = BootInfo::gather(
        &loader,
        Handover::StartInfo { address: 0x1_0000 },
        PROGRAM,
        LIMIT,
    )
    .unwrap();

    assert_eq!(boot.protocol(), BootProtocol::Pvh { version: 1 });
    assert_eq!(boot.command_line(), b"ip=10.0.2.15/24 log=debug");
    assert_eq!(boot.acpi_rsdp(), Some(0xfc00_8000));
    assert_eq!(boot.total_ram(), 8 << 20);
    let kinds: Vec<u32> = boot.memory_map().iter().map(|entry| entry.kind.0).collect();
    assert_eq!(kinds, [1, 2, 3]);
    assert_eq!(
        boot.modules(),
        [
            Module {
                start: 0x70_0123,
                end: 0x70_468a,
                command_line: b""
            },
            Module {
                start: 0x72_0000,
                end: 0x72_1000,
                command_line: b"second module"
            },
        ]
    );
    assert_eq!(
        usable(&boot),
        [
            (0x1000, 0x1_0000),
            (0x1_1000, 0x10_0000),
            (0x18_0000, 0x70_0000),
            (0x70_5000, 0x72_0000),
            (0x72_1000, 0x80_0000),
        ]
    );
}

#[test]
fn every_ram_range_is_used_and_partial_pages_are_not() {
    let loader = FakeLoader::default().start_info(
        &[
            (0, 0x9_fc00, RAM),
            (1 << 32, 1 << 30, RAM),
            (0x10_0000, 0x70_0000, RAM),
        ],
        &[],
    );
    let boot = gather(&loader).unwrap();
    assert_eq!(boot.total_ram(), 0x9_fc00 + (1 << 30) + 0x70_0000);
    assert_eq!(
        usable(&boot)[1..],
        [
            (0x7000, 0x9_f000),
            (0x18_0000, 0x80_0000),
            (1 << 32, (1 << 32) + (1 << 30)),
        ]
    );
    assert_eq!(
        boot.room_for_tables().unwrap(),
        MemoryRegion::new(0x18_0000, 0x80_0000)
    );
}

#[test]
fn the_tables_come_from_below_four_gigabytes() {
    let high = (FOUR_GIB - 0x2000, 0x10_0000, RAM);
    let boot = gather(&FakeLoader::default().start_info(&[high], &[])).unwrap();
    assert_eq!(
        boot.room_for_tables().unwrap(),
        MemoryRegion::new(FOUR_GIB - 0x2000, FOUR_GIB)
    );
    let boot = gather(&FakeLoader::default().start_info(&[(FOUR_GIB, 1 << 30, RAM)], &[])).unwrap();
    assert_eq!(
        boot.room_for_tables(),
        Err(BootError::NoUsableRam { total: 1 << 30 })
    );
}

#[test]
fn early_tables_come_back_and_final_ones_go() {
    let mut boot =
        gather(&FakeLoader::default().start_info(&[(0x10_0000, 0x70_0000, RAM)], &[])).unwrap();
    boot.settle(
        MemoryRegion::new(0x18_0000, 0x19_0000),
        MemoryRegion::new(0x17_6000, 0x18_0000),
    )
    .unwrap();
    assert_eq!(
        usable(&boot),
        [(0x17_6000, 0x18_0000), (0x19_0000, 0x80_0000)]
    );
}

#[test]
fn early_tables_that_are_not_ram_do_not_come_back() {
    // The program's last page belongs to nobody by this map.
    let map = [(0x10_0000, 0x7_f000, RAM), (0x18_0000, 0x68_0000, RAM)];
    let mut boot = gather(&FakeLoader::default().start_info(&map, &[])).unwrap();
    boot.settle(
        MemoryRegion::new(0x18_0000, 0x19_0000),
        MemoryRegion::new(0x17_6000, 0x18_0000),
    )
    .unwrap();
    assert_eq!(usable(&boot), [(0x19_0000, 0x80_0000)]);
}

#[test]
fn a_wrong_magic_names_both_values() {
    let loader = FakeLoader::default().put(START_INFO, [0xef, 0xbe, 0xad, 0xde].repeat(14));
    let error = gather(&loader).unwrap_err();
    assert_eq!(
        error.to_string(),
        "start info at 0x5000 has magic 0xdeadbeef, expected 0x336ec578: \
         was this started through its PVH entry?"
    );
}

#[test]
fn without_a_memory_map_there_is_no_boot() {
    let absent = gather(&FakeLoader::default().start_info(&[], &[])).unwrap_err();
    assert!(matches!(
        absent,
        BootError::MemoryMapAbsent {
            version: 1,
            entries: 0,
            ..
        }
    ));

    // Version 0 ends after 40 bytes: what follows is not read.
    let mut header = 0x336e_c578_u32.to_le_bytes().to_vec();
    header.resize(40, 0);
    let old = gather(&FakeLoader::default().put(START_INFO, header)).unwrap_err();
    assert_eq!(
        old.to_string(),
        "memory map absent: start info version 0, memmap_entries 0, memmap_paddr 0x0; \
         version 1 or newer with a memory map is needed"
    );
}

#[test]
fn a_start_info_out_of_reach_is_refused() {
    for address in [0, START_INFO + 1, u64::MAX - 3] {
        let loader = FakeLoader::default().put(START_INFO, [0; 40]);
        assert_eq!(
            BootInfo::gather(&loader, Handover::StartInfo { address }, PROGRAM, LIMIT).unwrap_err(),
            BootError::Unreachable {
                what: "start info",
                address,
                length: 40
            }
        );
    }
}

#[test]
fn too_many_entries_are_refused_before_they_are_read() {
    let map = [(0, 0x80_0000, RAM); 129];
    assert_eq!(
        gather(&FakeLoader::default().start_info(&map, &[])).unwrap_err(),
        BootError::TooMany {
            what: "memmap_entries",
            count: 129,
            limit: 128
        }
    );
    let modules = [(0x40_0000, 1, 0); 17];
    assert_eq!(
        gather(&FakeLoader::default().start_info(&map[..1], &modules)).unwrap_err(),
        BootError::TooMany {
            what: "nr_modules",
            count: 17,
            limit: 16
        }
    );
}

#[test]
fn modules_must_be_in_ram_and_apart_from_the_program() {
    let with = |module| {
        gather(&FakeLoader::default().start_info(&[(0, 0x80_0000, RAM)], &[module])).unwrap_err()
    };
    for (start, size) in [
        (0x7f_f000, 0x1001),
        (0xf000_0000, 0x1000),
        (u64::MAX, 2),
        (0, 4),
    ] {
        assert_eq!(
            with((start, size, 0)),
            BootError::ModuleOutsideRam {
                module: 0,
                start,
                size
            }
        );
    }
    assert!(matches!(
        with((0x0f_ffff, 2, 0)),
        BootError::ModuleOverlapsProgram { module: 0, .. }
    ));
    assert!(matches!(
        with((0x40_0000, 2, 0x77_0000)),
        BootError::Unreachable {
            what: "module command line",
            ..
        }
    ));
}

#[test]
fn a_command_line_ends_at_its_nul_or_is_refused() {
    let ram = [(0, 0x80_0000, RAM)];
    let longest = [&[b'x'; MAX_COMMAND_LINE as usize - 1][..], &[0; 4096]].concat();
    let boot = gather(
        &FakeLoader::default()
            .put(COMMAND_LINE, longest)
            .start_info(&ram, &[]),
    )
    .unwrap();
    assert_eq!(boot.command_line().len() as u64, MAX_COMMAND_LINE - 1);

    let endless = FakeLoader::default()
        .put(COMMAND_LINE, [b'x'; 0x1_0000])
        .start_info(&ram, &[]);
    assert!(matches!(
        gather(&endless).unwrap_err(),
        BootError::CommandLineUnterminated {
            what: "command line",
            ..
        }
    ));
}

#[test]
fn a_command_line_outside_ram_is_to_be_mapped() {
    let loader = FakeLoader::default()
        .put(COMMAND_LINE, [0; 4096])
        .start_info(&[(0x10_0000, 0x70_0000, RAM)], &[]);
    let boot = gather(&loader).unwrap();
    assert_eq!(
        boot.command_lines_outside_ram().unwrap().as_slice(),
        [MemoryRegion::new(COMMAND_LINE, COMMAND_LINE + 4096)]
    );
}

proptest! {
    /// Whatever the loader says, usable memory is whole pages of RAM apart from everything known.
    #[test]
    fn usable_memory_is_free(
        map in prop::collection::vec((0u64..0x100, 0u64..0x100, 1u32..3), 1..20),
        modules in prop::collection::vec((0u64..0x100, 0u64..0x10), 0..4),
    ) {
        let map: Vec<_> = map.iter().map(|&(start, size, kind)| (start * 0x8800, size * 0x8800, kind)).collect();
        let modules: Vec<_> = modules.iter().map(|&(start, size)| (start * 0x8000, size * 0x800, 0)).collect();
        let loader = FakeLoader::default().put(COMMAND_LINE, [0; 4096]).start_info(&map, &modules);
        if let Ok(boot) = gather(&loader) {
            for region in boot.usable_memory() {
                prop_assert!(region.start % PAGE == 0 && region.end % PAGE == 0);
                prop_assert!(boot.ram().covers(region));
                prop_assert!(!region.contains(0) && !region.overlaps(PROGRAM));
                prop_assert!(!region.contains(START_INFO) && !region.contains(COMMAND_LINE));
                for module in boot.modules().iter().filter(|module| module.start < module.end) {
                    prop_assert!(!region.overlaps(MemoryRegion::new(module.start, module.end)));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        header in prop::collection::vec(any::<u8>(), 48),
        lists in prop::collection::vec(any::<u8>(), 8192),
    ) {
        let mut start_info = [0x336e_c578_u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
        start_info.extend(&header);
        // Pointers that mostly lead somewhere.
        for field in [16, 24, 40] {
            start_info[field + 2..field + 8].fill(0);
        }
        start_info[13..16].fill(0);
        start_info[49..52].fill(0);
        let loader = FakeLoader::default().put(START_INFO, start_info).put(0x6000, lists);
        let _outcome = gather(&loader);
    }
}
