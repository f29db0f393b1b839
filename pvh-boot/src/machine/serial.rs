//! COM1, for the last words of a guest that could not start or fell.

use core::fmt;

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

use super::debug_port;

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = DATA + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// What a port without a device reads as.
const ABSENT: u8 = 0xff;
/// A byte takes 100 us at 115,200 baud; a status read takes at least 100 ns.
const PATIENCE: u32 = 100_000;

/// Writes to the debug port and to COM1.
pub(super) struct LastWords;

impl fmt::Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        debug_port::write(text.as_bytes());
        text.bytes().for_each(send);
        Ok(())
    }
}

fn send(byte: u8) {
    if byte == b'\n' {
        send(b'\r');
    }
    if line_status() == ABSENT {
        return;
    }
    let _ready = (0..PATIENCE).any(|_| line_status() & TRANSMITTER_EMPTY != 0);
    // SAFETY: the transmit register of a serial port, or no device: nothing is done to memory.
    unsafe { PortWriteOnly::<u8>::new(DATA).write(byte) };
}

fn line_status() -> u8 {
    // SAFETY: reading the line status has no effect but on its own error bits.
    unsafe { PortReadOnly::<u8>::new(LINE_STATUS).read() }
}
