//! Suspending, and setting everything up again in a new domain.

use super::{Host, Machine, StartError, SuspendError, identify, open_timer_port, refused};
use crate::abi;
use crate::clock;
use crate::events::{EVENTS, SHARED_INFO};
use crate::hypercall::Errno;
use crate::memory::Frame;

/// How a suspended guest came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// In the domain it was: the suspension was cancelled, or was for a checkpoint. Everything is as it
    /// was.
    SameDomain,
    /// In a new domain, on this host or another: restored from a file, or migrated.
    ///
    /// The machine is set up again. Grants and ports of before are void: those who hold them may
    /// drop them, and must make new ones for their new peers. Who used the ring to xenstore must
    /// [take](Machine::store_connection) the new one.
    NewDomain,
}

impl Machine {
    /// Suspends the guest, and returns when it runs again: a moment later as it seems, as the clock of
    /// [`clock::now`] stands still meanwhile.
    ///
    /// Interrupts must be off, as they are for all code but the one place that lets them in.
    ///
    /// # Errors
    /// [`SuspendError`].
    pub fn suspend(&self) -> Result<Resumption, SuspendError> {
        // The reading that the clock goes on from.
        let _ = clock::now();
        let same_domain = self.calls.suspend().map_err(SuspendError::Refused)?;
        if same_domain {
            clock::resume();
            self.timer.resume(None);
            return Ok(Resumption::SameDomain);
        }
        self.set_up_again().map_err(SuspendError::Restore)?;
        Ok(Resumption::NewDomain)
    }

    /// What [`Machine::start`] does, for the same pages. In the order in which one needs the other:
    /// shared info before ports, ports before who uses them.
    fn set_up_again(&self) -> Result<(), StartError> {
        let calls = self.calls;
        // Before shared info is mapped: from 64-bit mode this makes Xen use the 64-bit layout.
        // SAFETY: duty 4 of `Machine::start`, whose vector this is.
        let result = unsafe { calls.set_callback_vector(self.callback_vector) };
        result.map_err(refused("HVMOP_set_param of the callback vector"))?;
        let shared = SHARED_INFO.get().ok_or(StartError::OutOfPages)?;
        self.put_back(abi::XENMAPSPACE_SHARED_INFO, 0, shared)
            .map_err(refused("XENMEM_add_to_physmap of shared info"))?;
        EVENTS.start_over(shared);
        clock::resume();
        self.identify_again()?;
        self.grants_again()?;
        self.timer.resume(Some(open_timer_port(calls)?));
        let mut rings = self.rings.lock();
        if let (Some(console), Some((page, port))) = (&self.console, rings.find_console(calls)) {
            // The toolstack restores the parameter that says where it is.
            if console.is_in(&page) {
                console.resume(port);
            }
        }
        *self.store.lock() = rings.find_store(calls);
        Ok(())
    }

    /// Has a page of Xen's appear where the one was that the old domain had there.
    fn put_back(&self, space: u32, index: u32, frame: &Frame) -> Result<(), Errno> {
        // SAFETY: the frame was given up for a page of this kind. What is there now was restored
        // from that page, and nobody wants it.
        unsafe { self.calls.add_to_physmap(space, index, frame.number()) }
    }

    fn identify_again(&self) -> Result<(), StartError> {
        // The number of the domain, and perhaps more, is another.
        let detected = crate::detect().unwrap_or_else(|| self.detected());
        let host: Host = identify(self.calls, detected)?;
        *self.host.lock() = host;
        Ok(())
    }

    fn grants_again(&self) -> Result<(), StartError> {
        self.calls
            .set_grant_table_version(1)
            .map_err(refused("GNTTABOP_set_version"))?;
        let memory = &mut *self.memory.lock();
        memory
            .grants
            .resume(&mut memory.pool, &mut |index, frame| {
                self.put_back(abi::XENMAPSPACE_GRANT_TABLE, index, frame)
            })
            .map_err(refused("XENMEM_add_to_physmap of a grant table page"))
    }
}
