//! What a multiboot2 boot information says.

use super::{BootInfo, MAX_COMMAND_LINE};
use crate::error::BootError;
use crate::handover::{BootProtocol, LoaderMemory};
use crate::multiboot2::{Information, Tag};
use crate::region::{MemoryRegion, PAGE};

impl BootInfo {
    /// The boot information stays where it is, set apart: the command lines lie in it.
    pub(super) fn read_multiboot2(
        &mut self,
        memory: &impl LoaderMemory,
        address: u64,
        program: MemoryRegion,
        limit: u64,
    ) -> Result<(), BootError> {
        self.protocol = BootProtocol::Multiboot2;
        let information = Information::read(memory, address)?;
        if address < PAGE {
            return Err(BootError::Unreachable {
                what: "multiboot2 information",
                address,
                length: information.size(),
            });
        }
        self.keep(information.address(), information.size())?;

        // First of all the memory map, as modules must lie in RAM; tags come in any order.
        let mut has_map = false;
        information.visit(|tag| {
            let Tag::MemoryMap(map) = tag else {
                return Ok(());
            };
            has_map = true;
            self.set_memory_map(
                ("entries of the memory map", map.length()),
                map.entries(),
                limit,
            )
        })?;
        if !has_map {
            return Err(BootError::Multiboot2 {
                problem: "has no memory map",
                address,
            });
        }

        let mut has_newer_rsdp = false;
        information.visit(|tag| match tag {
            Tag::CommandLine(text) => {
                self.command_line = self.text(&information, "command line", text)?;
                Ok(())
            }
            Tag::Module {
                start,
                end,
                command_line,
            } => {
                let command_line = self.text(&information, "module command line", command_line)?;
                self.add_module((start, end.saturating_sub(start)), command_line, program)
            }
            Tag::Rsdp { address, newer } => {
                if newer || !has_newer_rsdp {
                    self.rsdp = address;
                    has_newer_rsdp = newer;
                }
                Ok(())
            }
            Tag::MemoryMap(_) | Tag::Other => Ok(()),
        })
    }

    /// Notes that a text of the boot information is pointed to from now on.
    fn text(
        &mut self,
        information: &Information,
        what: &'static str,
        text: &'static [u8],
    ) -> Result<&'static [u8], BootError> {
        let address = information.address_of(text);
        if text.len() as u64 >= MAX_COMMAND_LINE {
            return Err(BootError::CommandLineUnterminated {
                what,
                address,
                limit: MAX_COMMAND_LINE,
            });
        }
        self.refer(address, text.len() as u64 + 1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
