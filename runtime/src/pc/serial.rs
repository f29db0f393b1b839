//! Serial ports, 16550s: the first (COM1) is the console, the second (COM2) the monitor's, where there
//! is one. Output is polled; input interrupts once somebody waits for it.

use super::io_port::IoPort;

// Registers, from the first port on.
/// Data in and out; with the latch bit set, the low byte of the divisor.
const DATA: usize = 0;
/// Interrupts to raise; with the latch bit set, the high byte of the divisor.
const INTERRUPTS: usize = 1;
/// The FIFOs.
const FIFO: usize = 2;
/// The format of a character.
const FORMAT: usize = 3;
/// Lines to the outside; one of them lets interrupts through on a PC.
const MODEM: usize = 4;
/// What the port is ready for.
const STATUS: usize = 5;
/// A byte without a function.
const SCRATCH: usize = 7;

const LATCH_DIVISOR: u8 = 0x80;
const EIGHT_BITS_NO_PARITY: u8 = 0x03;
const ENABLE_AND_CLEAR_FIFO: u8 = 0x07;
const READY_FOR_DATA: u8 = 0x20;
const HAS_DATA: u8 = 0x01;
const INTERRUPT_ON_DATA: u8 = 0x01;
const READY_AND_INTERRUPTS_PASS: u8 = 0x0b;
const FIFO_BYTES: usize = 16;

/// A serial port, set to 115,200 baud.
#[derive(Debug)]
pub(crate) struct Serial {
    registers: [IoPort; 8],
    /// Its interrupt line.
    pub(super) line: u32,
}

impl Serial {
    /// Sets COM1 up, or `None` if there is none.
    pub(crate) fn first() -> Option<Self> {
        Self::start(IoPort::SERIAL, 4)
    }

    /// Sets COM2 up, or `None` if there is none.
    pub(crate) fn second() -> Option<Self> {
        Self::start(IoPort::SECOND_SERIAL, 3)
    }

    /// `line` is the interrupt line that the port has on every PC.
    fn start(registers: [IoPort; 8], line: u32) -> Option<Self> {
        let port = Self { registers, line };
        port.put(SCRATCH, 0x5a);
        if port.get(SCRATCH) != 0x5a {
            return None;
        }
        port.put(INTERRUPTS, 0);
        port.put(FORMAT, LATCH_DIVISOR);
        port.put(DATA, 1);
        port.put(INTERRUPTS, 0);
        port.put(FORMAT, EIGHT_BITS_NO_PARITY);
        port.put(FIFO, ENABLE_AND_CLEAR_FIFO);
        Some(port)
    }

    fn get(&self, register: usize) -> u8 {
        self.registers[register].read_u8()
    }

    fn put(&self, register: usize, value: u8) {
        self.registers[register].write_u8(value);
    }

    /// Takes what came in, up to `into.len()` bytes; returns how many there were. What is not taken
    /// stays in the port, and with its sender.
    pub(crate) fn read(&self, into: &mut [u8]) -> usize {
        let mut count = 0;
        while count < into.len() && self.get(STATUS) & HAS_DATA != 0 {
            into[count] = self.get(DATA);
            count += 1;
        }
        count
    }

    /// Has the port interrupt for input from now on.
    pub(crate) fn announce_input(&self) {
        self.put(MODEM, READY_AND_INTERRUPTS_PASS);
        self.put(INTERRUPTS, INTERRUPT_ON_DATA);
    }

    /// Sends `bytes`, waiting for the port to take them, but never for ever: a port that
    /// stays busy loses them.
    pub(crate) fn write(&self, bytes: &[u8]) {
        for chunk in bytes.chunks(FIFO_BYTES) {
            // 16 characters take 1.4 ms at this speed; a port read takes over 0.1 us.
            for _ in 0..100_000 {
                if self.get(STATUS) & READY_FOR_DATA != 0 {
                    break;
                }
            }
            for &byte in chunk {
                self.put(DATA, byte);
            }
        }
    }
}
