//! The programmable interval timer (8254): the one clock of a PC whose frequency is known.
//!
//! It is used once, to measure the others. Channel 0 counts, and its interrupt stays masked;
//! channel 2 would need the speaker's gate, which `microvm` lacks.

use super::io_port::IoPort;

/// Ticks per second: a third of the NTSC colour carrier's, since the first PC.
pub(crate) const FREQUENCY: u64 = 1_193_182;

const CHANNEL: IoPort = IoPort::TIMER_COUNT;
const MODE: IoPort = IoPort::TIMER_MODE;

/// Channel 0, both bytes, mode 2: counts down and starts over.
const COUNT_FOR_EVER: u8 = 0x34;
/// Channel 0, both bytes, mode 0: counts down once.
const COUNT_ONCE: u8 = 0x30;
/// Holds channel 0's count for reading.
const LATCH: u8 = 0x00;

/// The timer, counting.
pub(crate) struct TimerChip {
    last: u16,
    elapsed: u64,
}

impl TimerChip {
    /// Starts counting, or `None` if no timer answers.
    pub(crate) fn start() -> Option<Self> {
        MODE.write_u8(COUNT_FOR_EVER);
        CHANNEL.write_u8(0);
        CHANNEL.write_u8(0);
        let first = count();
        // A tick takes 0.84 us; thousands of reads without one mean that none will come.
        let counts = (0..10_000).any(|_| count() != first);
        counts.then(|| Self {
            last: count(),
            elapsed: 0,
        })
    }

    /// Ticks since [`start`](Self::start). Has to be called at least every 50 ms, because
    /// the counter wraps.
    pub(crate) fn elapsed(&mut self) -> u64 {
        let now = count();
        self.elapsed += u64::from(self.last.wrapping_sub(now));
        self.last = now;
        self.elapsed
    }
}

impl Drop for TimerChip {
    /// Stops the counter: a running one would wake the emulator 18 times a second.
    fn drop(&mut self) {
        MODE.write_u8(COUNT_ONCE);
        CHANNEL.write_u8(1);
        CHANNEL.write_u8(0);
    }
}

fn count() -> u16 {
    MODE.write_u8(LATCH);
    let low = CHANNEL.read_u8();
    let high = CHANNEL.read_u8();
    u16::from_le_bytes([low, high])
}
