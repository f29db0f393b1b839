//! From Xen's time, which is another after a migration, to one that goes on.

use core::sync::atomic::{AtomicU64, Ordering};

/// What was read last, and how far Xen's time is ahead of ours. All in nanoseconds.
#[derive(Debug)]
pub(super) struct Continuity {
    latest: AtomicU64,
    /// Wraps: a host that was started later is behind.
    ahead: AtomicU64,
}

impl Continuity {
    /// Both times are the same at first.
    pub(super) const fn new() -> Self {
        Self {
            latest: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
        }
    }

    /// Our time when Xen's is `system`, or the latest told if that would be a step backwards: processors'
    /// counters disagree by a little.
    pub(super) fn at(&self, system: u64) -> u64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        // Less than nothing right after a resume, when Xen's time seems to go backwards.
        let ours = system.wrapping_sub(ahead).cast_signed().max(0);
        let now = ours
            .cast_unsigned()
            .max(self.latest.load(Ordering::Relaxed));
        self.latest.store(now, Ordering::Relaxed);
        now
    }

    /// Xen's time when ours is `deadline`.
    pub(super) fn system_time(&self, deadline: u64) -> u64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let latest = self.latest.load(Ordering::Relaxed);
        // In two steps, as it is the distance from now on that must not wrap.
        let now = latest.wrapping_add(ahead);
        now.saturating_add(deadline.saturating_sub(latest))
    }

    /// Goes on from the latest time told: at this moment Xen's is `system`.
    pub(super) fn resume(&self, system: u64) {
        let latest = self.latest.load(Ordering::Relaxed);
        self.ahead
            .store(system.wrapping_sub(latest), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn time_goes_on_from_where_it_was_on_any_host() {
        for elsewhere in [0, 5, HOUR, 10 * HOUR, 1 << 62] {
            let clock = Continuity::new();
            assert_eq!(clock.at(3 * HOUR), 3 * HOUR);
            clock.resume(elsewhere);
            assert_eq!(clock.at(elsewhere), 3 * HOUR);
            assert_eq!(clock.at(elsewhere + 7), 3 * HOUR + 7);
            // And back, a second time.
            clock.resume(2 * HOUR);
            assert_eq!(clock.at(2 * HOUR + 1), 3 * HOUR + 8);
        }
    }

    #[test]
    fn time_never_goes_backwards() {
        let clock = Continuity::new();
        assert_eq!(clock.at(HOUR), HOUR);
        assert_eq!(clock.at(HOUR - 1), HOUR);
        clock.resume(50);
        assert_eq!(clock.at(0), HOUR);
        assert_eq!(clock.at(51), HOUR + 1);
    }

    #[test]
    fn a_counter_behind_at_the_very_start_is_not_the_end_of_time() {
        let clock = Continuity::new();
        clock.resume(1000);
        assert_eq!(clock.at(999), 0);
        assert_eq!(clock.at(1001), 1);
    }

    #[test]
    fn deadlines_are_told_to_xen_in_its_own_time() {
        let clock = Continuity::new();
        assert_eq!(clock.system_time(70), 70);
        clock.at(3 * HOUR);
        clock.resume(HOUR);
        assert_eq!(clock.system_time(3 * HOUR + 9), HOUR + 9);
        // One that passed is due at once; the far end of time stays far.
        assert_eq!(clock.system_time(HOUR), HOUR);
        assert!(clock.system_time(u64::MAX) >= u64::MAX - 3 * HOUR);
    }
}
