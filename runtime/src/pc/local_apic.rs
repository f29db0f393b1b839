//! The processor's local interrupt controller and its timer.
//!
//! Register numbers: Intel SDM volume 3, chapter "APIC".

use pvh_boot::paging::MapError;

use super::registers::Registers;
use crate::processor;

const IDENTITY: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const TIMER: usize = 0x320;
const LINE_0: usize = 0x350;
const LINE_1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDER: usize = 0x3e0;

const ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const TIMER_AT_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_16: u32 = 0b0011;

/// The local APIC.
#[derive(Debug)]
pub(crate) struct LocalApic {
    registers: Registers,
}

impl LocalApic {
    /// Enables it, with the timer and both lines off.
    ///
    /// # Errors
    /// When its registers cannot be mapped.
    pub(crate) fn start(spurious_vector: u8) -> Result<Self, MapError> {
        let registers = Registers::local_apic()?;
        registers.write_u32(TIMER, MASKED);
        registers.write_u32(LINE_0, MASKED);
        registers.write_u32(LINE_1, MASKED);
        registers.write_u32(TASK_PRIORITY, 0);
        registers.write_u32(DIVIDER, DIVIDE_BY_16);
        registers.write_u32(SPURIOUS, ENABLED | u32::from(spurious_vector));
        Ok(Self { registers })
    }

    /// This processor's number, to address interrupts to.
    pub(crate) fn identity(&self) -> u8 {
        (self.registers.read_u32(IDENTITY) >> 24) as u8
    }

    /// Tells that the handler of the interrupt in service is done.
    pub(crate) fn end_interrupt(&self) {
        self.registers.write_u32(END_OF_INTERRUPT, 0);
    }

    /// Starts the timer counting down from the highest value, without an interrupt, for
    /// measuring its speed.
    pub(crate) fn start_measurement(&self) {
        self.registers.write_u32(INITIAL_COUNT, u32::MAX);
    }

    /// Ticks since [`start_measurement`](Self::start_measurement).
    pub(crate) fn measured(&self) -> u32 {
        u32::MAX - self.registers.read_u32(CURRENT_COUNT)
    }

    /// Lets the timer raise `vector`, at a time-stamp counter value if it can do that.
    pub(crate) fn enable_timer(&self, vector: u8) {
        let mode = if processor::has_timer_deadline() {
            TIMER_AT_DEADLINE
        } else {
            0
        };
        self.registers.write_u32(INITIAL_COUNT, 0);
        self.registers.write_u32(TIMER, mode | u32::from(vector));
    }

    /// Has the timer fire once, `ticks` of its own from now; 0 stops it.
    pub(crate) fn fire_after(&self, ticks: u32) {
        self.registers.write_u32(INITIAL_COUNT, ticks);
    }
}
