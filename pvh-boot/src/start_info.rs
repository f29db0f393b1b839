//! `struct hvm_start_info` and what it points to, parsed from bytes.
//!
//! Source: Xen public header `arch-x86/hvm/start_info.h`. All fields are little-endian.

use core::fmt;

use crate::error::BootError;
use crate::handover::LoaderMemory;

/// XEN_HVM_START_MAGIC_VALUE.
pub(crate) const MAGIC: u32 = 0x336e_c578;

/// Bytes of the structure up to and without the fields of version 1.
pub(crate) const VERSION_0_SIZE: u64 = 40;
/// Bytes of the structure from version 1 on.
pub(crate) const VERSION_1_SIZE: u64 = 56;
/// Bytes of a `struct hvm_memmap_table_entry`.
pub(crate) const MAP_ENTRY_SIZE: u64 = 24;
/// Bytes of a `struct hvm_modlist_entry`.
pub(crate) const MODULE_ENTRY_SIZE: u64 = 32;

/// The start info after its magic and version were checked. The addresses in it are not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartInfo {
    pub(crate) version: u32,
    pub(crate) module_count: u32,
    pub(crate) module_list: u64,
    pub(crate) command_line: u64,
    pub(crate) rsdp: u64,
    pub(crate) memory_map: u64,
    /// At least 1.
    pub(crate) memory_map_entries: u32,
}

impl StartInfo {
    /// Reads the structure at `address`: first the magic, then the version, and only then the rest.
    pub(crate) fn read(memory: &impl LoaderMemory, address: u64) -> Result<Self, BootError> {
        let base = memory.structure("start info", address, VERSION_0_SIZE)?;
        let found = read_u32(base, 0);
        if found != MAGIC {
            return Err(BootError::WrongMagic { address, found });
        }
        let version = read_u32(base, 4);
        let (memory_map, memory_map_entries) = if version >= 1 {
            let whole = memory.structure("start info", address, VERSION_1_SIZE)?;
            (read_u64(whole, 40), read_u32(whole, 48))
        } else {
            (0, 0)
        };
        if memory_map_entries == 0 || memory_map == 0 {
            return Err(BootError::MemoryMapAbsent {
                version,
                entries: memory_map_entries,
                address: memory_map,
            });
        }
        Ok(Self {
            version,
            module_count: read_u32(base, 12),
            module_list: read_u64(base, 16),
            command_line: read_u64(base, 24),
            rsdp: read_u64(base, 32),
            memory_map,
            memory_map_entries,
        })
    }
}

/// What a range of the memory map is for: XEN_HVM_MEMMAP_TYPE_*, the address range types of ACPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryKind(pub u32);

impl MemoryKind {
    /// Memory for the program.
    pub const RAM: Self = Self(1);
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            1 => "RAM",
            2 => "reserved",
            3 => "ACPI tables",
            4 => "ACPI non-volatile",
            5 => "unusable",
            6 => "disabled",
            7 => "persistent",
            other => return write!(formatter, "unknown kind {other}"),
        })
    }
}

/// One entry of the memory map as the loader wrote it: possibly unaligned, overlapping, empty or
/// past the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Address of the first byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// What is there.
    pub kind: MemoryKind,
}

impl MapEntry {
    /// `bytes` is one whole entry.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self {
            start: read_u64(bytes, 0),
            size: read_u64(bytes, 8),
            kind: MemoryKind(read_u32(bytes, 16)),
        }
    }
}

/// One entry of the module list, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleEntry {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) command_line: u64,
}

impl ModuleEntry {
    /// `bytes` is one whole entry.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self {
            start: read_u64(bytes, 0),
            size: read_u64(bytes, 8),
            command_line: read_u64(bytes, 16),
        }
    }
}

pub(crate) fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}
