//! From a boot information, as GRUB leaves one or nobody would, to what the program is told.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::boot_info::Module;
use crate::fake_loader::FakeLoader;
use crate::handover::Handover;
use crate::multiboot2::LONGEST;

const PROGRAM: MemoryRegion = MemoryRegion::new(0x10_0000, 0x18_0000);
const LIMIT: u64 = 1 << 46;
const ADDRESS: u64 = 0x20_0000;
const END: (u32, &[u8]) = (0, &[]);

/// A boot information with these tags, (kind, body), padded as the specification says.
fn information(tags: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = std::vec![0; 8];
    for &(kind, body) in tags {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((8 + body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0xee);
    }
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// The body of a memory map tag with entries of `entry_size` bytes.
fn map(entry_size: u32, ranges: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut body = [entry_size.to_le_bytes(), [0; 4]].concat();
    for &(start, size, kind) in ranges {
        let entry = body.len();
        body.extend(start.to_le_bytes());
        body.extend(size.to_le_bytes());
        body.extend(kind.to_le_bytes());
        body.resize(entry + entry_size as usize, 0xcc);
    }
    body
}

fn module(start: u32, end: u32, text: &[u8]) -> Vec<u8> {
    [&start.to_le_bytes(), &end.to_le_bytes(), text].concat()
}

fn gather(address: u64, bytes: &[u8]) -> Result<BootInfo, BootError> {
    let loader = FakeLoader::default().put(address, bytes);
    BootInfo::gather(&loader, Handover::Multiboot2 { address }, PROGRAM, LIMIT)
}

fn usual_map() -> Vec<u8> {
    map(24, &[(0, 0x9_f000, 1), (0x10_0000, 0x70_0000, 1)])
}

#[test]
fn what_grub_leaves_is_understood() {
    let bytes = information(&[
        (21, &[0, 0, 0x10, 0]),
        (1, b"ip=10.0.2.15/24 log=debug\0"),
        (2, b"GRUB 2.06\0"),
        (3, &module(0x30_0000, 0x30_1234, b"first\0")),
        (14, b"RSD PTR of 20 bytes.."),
        (15, b"RSD PTR of 36 bytes.................."),
        (6, &usual_map()),
        END,
    ]);
    let size = bytes.len() as u64;
    let boot = gather(ADDRESS, &bytes).unwrap();

    assert_eq!(boot.protocol(), BootProtocol::Multiboot2);
    assert_eq!(boot.command_line(), b"ip=10.0.2.15/24 log=debug");
    assert_eq!(boot.total_ram(), 0x9_f000 + 0x70_0000);
    assert_eq!(
        boot.modules(),
        [Module {
            start: 0x30_0000,
            end: 0x30_1234,
            command_line: b"first",
        }]
    );
    let rsdp = boot.acpi_rsdp().unwrap();
    let position = (rsdp - ADDRESS) as usize;
    assert!(bytes[position..].starts_with(b"RSD PTR of 36"));

    let usable: Vec<_> = boot.usable_memory().collect();
    assert!(size < 4096);
    assert_eq!(
        usable,
        [
            MemoryRegion::new(0x1000, 0x9_f000),
            MemoryRegion::new(0x18_0000, ADDRESS),
            MemoryRegion::new(ADDRESS + 0x1000, 0x30_0000),
            MemoryRegion::new(0x30_2000, 0x80_0000),
        ]
    );
}

#[test]
fn longer_entries_of_a_later_version_are_skipped_over() {
    let bytes = information(&[(6, &map(32, &[(0x10_0000, 0x70_0000, 1)])), END]);
    assert_eq!(gather(ADDRESS, &bytes).unwrap().total_ram(), 0x70_0000);
}

#[test]
fn the_newer_root_pointer_counts_whatever_the_order() {
    let tags: [(u32, &[u8]); 4] = [(15, b"new"), (14, b"old"), (6, &usual_map()), END];
    let boot = gather(ADDRESS, &information(&tags)).unwrap();
    assert_eq!(boot.acpi_rsdp(), Some(ADDRESS + 16));
}

/// The pages are mapped once the final tables stand, also where they are no RAM.
#[test]
fn a_command_line_outside_of_ram_stays_reachable() {
    const HIGH: u64 = 0xf000_0000;
    let bytes = information(&[(1, b"a=b\0"), (6, &usual_map()), END]);
    let boot = gather(HIGH, &bytes).unwrap();
    assert_eq!(boot.command_line(), b"a=b");
    assert_eq!(
        boot.command_lines_outside_ram().unwrap().as_slice(),
        [MemoryRegion::new(HIGH, HIGH + 0x1000)]
    );
}

#[track_caller]
fn refused(tags: &[(u32, &[u8])], text: &str) {
    let error = gather(ADDRESS, &information(tags)).unwrap_err();
    let message = std::format!("{error}");
    assert!(message.contains(text), "{message}");
}

#[test]
fn flaws_are_named() {
    let map = usual_map();
    refused(&[END], "no memory map");
    refused(&[(6, &map)], "ends without a tag of kind 0");
    refused(&[(1, b"endless"), (6, &map), END], "without a NUL");
    refused(&[(6, &map[..7]), END], "memory map that is cut short");
    refused(&[(6, &map[..30]), END], "memory map that is cut short");
    refused(&[(6, &[0; 32]), END], "memory map that is cut short");
    refused(&[(3, &[0; 7]), (6, &map), END], "module that is cut short");
    refused(
        &[(3, &module(0x30_0000, 0x30_0000, b"x")), (6, &map), END],
        "module that is cut short",
    );
    refused(
        &[(3, &module(0x10_0000, 0x10_1000, b"\0")), (6, &map), END],
        "overlaps the program",
    );
    refused(
        &[
            (3, &module(0xf000_0000, 0xf000_1000, b"\0")),
            (6, &map),
            END,
        ],
        "not in RAM",
    );
    let modules: Vec<_> = (0..17)
        .map(|index| {
            module(
                0x30_0000 + index * 0x1000,
                0x30_1000 + index * 0x1000,
                b"\0",
            )
        })
        .collect();
    let mut tags: Vec<(u32, &[u8])> = std::vec![(6, &map)];
    tags.extend(modules.iter().map(|body| (3, &body[..])));
    tags.push(END);
    refused(&tags, "number of modules is 17, the limit is 16");
    let ranges: Vec<_> = (0..129).map(|index| (index << 12, 4096, 1)).collect();
    refused(
        &[(6, &self::map(24, &ranges)), END],
        "is 129, the limit is 128",
    );
    let long = [&[b'x'; 16 * 1024][..], b"\0"].concat();
    refused(&[(1, &long), (6, &map), END], "command line");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let whole = information(&[(6, &usual_map()), END]);
    let with = |offset: usize, value: u32| {
        let mut bytes = whole.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        gather(ADDRESS, &bytes)
    };
    for size in [0, 7, 8, 15, whole.len() as u32 + 8, LONGEST + 1, u32::MAX] {
        assert!(with(0, size).is_err(), "total_size {size}");
    }
    for size in [0, 7, 8, whole.len() as u32 + 1, u32::MAX - 7, u32::MAX] {
        assert!(with(12, size).is_err(), "size {size} of a tag");
    }
    for address in [0, 8, ADDRESS + 4] {
        assert!(gather(address, &whole).is_err(), "at {address:#x}");
    }
}

proptest! {
    /// Any bytes at all: an answer or an error, and what is usable is RAM outside of the program.
    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 16..512), tag in 0u32..24) {
        let size = bytes.len() as u32;
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        bytes[8..12].copy_from_slice(&tag.to_le_bytes());
        let _whatever = gather(ADDRESS, &bytes);
    }

    /// A good information with one byte changed.
    #[test]
    fn one_wrong_byte_is_survived(position in 0usize..160, value: u8) {
        let mut bytes = information(&[
            (1, b"ip=10.0.2.15/24\0"),
            (3, &module(0x30_0000, 0x30_1234, b"first\0")),
            (6, &usual_map()),
            END,
        ]);
        let position = position % bytes.len();
        bytes[position] = value;
        if let Ok(boot) = gather(ADDRESS, &bytes) {
            for region in boot.usable_memory() {
                prop_assert!(!region.overlaps(PROGRAM));
                prop_assert!(boot.ram().covers(region));
            }
        }
    }
}
