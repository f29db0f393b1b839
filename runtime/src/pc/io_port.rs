//! Ports of a PC's I/O address space.

use core::arch::asm;

/// One port that this crate may read and write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoPort(u16);

/// Every port this crate drives. None of these devices accesses memory by itself; the PCI
/// configuration ports can make others do so, which is their user's to answer for.
impl IoPort {
    /// Channel 0 of the interval timer (8254).
    pub(crate) const TIMER_COUNT: Self = device_port(0x40);
    /// Mode register of the interval timer.
    pub(crate) const TIMER_MODE: Self = device_port(0x43);
    /// Commands to the keyboard controller (8042).
    pub(crate) const KEYBOARD_COMMAND: Self = device_port(0x64);
    /// Selects a byte of the battery-backed clock (MC146818).
    pub(crate) const CLOCK_INDEX: Self = device_port(0x70);
    /// That byte.
    pub(crate) const CLOCK_DATA: Self = device_port(0x71);
    /// QEMU's `isa-debug-exit`, where the command line puts it.
    pub(crate) const DEBUG_EXIT: Self = device_port(0xf4);
    /// The eight registers of the second serial port (16550).
    pub(crate) const SECOND_SERIAL: [Self; 8] = eight_ports(0x2f8);
    /// The eight registers of the first serial port (16550).
    pub(crate) const SERIAL: [Self; 8] = eight_ports(0x3f8);
    /// Selects an item of QEMU's firmware configuration.
    pub(crate) const FIRMWARE_SELECT: Self = device_port(0x510);
    /// The next byte of that item.
    pub(crate) const FIRMWARE_DATA: Self = device_port(0x511);
    /// ACPI power management control of QEMU's `pc` and `q35`.
    pub(crate) const POWER_CONTROL: Self = device_port(0x604);
    /// Selects a PCI configuration register.
    pub(crate) const PCI_ADDRESS: Self = device_port(0xcf8);
    /// Reset control of PCI chip sets.
    pub(crate) const RESET_CONTROL: Self = device_port(0xcf9);
    /// The selected PCI configuration register.
    pub(crate) const PCI_DATA: Self = device_port(0xcfc);
}

/// The ports from `first` on.
const fn eight_ports(first: u16) -> [IoPort; 8] {
    let mut ports = [device_port(first); 8];
    let mut index = 1;
    while index < ports.len() {
        ports[index] = device_port(first + index as u16);
        index += 1;
    }
    ports
}

const fn device_port(number: u16) -> IoPort {
    // SAFETY: the two duties are answered for the whole table above.
    unsafe { IoPort::new(number) }
}

impl IoPort {
    /// Speaks for the port `number`.
    ///
    /// # Safety
    /// 1. The port belongs to a device whose registers this crate alone drives, or to none.
    /// 2. No value that this crate writes to it makes a device access memory that was not
    ///    given to it, or changes how the processor sees memory.
    const unsafe fn new(number: u16) -> Self {
        Self(number)
    }

    /// Reads a byte. A port that no device answers reads as 0xff.
    pub(crate) fn read_u8(self) -> u8 {
        let value: u8;
        // SAFETY: by the contract of `new` the access cannot touch memory.
        unsafe { asm!("in al, dx", in("dx") self.0, out("al") value, options(nomem, nostack)) };
        value
    }

    /// Writes a byte.
    pub(crate) fn write_u8(self, value: u8) {
        // SAFETY: by the contract of `new` the access cannot touch memory.
        unsafe { asm!("out dx, al", in("dx") self.0, in("al") value, options(nomem, nostack)) };
    }

    /// Writes two bytes.
    pub(crate) fn write_u16(self, value: u16) {
        // SAFETY: by the contract of `new` the access cannot touch memory.
        unsafe { asm!("out dx, ax", in("dx") self.0, in("ax") value, options(nomem, nostack)) };
    }

    /// Reads four bytes.
    pub(crate) fn read_u32(self) -> u32 {
        let value: u32;
        // SAFETY: by the contract of `new` the access cannot touch memory.
        unsafe { asm!("in eax, dx", in("dx") self.0, out("eax") value, options(nomem, nostack)) };
        value
    }

    /// Writes four bytes.
    pub(crate) fn write_u32(self, value: u32) {
        // SAFETY: by the contract of `new` the access cannot touch memory.
        unsafe { asm!("out dx, eax", in("dx") self.0, in("eax") value, options(nomem, nostack)) };
    }
}
