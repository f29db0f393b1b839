//! Why a guest could not start.

use crate::region::{MAX_REGIONS, MemoryRegion};
use crate::start_info::MAGIC;
use core::fmt;

/// What the loader handed over and this crate refuses to believe, or cannot work with.
///
/// Never seen by the program: [`Display`](fmt::Display) goes to the debug port and COM1, then the
/// machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootError {
    /// A structure is at address 0 or past 4 GiB, inside this program, or in page 0 although it is
    /// needed after booting (QEMU does put its memory map there).
    Unreachable {
        what: &'static str,
        address: u64,
        length: u64,
    },
    WrongMagic {
        address: u64,
        found: u32,
    },
    MemoryMapAbsent {
        version: u32,
        entries: u32,
        address: u64,
    },
    /// A multiboot2 boot information contradicts itself, at this address.
    Multiboot2 {
        problem: &'static str,
        address: u64,
    },
    TooMany {
        what: &'static str,
        count: u32,
        limit: u32,
    },
    /// The memory map falls into more pieces than [`MAX_REGIONS`].
    MemoryInPieces,
    RamOverflows {
        entry: u32,
        start: u64,
        size: u64,
    },
    RamBeyondReach {
        entry: u32,
        region: MemoryRegion,
        limit: u64,
    },
    NoUsableRam {
        total: u64,
    },
    CommandLineUnterminated {
        what: &'static str,
        address: u64,
        limit: u64,
    },
    ModuleOverlapsProgram {
        module: u32,
        region: MemoryRegion,
    },
    ModuleOutsideRam {
        module: u32,
        start: u64,
        size: u64,
    },
    NotEnoughForTables {
        available: u64,
    },
    /// Two of the program's own ranges claim one page: `link.x` and this crate disagree.
    LayoutConflict {
        address: u64,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreachable {
                what,
                address,
                length,
            } => write!(
                formatter,
                "{what} at {address:#x}, {length} bytes: must lie below 4 GiB, outside the program, and if it is a command line not in page 0"
            ),
            Self::WrongMagic { address, found } => write!(
                formatter,
                "start info at {address:#x} has magic {found:#010x}, expected {MAGIC:#010x}: was this started through its PVH entry?"
            ),
            Self::MemoryMapAbsent {
                version,
                entries,
                address,
            } => write!(
                formatter,
                "memory map absent: start info version {version}, memmap_entries {entries}, memmap_paddr {address:#x}; \
                 version 1 or newer with a memory map is needed"
            ),
            Self::Multiboot2 { problem, address } => {
                write!(
                    formatter,
                    "multiboot2 information {problem}, at {address:#x}"
                )
            }
            Self::TooMany { what, count, limit } => {
                write!(formatter, "{what} is {count}, the limit is {limit}")
            }
            Self::MemoryInPieces => {
                write!(
                    formatter,
                    "memory map has more than {MAX_REGIONS} separate pieces"
                )
            }
            Self::RamOverflows { entry, start, size } => write!(
                formatter,
                "memory map entry {entry}: RAM at {start:#x} of {size:#x} bytes runs past the end of the address space"
            ),
            Self::RamBeyondReach {
                entry,
                region,
                limit,
            } => write!(
                formatter,
                "memory map entry {entry}: RAM {region} passes {limit:#x}, the last address this processor reaches"
            ),
            Self::NoUsableRam { total } => write!(
                formatter,
                "no usable memory: {total:#x} bytes of RAM, none of it free below 4 GiB"
            ),
            Self::CommandLineUnterminated {
                what,
                address,
                limit,
            } => write!(
                formatter,
                "{what} at {address:#x} has no NUL in its first {limit} bytes"
            ),
            Self::ModuleOverlapsProgram { module, region } => {
                write!(formatter, "module {module} {region} overlaps the program")
            }
            Self::ModuleOutsideRam {
                module,
                start,
                size,
            } => write!(
                formatter,
                "module {module} at {start:#x} of {size:#x} bytes is not in RAM"
            ),
            Self::NotEnoughForTables { available } => write!(
                formatter,
                "page tables do not fit in {available:#x} bytes, the largest free range below 4 GiB"
            ),
            Self::LayoutConflict { address } => write!(
                formatter,
                "two different protections are asked for the page at {address:#x}"
            ),
        }
    }
}

impl core::error::Error for BootError {}
