//! What the loader handed over, checked.

mod multiboot2;
mod start_info;

use crate::error::BootError;
use crate::handover::{BootProtocol, Handover, LoaderMemory};
use crate::memory_map;
use crate::region::{MemoryRegion, PAGE, Regions};
use crate::start_info::{MapEntry, MemoryKind};

/// Entries of the memory map that are read. Firmware gives a dozen or two, of the newer kind up to
/// a hundred.
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
    protocol: BootProtocol,
    map: [MapEntry; MAX_MAP_ENTRIES as usize],
    map_entries: usize,
    rsdp: u64,
    ram: Regions,
    usable: Regions,
    /// Everything the loader left.
    kept: Regions,
    /// The part of it that is still pointed to: the command lines.
    referenced: Regions,
    command_line: &'static [u8],
    modules: [Module; MAX_MODULES as usize],
    module_count: usize,
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
        &self.map[..self.map_entries]
    }

    /// The modules in the loader's order. The first one is what other loaders call the initrd.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules[..self.module_count]
    }

    /// Physical address of the ACPI root pointer, unchecked and, outside RAM, not mapped.
    #[must_use]
    pub fn acpi_rsdp(&self) -> Option<u64> {
        Some(self.rsdp).filter(|&address| address != 0)
    }

    /// How the program was entered.
    #[must_use]
    pub fn protocol(&self) -> BootProtocol {
        self.protocol
    }

    /// Reads and checks everything that was handed over.
    ///
    /// `program` is the loaded image, `limit` the first physical address that cannot be mapped.
    pub(crate) fn gather(
        memory: &impl LoaderMemory,
        handover: Handover,
        program: MemoryRegion,
        limit: u64,
    ) -> Result<Self, BootError> {
        let mut boot = Self::empty();
        match handover {
            Handover::StartInfo { address } => {
                boot.read_start_info(memory, address, program, limit)?;
            }
            Handover::Multiboot2 { address } => {
                boot.read_multiboot2(memory, address, program, limit)?;
            }
        }
        boot.usable = boot.ram.whole_pages();
        boot.usable.exclude(MemoryRegion::new(0, PAGE))?;
        boot.usable.exclude(program.touched_pages())?;
        for region in boot.kept.as_slice() {
            boot.usable.exclude(*region)?;
        }
        Ok(boot)
    }

    fn empty() -> Self {
        Self {
            protocol: BootProtocol::Multiboot2,
            map: [MapEntry {
                start: 0,
                size: 0,
                kind: MemoryKind(0),
            }; MAX_MAP_ENTRIES as usize],
            map_entries: 0,
            rsdp: 0,
            ram: Regions::new(),
            usable: Regions::new(),
            kept: Regions::new(),
            referenced: Regions::new(),
            command_line: &[],
            modules: [Module::NONE; MAX_MODULES as usize],
            module_count: 0,
        }
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

    /// Takes the loader's memory map, of `count` entries.
    fn set_memory_map(
        &mut self,
        (field, count): (&'static str, u32),
        entries: impl Iterator<Item = MapEntry>,
        limit: u64,
    ) -> Result<(), BootError> {
        within(field, count, MAX_MAP_ENTRIES)?;
        for (place, entry) in self.map.iter_mut().zip(entries) {
            *place = entry;
        }
        self.map_entries = count as usize;
        self.ram = memory_map::ram(self.memory_map(), limit)?;
        Ok(())
    }

    /// Checks a module's place, sets it apart, and notes the module.
    fn add_module(
        &mut self,
        (start, size): (u64, u64),
        command_line: &'static [u8],
        program: MemoryRegion,
    ) -> Result<(), BootError> {
        let module = self.module_count as u32;
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
        let place = self
            .modules
            .get_mut(self.module_count)
            .ok_or(BootError::TooMany {
                what: "number of modules",
                count: module + 1,
                limit: MAX_MODULES,
            })?;
        *place = Module {
            start: region.start,
            end: region.end,
            command_line,
        };
        self.module_count += 1;
        Ok(())
    }

    /// Notes loader data whose end does not overflow: it was readable, or is in RAM.
    fn keep(&mut self, start: u64, size: u64) -> Result<(), BootError> {
        Ok(self
            .kept
            .insert(MemoryRegion::new(start, start + size).touched_pages())?)
    }

    /// Notes bytes that the program will be given a reference to.
    fn refer(&mut self, start: u64, size: u64) -> Result<(), BootError> {
        Ok(self
            .referenced
            .insert(MemoryRegion::new(start, start + size).touched_pages())?)
    }
}

/// Whether a count is within what is read.
fn within(what: &'static str, count: u32, limit: u32) -> Result<(), BootError> {
    match count <= limit {
        true => Ok(()),
        false => Err(BootError::TooMany { what, count, limit }),
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
