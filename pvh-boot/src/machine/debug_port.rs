//! Port 0xE9: text for whoever runs the machine.
//!
//! Xen shows it on its own console (`guest_loglvl=all`), QEMU with `-debugcon stdio`. Without a
//! listener the bytes are lost. Each byte is an exit to the hypervisor: for failures, not for logs.

use x86_64::instructions::port::PortWriteOnly;

const DEBUG_PORT: u16 = 0xe9;

/// Writes `bytes` as they are.
pub fn write(bytes: &[u8]) {
    let mut port = PortWriteOnly::<u8>::new(DEBUG_PORT);
    for &byte in bytes {
        // SAFETY: the port takes text or is absent; it does nothing to memory.
        unsafe { port.write(byte) };
    }
}
