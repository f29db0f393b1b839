//! The start infos, each with one flaw.

/// Where the data is put: RAM below the program on every machine, and not page 0.
pub(crate) const WORKPLACE: u32 = 0x9_0000;

/// A name as the command line gives it, and the data.
#[repr(C)]
pub(crate) struct Flaw {
    /// NUL-terminated.
    name: [u8; 16],
    /// What EBX shall hold.
    start_info_address: u32,
    padding: u32,
    data: StartData,
}

/// What is copied to [`WORKPLACE`]: `struct hvm_start_info` and one entry of each of its lists.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct StartData {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
    range_start: u64,
    range_size: u64,
    range_kind: u32,
    range_reserved: u32,
    module_start: u64,
    module_size: u64,
    module_command_line: u64,
    module_reserved: u64,
}

const _: () = assert!(size_of::<StartData>() == 56 + 24 + 32);

/// Without a flaw: 32 MiB of RAM and nothing else.
const GOOD: StartData = StartData {
    magic: 0x336e_c578,
    version: 1,
    flags: 0,
    module_count: 0,
    module_list: WORKPLACE as u64 + 56 + 24,
    command_line: 0,
    rsdp: 0,
    memory_map: WORKPLACE as u64 + 56,
    memory_map_entries: 1,
    reserved: 0,
    range_start: 0,
    range_size: 32 << 20,
    range_kind: 1,
    range_reserved: 0,
    module_start: 0xf000_0000,
    module_size: 0x1000,
    module_command_line: 0,
    module_reserved: 0,
};

pub(crate) const COUNT: usize = 13;

pub(crate) static FLAWS: [Flaw; COUNT] = [
    flaw(b"good", GOOD),
    flaw(
        b"magic",
        StartData {
            magic: 0xdead_beef,
            ..GOOD
        },
    ),
    flaw(b"version-0", StartData { version: 0, ..GOOD }),
    flaw(
        b"no-map",
        StartData {
            memory_map_entries: 0,
            ..GOOD
        },
    ),
    Flaw {
        start_info_address: 0,
        ..flaw(b"null", GOOD)
    },
    flaw(
        b"map-size",
        StartData {
            memory_map_entries: u32::MAX,
            ..GOOD
        },
    ),
    flaw(
        b"map-address",
        StartData {
            memory_map: 0xffff_ffff_ffff_f000,
            ..GOOD
        },
    ),
    flaw(
        b"ram-overflow",
        StartData {
            range_start: 0x1000,
            range_size: u64::MAX,
            ..GOOD
        },
    ),
    flaw(
        b"no-ram",
        StartData {
            range_kind: 2,
            ..GOOD
        },
    ),
    flaw(
        b"modules",
        StartData {
            module_count: u32::MAX,
            ..GOOD
        },
    ),
    flaw(
        b"module",
        StartData {
            module_count: 1,
            ..GOOD
        },
    ),
    flaw(
        b"module-overlap",
        StartData {
            module_count: 1,
            module_start: 0x10_0000,
            ..GOOD
        },
    ),
    flaw(
        b"command-line",
        StartData {
            command_line: 1 << 32,
            ..GOOD
        },
    ),
];

const fn flaw(name: &[u8], data: StartData) -> Flaw {
    let mut padded = [0; 16];
    let mut index = 0;
    while index < name.len() {
        padded[index] = name[index];
        index += 1;
    }
    assert!(name.len() < padded.len());
    Flaw {
        name: padded,
        start_info_address: WORKPLACE,
        padding: 0,
        data,
    }
}
