//! When an interface tries again to connect, and when it says that it has no connection.

use core::time::Duration;

use xen_proto::xenbus::Phase;

/// How long a connection may take before it is reported that there is none.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time between two reports that there is still no connection.
const LONGEST_REPORT_INTERVAL: Duration = Duration::from_secs(600);

/// Shortest and longest time to wait after a failure before the next attempt.
pub(super) const SHORTEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long a backend may take to say that it has closed too, where it is ready for a new connection
/// without: Linux's and FreeBSD's say it as soon as they are told of our state.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(5);

/// A connection that held this long makes up for the failures before it.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);

/// When to try again, and when to say that it is taking long.
pub(super) struct Pace {
    /// Not before this.
    retry_at: Duration,
    /// Until then a backend may take note that we have closed.
    acknowledge_by: Duration,
    /// How long the next failure delays.
    delay: Duration,
    /// When the connection came up, if it is up.
    up_since: Option<Duration>,
    /// Since when there is no connection.
    pub(super) down_since: Duration,
    /// When to report that there is none; never for a device that was taken away.
    pub(super) report_at: Option<Duration>,
    report_interval: Duration,
}

impl Pace {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            retry_at: now,
            acknowledge_by: now,
            delay: SHORTEST_RETRY,
            up_since: None,
            down_since: now,
            report_at: Some(now + CONNECT_TIMEOUT),
            report_interval: CONNECT_TIMEOUT,
        }
    }

    pub(super) fn connected(&mut self, now: Duration) {
        self.up_since = Some(now);
    }

    pub(super) fn disconnected(&mut self, now: Duration) {
        if let Some(since) = self.up_since.take()
            && now.saturating_sub(since) >= GOOD_CONNECTION
        {
            self.delay = SHORTEST_RETRY;
        }
        self.awaited(now);
    }

    /// A connection is expected from now on.
    pub(super) fn awaited(&mut self, now: Duration) {
        self.down_since = now;
        self.report_at = Some(now + CONNECT_TIMEOUT);
        self.report_interval = CONNECT_TIMEOUT;
    }

    /// No connection is expected.
    pub(super) fn not_awaited(&mut self) {
        self.report_at = None;
    }

    pub(super) fn failed(&mut self, now: Duration) {
        if let Some(since) = self.up_since
            && now.saturating_sub(since) >= GOOD_CONNECTION
        {
            self.delay = SHORTEST_RETRY;
        }
        self.retry_at = now + self.delay;
        self.delay = (self.delay * 2).min(LONGEST_RETRY);
    }

    /// The backend was told to leave the rings.
    pub(super) fn closed(&mut self, now: Duration) {
        self.acknowledge_by = now + ACKNOWLEDGE_LIMIT;
    }

    /// When to connect anew to a backend that has closed too, or that has not and is ready all the same.
    pub(super) fn restart_at(&self, acknowledged: bool) -> Duration {
        match acknowledged {
            true => self.retry_at,
            false => self.retry_at.max(self.acknowledge_by),
        }
    }

    pub(super) fn reported(&mut self, now: Duration) {
        self.report_interval = (self.report_interval * 2).min(LONGEST_REPORT_INTERVAL);
        self.report_at = Some(now + self.report_interval);
    }

    /// When to wake up without a change.
    pub(super) fn deadline(&self, phase: Phase, now: Duration) -> Option<Duration> {
        match phase {
            Phase::Running => None,
            Phase::Closed => [self.retry_at, self.acknowledge_by]
                .into_iter()
                .filter(|at| *at > now)
                .chain(self.report_at)
                .min(),
            _ => self.report_at,
        }
    }
}
