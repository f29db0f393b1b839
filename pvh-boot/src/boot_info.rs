//! What the loader handed over, checked.

use crate::error::BootError;
use crate::memory_map;
use crate::region::{MemoryRegion, PAGE, Regions};
use crate::start_info::{
    LoaderMemory, MAP_ENTRY_SIZE, MODULE_ENTRY_SIZE, MapEntry, MemoryKind, ModuleEntry, StartInfo,
    VERSION_1_SIZE,
};

/// Entries of the memory map that are read. Firmware gives a dozen or two.
pub(crate) const MAX_MAP_ENTRIES: u32 = 128;
/// Modules that are read. QEMU and xl pass at most one.
pub(crate) const MAX_MODULES: u32 = 16;
/// Bytes of a command line with its NUL.
pub(crate) const MAX_COMMAND_LINE: u64 = 16 * 1024;
/// The loader puts its data, and the early page tables reach, below this.
pub(crate) const FOUR_GIB: u64 = 1 << 32;

/// What the loader handed over, after every check.
#[derive(Debug)]
pub struct BootInfo {
    start_info: StartInfo,
    map: [MapEntry; MAX_MAP_ENTRIES as usize],
    ram: Regions,
    usable: Regions,
    /// Everything the loader left.
    kept: Regions,
    /// The part of it that is still pointed to: the command lines.
    referenced: Regions,
    command_line: &'static [u8],
    modules: [Module; MAX_MODULES as usize],
}

