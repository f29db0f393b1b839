//! Time as Xen gives it: the clock of `vcpu_info`, the wall clock, the single-shot timer.
//!
//! Xen publishes a base and a scale to turn the processor's time stamp counter into
//! nanoseconds, and changes both whenever it likes (frequency changes, migration). So they are
//! read anew at each use, under the version counter beside them.

mod continuity;

use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use core::time::Duration;

use spin::Mutex;
use xen_proto::hypervisor::EventPort;

use crate::abi::{shared_info, vcpu_info, vcpu_time_info};
use crate::counter::Counter;
use crate::events::{Port, SHARED_INFO};
use crate::hypercall::{Errno, Hypercalls};
use crate::machine::machine;
use crate::memory::Frame;
use continuity::Continuity;

/// Time since an arbitrary moment before the guest's start, never going backwards. The time while the
/// guest was suspended does not count. Zero before [`Machine::start`](crate::Machine::start).
#[must_use]
pub fn now() -> Duration {
    let Some(shared) = SHARED_INFO.get() else {
        return Duration::ZERO;
    };
    READINGS.add();
    Duration::from_nanos(CONTINUITY.at(system_time(shared)))
}

/// Has [`now`] go on from its last reading, whatever this host's clock says: the guest was suspended
/// since.
pub(crate) fn resume() {
    if let Some(shared) = SHARED_INFO.get() {
        CONTINUITY.resume(system_time(shared));
    }
}

static CONTINUITY: Continuity = Continuity::new();

static READINGS: Counter = Counter::new();

/// How often [`now`] read the time stamp counter: a VM exit each where Xen emulates it.
pub(crate) fn readings() -> u64 {
    READINGS.get()
}

/// Time since the Unix epoch as the host tells it; it follows the host's corrections, so it may
/// step. `None` before [`Machine::start`](crate::Machine::start).
#[must_use]
pub fn wall_clock() -> Option<Duration> {
    let shared = SHARED_INFO.get()?;
    Some(wall_clock_base(shared) + Duration::from_nanos(system_time(shared)))
}

/// Has the timer's event raised at `deadline`, on the scale of [`now`], or before. A deadline that
/// passed is raised at once.
///
/// The hypervisor is only called for a deadline earlier than the one it has: a timer that comes too
/// early makes the run loop ask again, once per such time, where deadlines that move later with each
/// packet would cost a hypercall each. For the same reason a timer is never stopped.
pub fn set_timer(deadline: Option<Duration>) {
    if let (Some(machine), Some(deadline)) = (machine(), deadline) {
        machine.set_timer(deadline);
    }
}

/// The single-shot timer of the vCPU.
#[derive(Debug)]
pub(crate) struct Timer {
    state: Mutex<TimerState>,
}

#[derive(Debug)]
struct TimerState {
    /// `VIRQ_TIMER` is bound to it.
    port: Port,
    armed: Option<Armed>,
}

/// What the timer was last set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    /// Nanoseconds on the scale of [`now`].
    deadline: u64,
    /// The timer's event count at that moment: once it differs, the timer went off.
    events: u32,
}

impl Armed {
    /// Whether a timer set like this comes at `deadline` or before, when its event count is
    /// `events` now.
    fn serves(&self, deadline: u64, events: u32) -> bool {
        self.events == events && self.deadline <= deadline
    }
}

impl Timer {
    /// The timer whose events come through `port`.
    pub(crate) fn new(port: Port) -> Self {
        let state = TimerState { port, armed: None };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Xen forgot what the timer was set to. Where it forgot the timer too, `port` is the new one's.
    pub(crate) fn resume(&self, port: Option<Port>) {
        let state = &mut *self.state.lock();
        state.armed = None;
        if let Some(port) = port {
            state.port = port;
        }
    }

    pub(crate) fn set(&self, calls: Hypercalls, deadline: Duration) -> Result<(), Errno> {
        // Enough for 584 years.
        let deadline = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        let TimerState { port, armed } = &mut *self.state.lock();
        let events = port.events();
        if armed.is_some_and(|armed| armed.serves(deadline, events)) {
            return Ok(());
        }
        *armed = None;
        calls.set_timer(CONTINUITY.system_time(deadline))?;
        *armed = Some(Armed { deadline, events });
        Ok(())
    }
}

/// How to turn the time stamp counter into system time (`struct vcpu_time_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeScale {
    /// Counter value at which `system_time` was true.
    timestamp: u64,
    /// Nanoseconds since the host started.
    system_time: u64,
    /// Nanoseconds per (shifted) count, in units of 2^-32.
    multiplier: u32,
    /// By how many bits to shift counts to the left, or to the right if negative.
    shift: i8,
}

