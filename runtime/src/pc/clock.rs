//! Time on a PC: the time-stamp counter, whose speed has to be found out first.

use core::time::Duration;

use super::local_apic::LocalApic;
use super::timer_chip::{self, TimerChip};
use crate::counter::Counter;
use crate::processor::{cpuid, time_stamp_counter};

/// How long the clocks are compared. The error is the time one reading takes, a few
/// microseconds, over this: below one part in a thousand.
const MEASUREMENT: Duration = Duration::from_millis(10);
/// The same for the local APIC's timer once the time-stamp counter's speed is known.
const SHORT_MEASUREMENT: Duration = Duration::from_millis(1);

/// CPUID leaves in which hypervisors describe themselves start here.
const HYPERVISOR_LEAVES: u32 = 0x4000_0000;
/// The leaf with the frequencies, first defined by VMware, also given by KVM in QEMU.
const HYPERVISOR_FREQUENCIES: u32 = 0x4000_0010;

/// What the speeds were taken from, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The hypervisor tells (CPUID leaf 0x40000010).
    Hypervisor,
    /// The processor tells (CPUID leaf 0x15).
    Processor,
    /// Measured against the 8254 timer.
    Measured,
    /// Nobody could tell.
    Guessed,
}

/// The clock, started.
#[derive(Debug)]
pub(crate) struct Clock {
    start: u64,
    ticks_per_second: u64,
    /// Nanoseconds per tick, times 2^32.
    scale: u64,
    /// Ticks of the local APIC's timer per second.
    timer_per_second: u64,
    source: Source,
    readings: Counter,
}

impl Clock {
    /// Finds out the speeds; time starts at the counter value `start`.
    pub(crate) fn start(start: u64, apic: &LocalApic) -> Self {
        apic.start_measurement();
        let begin = time_stamp_counter();
        let (ticks_per_second, source) = frequency();
        let shortest = ticks_in(SHORT_MEASUREMENT, ticks_per_second);
        while time_stamp_counter() - begin < shortest {
            core::hint::spin_loop();
        }
        let timer_ticks = u128::from(apic.measured());
        let ticks = u128::from(time_stamp_counter() - begin);
        let timer_per_second = (timer_ticks * u128::from(ticks_per_second) / ticks) as u64;
        Self {
            start,
            ticks_per_second,
            scale: ((1_000_000_000_u128 << 32) / u128::from(ticks_per_second)) as u64,
            timer_per_second,
            source,
            readings: Counter::new(),
        }
    }

    /// How often [`now`](Self::now) was asked.
    pub(crate) fn readings(&self) -> u64 {
        self.readings.get()
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.readings.add();
        let ticks = time_stamp_counter().saturating_sub(self.start);
        let nanoseconds = (u128::from(ticks) * u128::from(self.scale)) >> 32;
        Duration::from_nanos(nanoseconds as u64)
    }

    /// The counter value at `time`.
    pub(crate) fn counter_at(&self, time: Duration) -> u64 {
        self.start
            .saturating_add(ticks_in(time, self.ticks_per_second))
    }

    /// Ticks of the local APIC's timer in `span`: at least one, at most what it can count.
    pub(crate) fn timer_ticks(&self, span: Duration) -> u32 {
        let ticks = ticks_in(span, self.timer_per_second).saturating_add(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Where the speed is from, and the counter's ticks per second.
    pub(crate) fn speed(&self) -> (Source, u64) {
        (self.source, self.ticks_per_second)
    }
}

fn ticks_in(span: Duration, ticks_per_second: u64) -> u64 {
    let ticks = span.as_nanos() * u128::from(ticks_per_second) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Ticks per second of the time-stamp counter.
fn frequency() -> (u64, Source) {
    if let Some(frequency) = told_by_hypervisor() {
        return (frequency, Source::Hypervisor);
    }
    if let Some(frequency) = told_by_processor() {
        return (frequency, Source::Processor);
    }
    if let Some(frequency) = measured() {
        return (frequency, Source::Measured);
    }
    (1_000_000_000, Source::Guessed)
}

fn told_by_hypervisor() -> Option<u64> {
    let under_hypervisor = cpuid(1).ecx & 1 << 31 != 0;
    let has_leaf = under_hypervisor && cpuid(HYPERVISOR_LEAVES).eax >= HYPERVISOR_FREQUENCIES;
    let kilohertz = if has_leaf {
        cpuid(HYPERVISOR_FREQUENCIES).eax
    } else {
        0
    };
    (kilohertz != 0).then(|| u64::from(kilohertz) * 1000)
}

fn told_by_processor() -> Option<u64> {
    if cpuid(0).eax < 0x15 {
        return None;
    }
    // The counter runs at crystal * numerator / denominator; any part may be absent.
    let leaf = cpuid(0x15);
    let (denominator, numerator, crystal) = (leaf.eax, leaf.ebx, leaf.ecx);
    let frequency = u64::from(crystal) * u64::from(numerator);
    (frequency != 0 && denominator != 0).then(|| frequency / u64::from(denominator))
}

fn measured() -> Option<u64> {
    let mut chip = TimerChip::start()?;
    let (first_ticks, first_count) = read_both(&mut chip);
    let span = MEASUREMENT.as_micros() as u64 * timer_chip::FREQUENCY / 1_000_000;
    while chip.elapsed() - first_count < span {
        core::hint::spin_loop();
    }
    let (last_ticks, last_count) = read_both(&mut chip);
    let ticks = u128::from(last_ticks - first_ticks);
    let frequency =
        ticks * u128::from(timer_chip::FREQUENCY) / u128::from(last_count - first_count);
    // Outside 10 MHz to 100 GHz the measurement is broken, not the processor strange.
    u64::try_from(frequency)
        .ok()
        .filter(|frequency| (10_000_000..100_000_000_000).contains(frequency))
}

/// Counter and chip as near to the same moment as a few attempts allow: an emulator may be
/// away between the two readings.
fn read_both(chip: &mut TimerChip) -> (u64, u64) {
    let attempt = |_| {
        let before = time_stamp_counter();
        let count = chip.elapsed();
        let after = time_stamp_counter();
        (after - before, before + (after - before) / 2, count)
    };
    let best = (0..8).map(attempt).min_by_key(|&(width, ..)| width);
    best.map_or((0, 0), |(_, ticks, count)| (ticks, count))
}
