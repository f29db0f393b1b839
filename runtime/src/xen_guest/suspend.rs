//! `xl save`, `xl restore`, `xl migrate`, from the inside.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use netfront::ResumeHandle;
use rekernel_core::executor::yield_now;
use rekernel_core::lifecycle::{self, Resumed};
use rekernel_core::random;
use rekernel_core::time::{Instant, timeout, wall_clock};
use xen::{Hypervisor, Machine, Resumption, SuspendError};

use super::{Store, emulated};
use crate::console;

/// How long xenstore is waited for to have answered everything. What is under way longer is asked again
/// after a restore.
const QUIET_LIMIT: Duration = Duration::from_secs(1);

/// How long the console may take to take what was written.
const CONSOLE_LIMIT: Duration = Duration::from_millis(200);

/// Drivers that must be told of a restore.
#[derive(Clone, Default)]
pub(super) struct Resumables {
    handles: Rc<RefCell<Vec<ResumeHandle<Hypervisor>>>>,
}

impl Resumables {
    /// One more. Those of interfaces that are gone are forgotten.
    pub(super) fn add(&self, handle: ResumeHandle<Hypervisor>) {
        let mut handles = self.handles.borrow_mut();
        handles.retain(ResumeHandle::is_alive);
        handles.push(handle);
    }

    /// Tells all that are left.
    fn restored(&self) {
        self.handles.borrow_mut().retain(ResumeHandle::restored);
    }

    /// Waits until each has given up what it did for the old domain.
    async fn settled(&self) {
        while !self.handles.borrow().iter().all(ResumeHandle::is_settled) {
            yield_now().await;
        }
    }
}

/// Suspends the guest, and sets right what has to be when it runs again. Returns where that is.
///
/// # Panics
/// When the guest was restored where it cannot run.
pub(super) async fn suspend(
    machine: &'static Machine,
    store: &Store,
    resumables: &Resumables,
) -> Resumed {
    if let Err(unfinished) = lifecycle::run_before_suspend().await {
        console::write_line(format_args!(
            "rekernel: suspend without waiting: {unfinished}"
        ));
    }
    let quiet = timeout(QUIET_LIMIT, store.idle()).await.is_ok();
    log::debug!("xenstore is {}", if quiet { "quiet" } else { "at work" });
    console::write_line(format_args!("rekernel: suspend"));
    // What is in the ring when the domain goes is gone with it.
    xen::console::flush(CONSOLE_LIMIT);
    // From here until the drivers are told nothing is awaited: no task sees the new domain with what it
    // knows of the old one.
    let began = wall_clock();
    let how = match machine.suspend() {
        Ok(Resumption::SameDomain) => Resumed::Continued,
        Ok(Resumption::NewDomain) => Resumed::Restored,
        Err(error @ SuspendError::Refused(_)) => {
            log::error!("{error}");
            Resumed::Continued
        }
        Err(error @ SuspendError::Restore(_)) => panic!("{error}"),
    };
    // Before anyone draws a number: the image holds the generator's state, and may be restored twice.
    if let Err(error) = random::reseed() {
        log::error!("no random numbers after the suspension: {error}");
    }
    // Timers go by the latest reading of the clock.
    Instant::now();
    let away = wall_clock()
        .zip(began)
        .map(|(now, began)| now.saturating_sub(began));
    let away = away.unwrap_or_default().as_millis();
    console::write_line(format_args!("rekernel: {how} after {away} ms"));
    if how == Resumed::Restored {
        emulated::unplug(machine);
        reconnect(machine, store, resumables).await;
    }
    lifecycle::run_after_resume(how);
    how
}

/// Takes up xenstore and all devices in the new domain.
async fn reconnect(machine: &'static Machine, store: &Store, resumables: &Resumables) {
    store.detach();
    resumables.restored();
    resumables.settled().await;
    match machine.store_connection() {
        Ok((ring, port)) => store.resume(ring, port),
        Err(error) => log::error!(
            "no xenstore where the guest was restored, so no network and no orderly shutdown: {error}"
        ),
    }
}
