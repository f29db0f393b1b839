//! Tests of `address_space`: a whole program and machine.

use super::*;
use crate::fake_loader::{COMMAND_LINE, FakeLoader, START_INFO};
use crate::handover::Handover;
use crate::page_tables::Table;
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

const LIMIT: u64 = 1 << 46;

fn layout() -> Layout {
    let guard =
        |index: u64| MemoryRegion::new(0x14_0000 + index * 0x5000, 0x14_1000 + index * 0x5000);
    Layout {
        rodata: MemoryRegion::new(0x10_0000, 0x10_2000),
        text: MemoryRegion::new(0x10_2000, 0x12_0000),
        data: MemoryRegion::new(0x12_0000, 0x18_0000),
        guards: [
            (StackName::Boot, guard(0)),
            (StackName::Interrupt, guard(1)),
            (StackName::Exception, guard(2)),
            (StackName::NonMaskableInterrupt, guard(3)),
            (StackName::DoubleFault, guard(4)),
            (StackName::MachineCheck, guard(5)),
        ],
    }
}

fn boot(map: &[(u64, u64, u32)]) -> BootInfo {
    let loader = FakeLoader::default()
        .put(COMMAND_LINE, [0; 4096])
        .start_info(map, &[]);
    BootInfo::gather(
        &loader,
        Handover::StartInfo {
            address: START_INFO,
        },
        layout().whole(),
        LIMIT,
    )
    .unwrap()
}

fn tables(frames: usize) -> Tables<'static> {
    let frames: Vec<Table> = (0..frames).map(|_| Table::empty()).collect();
    Tables::new(Box::leak(frames.into_boxed_slice()), 0x20_0000, true).unwrap()
}

fn space(map: &[(u64, u64, u32)]) -> AddressSpace<'static> {
    let (boot, tables) = (boot(map), tables(32));
    populate(&tables, &boot, &layout(), 0).unwrap();
    AddressSpace::new(tables, &boot, &layout()).unwrap()
}

#[test]
fn each_part_has_its_protection_and_no_page_has_two() {
    let space = space(&[(0, 0x80_0000, 1)]);
    let layout = layout();
    let guards = layout.guards.map(|(_, guard)| guard);
    for address in (0..0x100_0000).step_by(PAGE as usize) {
        let found = space
            .protection(address)
            .map(|page| (page.writable, page.executable));
        let expected = if address == 0
            || address >= 0x80_0000
            || guards.iter().any(|guard| guard.contains(address))
        {
            None
        } else if layout.text.contains(address) {
            Some((false, true))
        } else if layout.rodata.contains(address) {
            Some((false, false))
        } else {
            Some((true, false))
        };
        assert_eq!(found, expected, "{address:#x}");
    }
}

#[test]
fn the_program_is_mapped_even_where_the_map_has_no_ram() {
    let space = space(&[(0x80_0000, 0x80_0000, 1)]);
    assert!(space.protection(0x10_2000).unwrap().executable);
    assert!(space.protection(0x12_0000).unwrap().writable);
    // So is the command line, to be read.
    assert!(!space.protection(COMMAND_LINE).unwrap().writable);
    assert_eq!(space.protection(COMMAND_LINE + PAGE), None);
}

#[test]
fn memory_and_what_is_unmapped_on_purpose_is_no_device() {
    let space = space(&[(0, 0x80_0000, 1)]);
    for start in [0, 0xfff, 0x5000, 0x10_2000, 0x14_0000, 0x7f_ffff] {
        let error = space.map(start, 1, Access::Device).unwrap_err();
        assert_eq!(error, MapError::NotADevice { start, length: 1 });
    }
    assert_eq!(
        space
            .map(0x7f_ffff, 2, Access::Data)
            .unwrap_err()
            .to_string(),
        "mapping of 2 bytes at 0x7fffff: overlaps RAM, the program or page 0"
    );
}

#[test]
fn a_device_is_mapped_by_the_pages_it_touches() {
    let space = space(&[(0, 0x80_0000, 1)]);
    space.map(0xfee0_0ff0, 0x20, Access::Device).unwrap();
    for address in [0xfee0_0000, 0xfee0_1000] {
        assert!(!space.protection(address).unwrap().cached);
    }
    assert_eq!(space.protection(0xfee0_2000), None);
    assert_eq!(
        space.map(0xfee0_1000, 1, Access::Data),
        Err(MapError::Conflict {
            address: 0xfee0_1000
        })
    );
}

#[test]
fn impossible_ranges_are_refused() {
    let space = space(&[(0, 0x80_0000, 1)]);
    for (start, length) in [
        (0xfee0_0000, 0),
        (u64::MAX, 2),
        (ADDRESS_LIMIT - 0x1000, 0x1001),
        (0xffff_8000_0000_0000, 0x1000),
    ] {
        assert_eq!(
            space.map(start, length, Access::Device),
            Err(MapError::OutOfRange { start, length })
        );
    }
}

#[test]
fn tables_that_do_not_fit_are_an_error_that_says_what_there_was() {
    let outcome = populate(&tables(2), &boot(&[(0, 0x80_0000, 1)]), &layout(), 0x2000);
    assert_eq!(
        outcome,
        Err(BootError::NotEnoughForTables { available: 0x2000 })
    );

    let space = space(&[(0, 0x80_0000, 1)]);
    let start = 1 << 40;
    let length = 1 << 46;
    assert_eq!(
        space.map(start, length, Access::Device),
        Err(MapError::OutOfTables { start, length })
    );
}
