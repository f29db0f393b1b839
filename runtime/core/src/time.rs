//! Instants, sleeping, time limits and the wall clock.

pub use core::time::Duration;

use core::fmt;
use core::future::Future;
use core::ops::{Add, AddAssign, Sub};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

use crate::context;
use crate::executor::{Deadline, TimerId};
use crate::memory::OutOfMemory;

/// A point in time, counted from the boot of the guest. Never goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The current time, read from the clock now.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn now() -> Self {
        context::current().now()
    }

    /// The time when the clock was last read, by whomever: a little behind. The run loop reads it
    /// after each sleep of the processor and every few turns in between. For what happens with
    /// every packet: on some hosts a reading of the clock is a trip into the hypervisor.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn recent() -> Self {
        context::current().recent()
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

/// Waits until `duration` has passed, counted from now.
///
/// # Panics
/// Outside of a running runtime.
pub fn sleep(duration: Duration) -> Sleep {
    let runtime = context::current();
    if duration.is_zero() {
        return sleep_until(runtime.recent());
    }
    // The clock is not read for this: what it says next is not before now, so that the sleep is
    // never too short, and it is read before the processor sleeps.
    let deadline = Deadline::After(duration);
    let timer = runtime.timers.borrow_mut().add(deadline);
    match timer {
        Ok(timer) => Sleep {
            deadline,
            timer: Some(timer),
        },
        Err(OutOfMemory) => sleep_until(runtime.now() + duration),
    }
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline: Deadline::At(deadline),
        timer: None,
    }
}

/// The future of [`sleep`] and [`sleep_until`]. Dropping it cancels its timer.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Deadline,
    timer: Option<TimerId>,
}

impl Sleep {
    /// Waits until `deadline` instead, also if it was ready. Whoever polled it is not woken for the
    /// deadline before: poll it again.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = Deadline::At(deadline);
    }

    fn cancel(&mut self) {
        // Without a runtime there is no timer left to cancel.
        if let Some(timer) = self.timer.take()
            && let Some(runtime) = crate::cpu_local::current()
        {
            runtime.timers.borrow_mut().cancel(timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let runtime = context::current();
        let mut timers = runtime.timers.borrow_mut();
        if let Some(decided) = self.timer.and_then(|timer| timers.deadline(timer)) {
            self.deadline = decided;
        }
        if self.deadline <= Deadline::At(runtime.recent()) {
            if let Some(timer) = self.timer.take() {
                timers.cancel(timer);
            }
            return Poll::Ready(());
        }
        let known = self.timer.filter(|&timer| timers.deadline(timer).is_some());
        match known.map_or_else(|| timers.add(self.deadline), Ok) {
            Ok(timer) => {
                timers.wait(timer, task.waker());
                self.timer = Some(timer);
            }
            // Looks at the clock time and again instead.
            Err(OutOfMemory) => task.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
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
