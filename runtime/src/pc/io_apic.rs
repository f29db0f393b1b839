//! The I/O interrupt controller: brings the interrupt lines of `microvm`'s virtio devices to
//! the processor.
//!
//! Registers: Intel 82093AA data sheet.

use pvh_boot::paging::MapError;

use super::registers::Registers;

const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;

const VERSION: u32 = 1;
/// Redirection entries start here, two registers each.
const ENTRIES: u32 = 0x10;

/// The first I/O APIC.
#[derive(Debug)]
pub(crate) struct IoApic {
    registers: Registers,
}

impl IoApic {
    /// Finds the controller.
    ///
    /// # Errors
    /// When its registers cannot be mapped.
    pub(crate) fn start() -> Result<Self, MapError> {
        let registers = Registers::io_apic()?;
        Ok(Self { registers })
    }

    /// Sends line `line` to `vector` of the processor `identity`; false if there is no such
    /// line.
    ///
    /// Edge-triggered: a device holds its line until it is acknowledged, and that happens in
    /// a task, not in the handler. A level would interrupt without end until then. Nothing is
    /// lost, because the task acknowledges first and looks afterwards.
    pub(crate) fn route(&self, line: u32, vector: u8, identity: u8) -> bool {
        let lines = (self.read(VERSION) >> 16 & 0xff) + 1;
        if line >= lines {
            return false;
        }
        self.write(ENTRIES + 2 * line + 1, u32::from(identity) << 24);
        self.write(ENTRIES + 2 * line, u32::from(vector));
        true
    }

    fn read(&self, register: u32) -> u32 {
        self.registers.write_u32(SELECT, register);
        self.registers.read_u32(WINDOW)
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write_u32(SELECT, register);
        self.registers.write_u32(WINDOW, value);
    }
}
