//! What a multiboot2 loader leaves: a header, then tags, each with a kind and a size.
//!
//! Source: Multiboot2 Specification version 2.0, section 3.6. All fields are little-endian; tags
//! begin at multiples of 8.

use crate::error::BootError;
use crate::handover::LoaderMemory;
use crate::start_info::{MapEntry, read_u32};

/// Longest boot information that is believed, in bytes. GRUB's has a few KiB, with a firmware's
/// memory map and tables in it.
pub(crate) const LONGEST: u32 = 256 << 10;

const HEADER_SIZE: usize = 8;
const TAG_HEADER_SIZE: usize = 8;
const MODULE_HEADER_SIZE: usize = 8;
const MAP_HEADER_SIZE: usize = 8;
const MAP_ENTRY_SIZE: u32 = 24;

const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const ACPI_OLD_RSDP: u32 = 14;
const ACPI_NEW_RSDP: u32 = 15;

/// The whole boot information.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Information {
    address: u64,
    bytes: &'static [u8],
}

/// What a tag says that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Without its NUL.
    CommandLine(&'static [u8]),
    /// A file, by the addresses of its first byte and of the byte past its last. Not checked.
    Module {
        start: u64,
        end: u64,
        command_line: &'static [u8],
    },
    MemoryMap(MemoryMap),
    /// Physical address of the loader's copy of the ACPI root pointer.
    Rsdp {
        address: u64,
        newer: bool,
    },
    /// One of which nothing is wanted.
    Other,
}

/// The entries of a memory map: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryMap {
    entries: &'static [u8],
    entry_size: u32,
}

impl Information {
    /// Reads the size at `address`, then the whole.
    pub(crate) fn read(memory: &impl LoaderMemory, address: u64) -> Result<Self, BootError> {
        const WHAT: &str = "multiboot2 information";
        let header = memory.structure(WHAT, address, HEADER_SIZE as u64)?;
        let size = read_u32(header, 0);
        if size > LONGEST {
            return Err(BootError::TooMany {
                what: "total_size of the multiboot2 information",
                count: size,
                limit: LONGEST,
            });
        }
        if (size as usize) < HEADER_SIZE || !address.is_multiple_of(8) {
            return Err(BootError::Multiboot2 {
                problem: "is not aligned to 8, or too short for its own header",
                address,
            });
        }
        let bytes = memory.structure(WHAT, address, u64::from(size))?;
        Ok(Self { address, bytes })
    }

    /// Where it lies.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// How long it is, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Where `part`, of this information, lies.
    pub(crate) fn address_of(&self, part: &[u8]) -> u64 {
        let offset = part.as_ptr().addr() - self.bytes.as_ptr().addr();
        self.address + offset as u64
    }

    /// Hands each tag to `visit`, to the end.
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(Tag) -> Result<(), BootError>,
    ) -> Result<(), BootError> {
        let mut offset = HEADER_SIZE;
        loop {
            let rest = self.bytes.get(offset..).unwrap_or(&[]);
            if rest.len() < TAG_HEADER_SIZE {
                return Err(self.problem(offset, "ends without a tag of kind 0"));
            }
            let (kind, size) = (read_u32(rest, 0), read_u32(rest, 4) as usize);
            if kind == END {
                return Ok(());
            }
            let body = rest
                .get(TAG_HEADER_SIZE..size)
                .ok_or_else(|| self.problem(offset, "has a tag whose size cannot be"))?;
            visit(self.parse(kind, body)?)?;
            // At most the length of the information, which is far below overflow.
            offset += size.next_multiple_of(8);
        }
    }

    fn parse(&self, kind: u32, body: &'static [u8]) -> Result<Tag, BootError> {
        let problem = |text| self.problem(self.offset_of(body), text);
        Ok(match kind {
            COMMAND_LINE => Tag::CommandLine(
                text(body).ok_or_else(|| problem("has a command line without a NUL"))?,
            ),
            MODULE => {
                let command_line = body.get(MODULE_HEADER_SIZE..).and_then(text);
                Tag::Module {
                    command_line: command_line
                        .ok_or_else(|| problem("has a module that is cut short"))?,
                    start: read_u32(body, 0).into(),
                    end: read_u32(body, 4).into(),
                }
            }
            MEMORY_MAP => Tag::MemoryMap(
                MemoryMap::parse(body)
                    .ok_or_else(|| problem("has a memory map that is cut short"))?,
            ),
            ACPI_OLD_RSDP | ACPI_NEW_RSDP => Tag::Rsdp {
                address: self.address_of(body),
                newer: kind == ACPI_NEW_RSDP,
            },
            _ => Tag::Other,
        })
    }

    fn offset_of(&self, part: &[u8]) -> usize {
        (self.address_of(part) - self.address) as usize
    }

    fn problem(&self, offset: usize, problem: &'static str) -> BootError {
        BootError::Multiboot2 {
            problem,
            address: self.address + offset as u64,
        }
    }
}

impl MemoryMap {
    fn parse(body: &'static [u8]) -> Option<Self> {
        let entries = body.get(MAP_HEADER_SIZE..)?;
        let entry_size = read_u32(body, 0);
        // "Guaranteed to be a multiple of 8"; later versions may have longer entries.
        let whole = entry_size >= MAP_ENTRY_SIZE
            && !entries.is_empty()
            && entries.len().is_multiple_of(entry_size as usize);
        whole.then_some(Self {
            entries,
            entry_size,
        })
    }

    /// How many entries there are.
    pub(crate) fn length(&self) -> u32 {
        // The whole is shorter than LONGEST.
        (self.entries.len() / self.entry_size as usize) as u32
    }

    /// The entries in the loader's order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = MapEntry> {
        self.entries
            .chunks_exact(self.entry_size as usize)
            .map(MapEntry::parse)
    }
}

/// The bytes up to the first NUL.
fn text(bytes: &'static [u8]) -> Option<&'static [u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some(&bytes[..end])
}
