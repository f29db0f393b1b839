//! Ways to end the machine.

use super::io_port::IoPort;
use crate::processor;

/// Values for QEMU's `isa-debug-exit`, which ends QEMU with status `2 * value + 1`.
const EXIT_SUCCESS: u8 = 0x10;
const EXIT_FAILURE: u8 = 0x11;

/// ACPI: go to the sleep type 0, which is "off" (S5) on `pc` and `q35`.
const SLEEP_ENABLE_OFF: u16 = 1 << 13;

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    IoPort::DEBUG_EXIT.write_u8(EXIT_SUCCESS);
    if under_qemu() {
        // Other machines may have anything at this port.
        IoPort::POWER_CONTROL.write_u16(SLEEP_ENABLE_OFF);
    }
    reset()
}

/// Ends the machine such that its starter can tell it from [`power_off`], if it listens.
pub(crate) fn crash() -> ! {
    IoPort::DEBUG_EXIT.write_u8(EXIT_FAILURE);
    reset()
}

/// Resets the machine, which ends QEMU if it was told `-no-reboot`.
fn reset() -> ! {
    /// The keyboard controller pulses the processor's reset line.
    const PULSE_RESET: u8 = 0xfe;
    IoPort::KEYBOARD_COMMAND.write_u8(PULSE_RESET);
    /// Full reset through the chip set, for machines without the controller.
    const FULL_RESET: u8 = 0x0e;
    IoPort::RESET_CONTROL.write_u8(FULL_RESET);
    processor::halt_forever()
}

/// Whether QEMU's firmware configuration device answers with its signature.
pub(crate) fn under_qemu() -> bool {
    IoPort::FIRMWARE_SELECT.write_u16(0);
    let mut signature = [0; 4];
    signature.fill_with(|| IoPort::FIRMWARE_DATA.read_u8());
    signature == *b"QEMU"
}
