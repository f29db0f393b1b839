//! Instants, sleeping, time limits and the wall clock.

pub use core::time::Duration;

use core::fmt;
use core::future::Future;
use core::ops::{Add, AddAssign, Sub};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

use crate::context;
use crate::executor::TimerId;

/// A point in time, counted from the boot of the guest. Never goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The current time.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn now() -> Self {
        context::current().now()
    }

    /// The instant that lies `since_boot` after the boot.
    pub const fn since_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long after the boot this instant lies.
    pub const fn duration_since_boot(self) -> Duration {
        self.0
    }

    /// Time that passed from `earlier` to this instant; zero if `earlier` is later.
    pub fn duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time that passed since this instant.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn elapsed(self) -> Duration {
        Self::now().duration_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// The far end of time when the sum overflows.
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// The boot when the difference lies before it.
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(duration))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

/// Time since the Unix epoch, or `None` where the platform has no wall clock.
///
/// # Panics
/// Outside of a running runtime.
pub fn wall_clock() -> Option<Duration> {
    context::current().platform.wall_clock()
}

/// Waits until `duration` has passed.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        timer: None,
    }
}

/// The future of [`sleep`] and [`sleep_until`]. Dropping it cancels its timer.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let runtime = context::current();
        let mut timers = runtime.timers.borrow_mut();
        if runtime.now() >= self.deadline {
            if let Some(timer) = self.timer.take() {
                timers.cancel(timer);
            }
            return Poll::Ready(());
        }
        match self.timer {
            Some(timer) if timers.rearm(timer, task.waker()) => {}
            _ => self.timer = Some(timers.insert(self.deadline, task.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Without a runtime there is no timer left to cancel.
        if let Some(timer) = self.timer.take()
            && let Some(runtime) = crate::cpu_local::current()
        {
            runtime.timers.borrow_mut().cancel(timer);
        }
    }
}

/// The time given to [`timeout`] ran out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the time limit ran out")
    }
}

impl core::error::Error for Elapsed {}

/// Awaits `future`, but no longer than `limit`.
///
/// A future that is ready at the moment the limit runs out still wins.
///
/// # Errors
/// [`Elapsed`]: the future was not ready in time and has been dropped.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(limit));
    core::future::poll_fn(|task| {
        if let Poll::Ready(output) = future.as_mut().poll(task) {
            return Poll::Ready(Ok(output));
        }
        limit.as_mut().poll(task).map(|()| Err(Elapsed))
    })
    .await
}
