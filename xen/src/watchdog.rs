//! A watchdog in the hypervisor: it ends this domain unless it hears of it in time.

use crate::hypercall::Errno;
use crate::machine::machine;

/// A watchdog that runs. It is not stopped when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    id: u32,
    seconds: u32,
}

impl Watchdog {
    /// Starts one that ends the domain, with the reason `watchdog`, unless it is
    /// [fed](Self::feed) at least every `seconds` seconds. Time goes on while the domain is paused.
    ///
    /// # Errors
    /// What Xen says: `EEXIST` when the domain has as many as it may have. On a machine that is not
    /// started, `ENOSYS`.
    pub fn start(seconds: u32) -> Result<Self, Errno> {
        let machine = machine().ok_or(Errno::NOT_IMPLEMENTED)?;
        let id = machine.calls().watchdog(0, seconds)?;
        Ok(Self {
            id: id as u32,
            seconds,
        })
    }

    /// Has it start its count again. Where Xen has forgotten it, as after the domain was restored,
    /// another is started.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn feed(&mut self) -> Result<(), Errno> {
        let machine = machine().ok_or(Errno::NOT_IMPLEMENTED)?;
        if machine.calls().watchdog(self.id, self.seconds).is_err() {
            *self = Self::start(self.seconds)?;
        }
        Ok(())
    }

    /// Stops it.
    ///
    /// # Errors
    /// What Xen says.
    pub fn stop(self) -> Result<(), Errno> {
        let machine = machine().ok_or(Errno::NOT_IMPLEMENTED)?;
        machine.calls().watchdog(self.id, 0)?;
        Ok(())
    }
}