impl TimeScale {
    /// System time in nanoseconds when the counter says `counter`.
    fn nanoseconds(&self, counter: u64) -> u64 {
        // Another processor's counter may be a little behind the one that wrote the scale.
        let counts = u128::from(counter.saturating_sub(self.timestamp));
        let shifted = match self.shift {
            // 64 bits of count, shifted by at most 31, times 32 bits of multiplier fit.
            0.. => counts << u32::from(self.shift.unsigned_abs()).min(31),
            _ => counts >> u32::from(self.shift.unsigned_abs()).min(127),
        };
        let elapsed = (shifted * u128::from(self.multiplier)) >> 32;
        self.system_time
            .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds since the host started.
fn system_time(shared: &Frame) -> u64 {
    const TIME: usize = offset_of!(vcpu_info, time);
    let (scale, counter) = consistent(shared, TIME + offset_of!(vcpu_time_info, version), || {
        let last = shared.word32(TIME + offset_of!(vcpu_time_info, tsc_shift));
        let scale = TimeScale {
            timestamp: shared
                .word64(TIME + offset_of!(vcpu_time_info, tsc_timestamp))
                .load(Ordering::Relaxed),
            system_time: shared
                .word64(TIME + offset_of!(vcpu_time_info, system_time))
                .load(Ordering::Relaxed),
            multiplier: shared
                .word32(TIME + offset_of!(vcpu_time_info, tsc_to_system_mul))
                .load(Ordering::Relaxed),
            shift: last.load(Ordering::Relaxed).to_le_bytes()[0].cast_signed(),
        };
        // Inside the loop: after a migration, counter and scale must be of the same host.
        (scale, time_stamp_counter())
    });
    scale.nanoseconds(counter)
}

/// Wall clock at the moment the host started.
fn wall_clock_base(shared: &Frame) -> Duration {
    let version = offset_of!(shared_info, wc_version);
    consistent(shared, version, || {
        let word = |offset| shared.word32(offset).load(Ordering::Relaxed);
        let low = u64::from(word(offset_of!(shared_info, wc_sec)));
        let high = u64::from(word(offset_of!(shared_info, wc_sec_hi)));
        let nanoseconds = u64::from(word(offset_of!(shared_info, wc_nsec)));
        Duration::from_secs(high << 32 | low) + Duration::from_nanos(nanoseconds)
    })
}

/// Reads values that Xen updates between two increments of the version at `version`: odd means
/// an update is under way.
fn consistent<T>(shared: &Frame, version: usize, read: impl Fn() -> T) -> T {
    let version = shared.word32(version);
    loop {
        let before = version.load(Ordering::Acquire);
        let value = read();
        core::sync::atomic::fence(Ordering::Acquire);
        if before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before {
            return value;
        }
        core::hint::spin_loop();
    }
}

fn time_stamp_counter() -> u64 {
    // The counter may otherwise be read before the loads that precede it.
    // SAFETY: every x86-64 processor has SSE2 and a time stamp counter; Xen emulates it where
    // it does not let the guest read it.
    unsafe { _mm_lfence() };
    // SAFETY: as above.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_page;

    const SCALE: TimeScale = TimeScale {
        timestamp: 1_000_000,
        system_time: 5_000_000_000,
        multiplier: 1 << 31,
        shift: 1,
    };

    #[test]
    fn a_timer_serves_later_deadlines_until_it_went_off() {
        let armed = Armed {
            deadline: 1000,
            events: 7,
        };
        assert!(armed.serves(1000, 7) && armed.serves(5000, 7));
        assert!(!armed.serves(999, 7));
        assert!(!armed.serves(1000, 8) && !armed.serves(5000, 8));
    }

    #[test]
    fn one_count_is_one_nanosecond() {
        assert_eq!(SCALE.nanoseconds(1_000_000), 5_000_000_000);
        assert_eq!(SCALE.nanoseconds(1_000_123), 5_000_000_123);
        // 10^9 counts a second for 100 years.
        let century = 3_155_760_000_000_000_000;
        assert_eq!(
            SCALE.nanoseconds(1_000_000 + century),
            5_000_000_000 + century
        );
    }

    #[test]
    fn shifts_go_both_ways() {
        // A 2.4 GHz counter as Xen 4.17 scales it: shift 0 would not fit 32 bits of fraction.
        let fast = TimeScale {
            shift: -1,
            multiplier: 3_579_139_413,
            ..SCALE
        };
        assert_eq!(fast.nanoseconds(1_000_000 + 2_400_000_000), 5_999_999_999);
        let slow = TimeScale {
            shift: 4,
            multiplier: 1 << 31,
            ..SCALE
        };
        assert_eq!(slow.nanoseconds(1_000_001), 5_000_000_008);
    }

    #[test]
    fn a_counter_behind_the_timestamp_is_the_timestamp() {
        assert_eq!(SCALE.nanoseconds(999_999), 5_000_000_000);
    }

    #[test]
    fn senseless_scales_do_not_panic() {
        for shift in [i8::MIN, -64, 31, 32, i8::MAX] {
            let scale = TimeScale {
                shift,
                multiplier: u32::MAX,
                ..SCALE
            };
            assert!(scale.nanoseconds(u64::MAX) >= SCALE.system_time);
        }
    }

    #[test]
    fn an_update_under_way_is_waited_for() {
        use std::cell::Cell;
        let shared = test_page::frame();
        let offset = offset_of!(shared_info, wc_version);
        shared.word32(offset).store(3, Ordering::Relaxed);
        let reads = Cell::new(0);
        let value = consistent(&shared, offset, || {
            reads.set(reads.get() + 1);
            match reads.get() {
                // The update ends while we read, another one passes during the next read.
                1 => shared.word32(offset).store(4, Ordering::Relaxed),
                2 => shared.word32(offset).store(6, Ordering::Relaxed),
                _ => {}
            }
            reads.get()
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn wall_clock_has_64_bits_of_seconds() {
        let shared = test_page::frame();
        let store = |offset, value| shared.word32(offset).store(value, Ordering::Relaxed);
        store(offset_of!(shared_info, wc_sec), 7);
        store(offset_of!(shared_info, wc_sec_hi), 1);
        store(offset_of!(shared_info, wc_nsec), 250_000_000);
        assert_eq!(
            wall_clock_base(&shared),
            Duration::from_millis(((1 << 32) + 7) * 1000 + 250)
        );
    }
}