impl BootInfo {
    /// The command line as the loader gave it, without its NUL. Any bytes; often not UTF-8 checked
    /// by anyone before.
    #[must_use]
    pub fn command_line(&self) -> &'static [u8] {
        self.command_line
    }

    /// RAM that belongs to the program: page-aligned, sorted by address, mapped writable. Left out
    /// are page 0, the program with its stacks, its page tables, and what the loader handed over.
    pub fn usable_memory(&self) -> impl Iterator<Item = MemoryRegion> {
        self.usable.as_slice().iter().copied()
    }

    /// Bytes of RAM the loader reported, each counted once.
    #[must_use]
    pub fn total_ram(&self) -> u64 {
        self.ram.total()
    }

    /// The memory map as the loader wrote it, unchecked: to print, not to rely on.
    #[must_use]
    pub fn memory_map(&self) -> &[MapEntry] {
        &self.map[..self.start_info.memory_map_entries as usize]
    }

    /// The modules in the loader's order. The first one is what other loaders call the initrd.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules[..self.start_info.module_count as usize]
    }

    /// Physical address of the ACPI root pointer, unchecked and, outside RAM, not mapped.
    #[must_use]
    pub fn acpi_rsdp(&self) -> Option<u64> {
        Some(self.start_info.rsdp).filter(|&address| address != 0)
    }

    /// Version of the start info: 1 or newer.
    #[must_use]
    pub fn start_info_version(&self) -> u32 {
        self.start_info.version
    }

    /// Reads and checks everything the start info at `address` leads to.
    ///
    /// `program` is the loaded image, `limit` the first physical address that cannot be mapped.
    pub(crate) fn gather(
        memory: &impl LoaderMemory,
        address: u64,
        program: MemoryRegion,
        limit: u64,
    ) -> Result<Self, BootError> {
        let start_info = StartInfo::read(memory, address)?;
        let mut boot = Self {
            start_info,
            map: [MapEntry {
                start: 0,
                size: 0,
                kind: MemoryKind(0),
            }; MAX_MAP_ENTRIES as usize],
            ram: Regions::new(),
            usable: Regions::new(),
            kept: Regions::new(),
            referenced: Regions::new(),
            command_line: &[],
            modules: [Module::NONE; MAX_MODULES as usize],
        };
        boot.keep(address, VERSION_1_SIZE)?;
        boot.read_memory_map(memory, limit)?;
        boot.command_line =
            boot.read_command_line(memory, "command line", start_info.command_line)?;
        boot.read_modules(memory, program)?;

        boot.usable = boot.ram.whole_pages();
        boot.usable.exclude(MemoryRegion::new(0, PAGE))?;
        boot.usable.exclude(program.touched_pages())?;
        for region in boot.kept.as_slice() {
            boot.usable.exclude(*region)?;
        }
        Ok(boot)
    }

    /// RAM in whole pages, without page 0.
    pub(crate) fn ram_to_map(&self) -> Result<Regions, BootError> {
        let mut ram = self.ram.whole_pages();
        ram.exclude(MemoryRegion::new(0, PAGE))?;
        Ok(ram)
    }

    /// Pages with command lines that are not RAM: a loader may keep its data in a ROM.
    pub(crate) fn command_lines_outside_ram(&self) -> Result<Regions, BootError> {
        let mut outside = self.referenced.clone();
        for region in self.ram.whole_pages().as_slice() {
            outside.exclude(*region)?;
        }
        Ok(outside)
    }

    /// Every address that is RAM.
    pub(crate) fn ram(&self) -> &Regions {
        &self.ram
    }

    /// The largest free range below 4 GiB: where the page tables go.
    pub(crate) fn room_for_tables(&self) -> Result<MemoryRegion, BootError> {
        self.usable_memory()
            .map(|region| MemoryRegion::new(region.start, region.end.min(FOUR_GIB)))
            .filter(|region| !region.is_empty())
            .max_by_key(|region| region.length())
            .ok_or(BootError::NoUsableRam {
                total: self.total_ram(),
            })
    }

    /// Settles who owns what once the final page tables stand: `tables` is taken out of the usable
    /// memory, `early_tables`, up to now part of the program, is added if it is RAM: the loader
    /// put the program there, but what its memory map does not call RAM is not mapped.
    pub(crate) fn settle(
        &mut self,
        tables: MemoryRegion,
        early_tables: MemoryRegion,
    ) -> Result<(), BootError> {
        self.usable.exclude(tables)?;
        if self.ram.covers(early_tables) {
            self.usable.insert(early_tables)?;
        }
        Ok(())
    }

    fn read_memory_map(&mut self, memory: &impl LoaderMemory, limit: u64) -> Result<(), BootError> {
        let StartInfo {
            memory_map,
            memory_map_entries,
            ..
        } = self.start_info;
        let table = self.read_table(
            memory,
            ("memory map", memory_map),
            ("memmap_entries", memory_map_entries, MAX_MAP_ENTRIES),
            MAP_ENTRY_SIZE,
        )?;
        let entries = table.chunks_exact(MAP_ENTRY_SIZE as usize);
        for (entry, bytes) in self.map.iter_mut().zip(entries) {
            *entry = MapEntry::parse(bytes);
        }
        self.ram = memory_map::ram(self.memory_map(), limit)?;
        Ok(())
    }

    fn read_modules(
        &mut self,
        memory: &impl LoaderMemory,
        program: MemoryRegion,
    ) -> Result<(), BootError> {
        let StartInfo {
            module_count,
            module_list,
            ..
        } = self.start_info;
        if module_count == 0 {
            return Ok(());
        }
        let table = self.read_table(
            memory,
            ("module list", module_list),
            ("nr_modules", module_count, MAX_MODULES),
            MODULE_ENTRY_SIZE,
        )?;
        for (bytes, index) in table.chunks_exact(MODULE_ENTRY_SIZE as usize).zip(0..) {
            let entry = ModuleEntry::parse(bytes);
            let region = self.module_region(entry, index, program)?;
            self.modules[index as usize] = Module {
                start: region.start,
                end: region.end,
                command_line: self.read_command_line(
                    memory,
                    "module command line",
                    entry.command_line,
                )?,
            };
        }
        Ok(())
    }

    fn module_region(
        &mut self,
        entry: ModuleEntry,
        module: u32,
        program: MemoryRegion,
    ) -> Result<MemoryRegion, BootError> {
        let ModuleEntry { start, size, .. } = entry;
        let outside = BootError::ModuleOutsideRam {
            module,
            start,
            size,
        };
        let region = MemoryRegion::new(start, start.checked_add(size).ok_or(outside)?);
        if region.overlaps(program) {
            return Err(BootError::ModuleOverlapsProgram { module, region });
        }
        if start < PAGE || !self.ram.whole_pages().covers(region.touched_pages()) {
            return Err(outside);
        }
        self.keep(start, size)?;
        Ok(region)
    }

    /// The NUL-terminated bytes at `address`, which 0 means absent.
    fn read_command_line(
        &mut self,
        memory: &impl LoaderMemory,
        what: &'static str,
        address: u64,
    ) -> Result<&'static [u8], BootError> {
        if address == 0 {
            return Ok(&[]);
        }
        if address < PAGE {
            return Err(BootError::Unreachable {
                what,
                address,
                length: 1,
            });
        }
        // Page by page: what lies behind the end of the string may not be readable.
        let mut length = 0;
        while length < MAX_COMMAND_LINE {
            let step = PAGE - (address.saturating_add(length)) % PAGE;
            length = (length + step).min(MAX_COMMAND_LINE);
            let bytes = memory.structure(what, address, length)?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                let length = end as u64 + 1;
                self.keep(address, length)?;
                self.referenced
                    .insert(MemoryRegion::new(address, address + length).touched_pages())?;
                return Ok(&bytes[..end]);
            }
        }
        Err(BootError::CommandLineUnterminated {
            what,
            address,
            limit: MAX_COMMAND_LINE,
        })
    }

    fn read_table(
        &mut self,
        memory: &impl LoaderMemory,
        (table, address): (&'static str, u64),
        (field, count, limit): (&'static str, u32, u32),
        entry_size: u64,
    ) -> Result<&'static [u8], BootError> {
        if count > limit {
            return Err(BootError::TooMany {
                what: field,
                count,
                limit,
            });
        }
        let size = u64::from(count) * entry_size;
        let bytes = memory.structure(table, address, size)?;
        self.keep(address, size)?;
        Ok(bytes)
    }

    /// Notes loader data whose end does not overflow: it was readable, or is in RAM.
    fn keep(&mut self, start: u64, size: u64) -> Result<(), BootError> {
        Ok(self
            .kept
            .insert(MemoryRegion::new(start, start + size).touched_pages())?)
    }
}

/// A file the loader put into memory beside the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Address of the first byte.
    pub start: u64,
    /// Address just past the last byte.
    pub end: u64,
    /// Its command line without the NUL; empty if it has none.
    pub command_line: &'static [u8],
}

impl Module {
    const NONE: Self = Self {
        start: 0,
        end: 0,
        command_line: &[],
    };
}

#[cfg(test)]
#[path = "boot_info_tests.rs"]
mod tests;
