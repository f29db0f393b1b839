//! The hypervisor's watchdog.

use alloc::boxed::Box;

use crate::watchdog::{Watchdog, WatchdogError};

/// Starts one.
pub(super) fn start(seconds: u32) -> Result<Box<dyn Watchdog>, WatchdogError> {
    match xen::watchdog::Watchdog::start(seconds) {
        Ok(watchdog) => Ok(Box::new(watchdog)),
        Err(errno) => Err(WatchdogError::Refused { errno }),
    }
}

impl Watchdog for xen::watchdog::Watchdog {
    fn feed(&mut self) -> Result<(), WatchdogError> {
        self.feed()
            .map_err(|errno| WatchdogError::Refused { errno })
    }
}
