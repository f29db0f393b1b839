//! The 8259 interrupt controllers of the PC, only to keep them quiet.
//!
//! Firmware leaves them delivering a timer's interrupts at vector 8, which is the double fault's.
//! Under Xen they do not exist and the writes are lost.

use x86_64::instructions::port::PortWriteOnly;

/// Command and data port of the two controllers, and the first of each one's eight vectors from
/// now on: with all inputs masked only their spurious interrupts, which are then seen by
/// [`super::interrupts`] and ignored.
const CONTROLLERS: [(u16, u16, u8); 2] = [(0x20, 0x21, 32), (0xa0, 0xa1, 40)];

/// Source: Intel 8259A data sheet, "Initialization command words".
const INITIALIZE: u8 = 0x11;
const MODE_8086: u8 = 0x01;
/// The second controller is at input 2 of the first: as a bit there, as a number in the second.
const CASCADE: [u8; 2] = [1 << 2, 2];
const ALL_MASKED: u8 = 0xff;

/// Moves the controllers' vectors out of the exceptions' and masks all inputs.
pub(super) fn silence() {
    for ((command, data, vector), cascade) in CONTROLLERS.into_iter().zip(CASCADE) {
        write(command, INITIALIZE);
        write(data, vector);
        write(data, cascade);
        write(data, MODE_8086);
        write(data, ALL_MASKED);
    }
}

fn write(port: u16, value: u8) {
    // SAFETY: the ports of an interrupt controller or of nothing: no memory is touched, and
    // interrupts are off while this runs.
    unsafe { PortWriteOnly::<u8>::new(port).write(value) };
}
