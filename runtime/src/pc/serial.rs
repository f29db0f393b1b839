//! The first serial port (COM1), a 16550, as the console. Output is polled; input interrupts once
//! somebody waits for it.

use super::io_port::IoPort;

/// Data out; with the latch bit set, the low byte of the divisor.
const DATA: IoPort = IoPort::SERIAL[0];
/// Interrupts to raise; with the latch bit set, the high byte of the divisor.
const INTERRUPTS: IoPort = IoPort::SERIAL[1];
/// The FIFOs.
const FIFO: IoPort = IoPort::SERIAL[2];
/// The format of a character.
const FORMAT: IoPort = IoPort::SERIAL[3];
/// Lines to the outside; one of them lets interrupts through on a PC.
const MODEM: IoPort = IoPort::SERIAL[4];
/// What the port is ready for.
const STATUS: IoPort = IoPort::SERIAL[5];
/// A byte without a function.
const SCRATCH: IoPort = IoPort::SERIAL[7];

const LATCH_DIVISOR: u8 = 0x80;
const EIGHT_BITS_NO_PARITY: u8 = 0x03;
const ENABLE_AND_CLEAR_FIFO: u8 = 0x07;
const READY_FOR_DATA: u8 = 0x20;
const HAS_DATA: u8 = 0x01;
const INTERRUPT_ON_DATA: u8 = 0x01;
const READY_AND_INTERRUPTS_PASS: u8 = 0x0b;
/// The interrupt line of COM1 on every PC.
pub(super) const INTERRUPT: u32 = 4;
const FIFO_BYTES: usize = 16;

/// COM1, set to 115,200 baud.
#[derive(Debug)]
pub(crate) struct Serial(());

impl Serial {
    /// Sets the port up, or `None` if there is none.
    pub(crate) fn start() -> Option<Self> {
        SCRATCH.write_u8(0x5a);
        if SCRATCH.read_u8() != 0x5a {
            return None;
        }
        INTERRUPTS.write_u8(0);
        FORMAT.write_u8(LATCH_DIVISOR);
        DATA.write_u8(1);
        INTERRUPTS.write_u8(0);
        FORMAT.write_u8(EIGHT_BITS_NO_PARITY);
        FIFO.write_u8(ENABLE_AND_CLEAR_FIFO);
        Some(Self(()))
    }

    /// Takes what came in, up to `into.len()` bytes; returns how many there were. What is not taken
    /// stays in the port, and with its sender.
    pub(crate) fn read(&self, into: &mut [u8]) -> usize {
        let mut count = 0;
        while count < into.len() && STATUS.read_u8() & HAS_DATA != 0 {
            into[count] = DATA.read_u8();
            count += 1;
        }
        count
    }

    /// Has the port interrupt for input from now on.
    pub(crate) fn announce_input(&self) {
        MODEM.write_u8(READY_AND_INTERRUPTS_PASS);
        INTERRUPTS.write_u8(INTERRUPT_ON_DATA);
    }

    /// Sends `bytes`, waiting for the port to take them, but never for ever: a port that
    /// stays busy loses them.
    pub(crate) fn write(&self, bytes: &[u8]) {
        for chunk in bytes.chunks(FIFO_BYTES) {
            // 16 characters take 1.4 ms at this speed; a port read takes over 0.1 us.
            for _ in 0..100_000 {
                if STATUS.read_u8() & READY_FOR_DATA != 0 {
                    break;
                }
            }
            for &byte in chunk {
                DATA.write_u8(byte);
            }
        }
    }
}
