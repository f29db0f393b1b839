//! Time on a PC: the time-stamp counter, whose speed has to be found out first.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::local_apic::LocalApic;
use super::timer_chip::{self, TimerChip};
use crate::counter::Counter;
use crate::processor::{cpuid, time_stamp_counter};

/// How long the clocks are compared while the guest starts and can do nothing else. The error is
/// the time one reading takes, one or two microseconds, over this: below one part in a hundred.
const FIRST_MEASUREMENT: Duration = Duration::from_micros(500);
/// How long they are compared then, while the guest works: below one part in ten thousand. The
/// timer chip's counter wraps after 55 ms.
const SECOND_MEASUREMENT: Duration = Duration::from_millis(25);
/// How often the second measurement is tried: one that was held up for too long is recognised.
const ATTEMPTS: usize = 20;

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
    /// Counter value and nanoseconds since the start, from which time is counted. They and the
    /// speed change when it was measured better. Atomics because a clock is shared; there is one
    /// processor, and interrupt handlers do not read it.
    anchor_ticks: AtomicU64,
    anchor_nanoseconds: AtomicU64,
    ticks_per_second: AtomicU64,
    /// Nanoseconds per tick, times 2^32.
    scale: AtomicU64,
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
        let shortest = ticks_in(FIRST_MEASUREMENT, ticks_per_second);
        while time_stamp_counter() - begin < shortest {
            core::hint::spin_loop();
        }
        let timer_ticks = u128::from(apic.measured());
        let ticks = u128::from(time_stamp_counter() - begin);
        let timer_per_second = (timer_ticks * u128::from(ticks_per_second) / ticks) as u64;
        Self {
            anchor_ticks: AtomicU64::new(start),
            anchor_nanoseconds: AtomicU64::new(0),
            ticks_per_second: AtomicU64::new(ticks_per_second),
            scale: AtomicU64::new(scale(ticks_per_second)),
            timer_per_second,
            source,
            readings: Counter::new(),
        }
    }

    /// Measures the counter's speed for longer, if it had to be measured. For a task: the time
    /// goes on without a step, at the better speed.
    pub(crate) async fn refine(&self) {
        if self.source != Source::Measured {
            return;
        }
        let Some(mut chip) = TimerChip::start() else {
            return;
        };
        for _ in 0..ATTEMPTS {
            let begin = read_both(&mut chip);
            rekernel_core::time::sleep(SECOND_MEASUREMENT).await;
            let measured = frequency_between(begin, read_both(&mut chip));
            let first = self.ticks_per_second.load(Ordering::Relaxed);
            // Farther off than the first could be: the counter wrapped, as nobody ran for long.
            let Some(better) = measured.filter(|better| better.abs_diff(first) < first / 50) else {
                continue;
            };
            let now = self.now().as_nanos() as u64;
            self.anchor_ticks
                .store(time_stamp_counter(), Ordering::Relaxed);
            self.anchor_nanoseconds.store(now, Ordering::Relaxed);
            self.ticks_per_second.store(better, Ordering::Relaxed);
            self.scale.store(scale(better), Ordering::Relaxed);
            log::debug!("time-stamp counter at {} kHz", better / 1000);
            return;
        }
        log::warn!("the clock's speed could be measured for half a millisecond only");
    }

    /// How often [`now`](Self::now) was asked.
    pub(crate) fn readings(&self) -> u64 {
        self.readings.get()
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.readings.add();
        let anchor = self.anchor_ticks.load(Ordering::Relaxed);
        let ticks = time_stamp_counter().saturating_sub(anchor);
        let scale = self.scale.load(Ordering::Relaxed);
        let since = (u128::from(ticks) * u128::from(scale)) >> 32;
        let before = self.anchor_nanoseconds.load(Ordering::Relaxed);
        Duration::from_nanos(before.saturating_add(since as u64))
    }

    /// The counter value at `time`, or earlier for a time that passed.
    pub(crate) fn counter_at(&self, time: Duration) -> u64 {
        let before = Duration::from_nanos(self.anchor_nanoseconds.load(Ordering::Relaxed));
        let ticks_per_second = self.ticks_per_second.load(Ordering::Relaxed);
        self.anchor_ticks
            .load(Ordering::Relaxed)
            .saturating_add(ticks_in(time.saturating_sub(before), ticks_per_second))
    }

    /// Ticks of the local APIC's timer in `span`: at least one, at most what it can count.
    pub(crate) fn timer_ticks(&self, span: Duration) -> u32 {
        let ticks = ticks_in(span, self.timer_per_second).saturating_add(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Where the speed is from, and the counter's ticks per second.
    pub(crate) fn speed(&self) -> (Source, u64) {
        (self.source, self.ticks_per_second.load(Ordering::Relaxed))
    }
}

fn scale(ticks_per_second: u64) -> u64 {
    ((1_000_000_000_u128 << 32) / u128::from(ticks_per_second)) as u64
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
    let begin = read_both(&mut chip);
    let (_, first_count) = begin;
    let span = FIRST_MEASUREMENT.as_micros() as u64 * timer_chip::FREQUENCY / 1_000_000;
    while chip.elapsed() - first_count < span {
        core::hint::spin_loop();
    }
    frequency_between(begin, read_both(&mut chip))
}

/// Ticks per second of the counter, from two readings of counter and chip.
fn frequency_between(first: (u64, u64), last: (u64, u64)) -> Option<u64> {
    let ticks = u128::from(last.0.checked_sub(first.0)?);
    let counts = last.1.checked_sub(first.1).filter(|&counts| counts > 0)?;
    let frequency = ticks * u128::from(timer_chip::FREQUENCY) / u128::from(counts);
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
