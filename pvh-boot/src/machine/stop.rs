//! The end of a guest that has no better way to end.

use x86_64::instructions::{hlt, interrupts, port::PortWriteOnly};

/// Port of QEMU's `-device isa-debug-exit,iobase=0xf4,iosize=4`.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// How the guest ends, and what QEMU's debug exit device makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// All done: QEMU ends with exit status 33.
    Success = 0x10,
    /// It failed: QEMU ends with exit status 35.
    Crash = 0x11,
}

/// Stops this machine: through QEMU's debug exit device if it is there, then by halting with
/// interrupts off, which Xen takes as the end of the domain.
pub fn stop(outcome: Outcome) -> ! {
    // SAFETY: ends the virtual machine, or does nothing where the device is absent.
    unsafe { PortWriteOnly::<u32>::new(DEBUG_EXIT_PORT).write(outcome as u32) };
    interrupts::disable();
    loop {
        hlt();
    }
}
