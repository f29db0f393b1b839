//! What a start info leads to.

use super::{BootInfo, MAX_COMMAND_LINE, MAX_MAP_ENTRIES, MAX_MODULES, within};
use crate::error::BootError;
use crate::handover::{BootProtocol, LoaderMemory};
use crate::region::{MemoryRegion, PAGE};
use crate::start_info::{
    MAP_ENTRY_SIZE, MODULE_ENTRY_SIZE, MapEntry, ModuleEntry, StartInfo, VERSION_1_SIZE,
};

impl BootInfo {
    pub(super) fn read_start_info(
        &mut self,
        memory: &impl LoaderMemory,
        address: u64,
        program: MemoryRegion,
        limit: u64,
    ) -> Result<(), BootError> {
        let start_info = StartInfo::read(memory, address)?;
        self.protocol = BootProtocol::Pvh {
            version: start_info.version,
        };
        self.rsdp = start_info.rsdp;
        self.keep(address, VERSION_1_SIZE)?;

        let (field, count) = ("memmap_entries", start_info.memory_map_entries);
        let map = self.read_table(
            memory,
            ("memory map", start_info.memory_map),
            (field, count, MAX_MAP_ENTRIES),
            MAP_ENTRY_SIZE,
        )?;
        let entries = map.chunks_exact(MAP_ENTRY_SIZE as usize);
        self.set_memory_map((field, count), entries.map(MapEntry::parse), limit)?;

        self.command_line =
            self.read_command_line(memory, "command line", start_info.command_line)?;
        self.read_modules(memory, &start_info, program)
    }

    fn read_modules(
        &mut self,
        memory: &impl LoaderMemory,
        start_info: &StartInfo,
        program: MemoryRegion,
    ) -> Result<(), BootError> {
        if start_info.module_count == 0 {
            return Ok(());
        }
        let table = self.read_table(
            memory,
            ("module list", start_info.module_list),
            ("nr_modules", start_info.module_count, MAX_MODULES),
            MODULE_ENTRY_SIZE,
        )?;
        for bytes in table.chunks_exact(MODULE_ENTRY_SIZE as usize) {
            let entry = ModuleEntry::parse(bytes);
            let command_line =
                self.read_command_line(memory, "module command line", entry.command_line)?;
            self.add_module((entry.start, entry.size), command_line, program)?;
        }
        Ok(())
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
                self.refer(address, length)?;
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
        within(field, count, limit)?;
        let size = u64::from(count) * entry_size;
        let bytes = memory.structure(table, address, size)?;
        self.keep(address, size)?;
        Ok(bytes)
    }
}
