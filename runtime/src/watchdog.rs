//! A watchdog outside of the guest, which ends it when it stands still.
//!
//! Off unless the command line says `watchdog=SECONDS` or the program calls [`start`]. A task feeds
//! it four times in that time, so what it notices is a run loop that does not turn: a task that
//! computes without end, a deadlock, an interrupt storm. On Xen the domain ends with the reason
//! `watchdog`, and the toolstack does what `on_watchdog` says (`xl.cfg`: destroy, unless told).
//!
//! It counts while the guest is paused, too. Outside of Xen there is none.

use core::fmt;
use core::time::Duration;

use rekernel_core::executor::spawn;
use rekernel_core::time::sleep;

use crate::machine;

/// Why there is no watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchdogError {
    /// This machine has none.
    Unsupported {
        /// The machine's name.
        platform: &'static str,
    },
    /// The hypervisor does not start it.
    Refused {
        /// What it says.
        errno: xen::Errno,
    },
    /// Not a number of seconds from 1 to 86400.
    BadTimeout {
        /// The time asked for.
        timeout: Duration,
    },
}

impl fmt::Display for WatchdogError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { platform } => {
                write!(formatter, "{platform} has no watchdog; only Xen has")
            }
            Self::Refused { errno } => write!(formatter, "xen refused SCHEDOP_watchdog: {errno}"),
            Self::BadTimeout { timeout } => {
                write!(formatter, "{timeout:?} is not from 1 s to 86400 s")
            }
        }
    }
}

impl core::error::Error for WatchdogError {}

/// A watchdog that runs.
pub(crate) trait Watchdog {
    /// Has it start its count again.
    ///
    /// # Errors
    /// What the hypervisor says.
    fn feed(&mut self) -> Result<(), WatchdogError>;
}

/// Has the hypervisor end this guest when its run loop stands still for `timeout`, whole seconds.
///
/// # Errors
/// [`WatchdogError`].
///
/// # Panics
/// Outside of main and its tasks.
pub fn start(timeout: Duration) -> Result<(), WatchdogError> {
    let unsupported = WatchdogError::Unsupported {
        platform: "this machine",
    };
    let machine = machine::chosen().ok_or(unsupported)?;
    let bad = WatchdogError::BadTimeout { timeout };
    let seconds = match timeout.as_secs() {
        seconds @ 1..=86_400 => seconds as u32,
        _ => return Err(bad),
    };
    let mut watchdog = machine.start_watchdog(seconds)?;
    log::info!("the watchdog ends this guest when it stands still for {seconds} s");
    let pause = Duration::from_secs(seconds.into()) / 4;
    spawn(async move {
        loop {
            sleep(pause).await;
            if let Err(error) = watchdog.feed() {
                log::error!("the watchdog is not fed any more: {error}");
                return;
            }
        }
    });
    Ok(())
}
