//! One end of an event channel, as drivers hold it.

use core::cell::Cell;
use core::task::{Context, Poll};

use xen_proto::hypervisor::{EventPort, PortNumber, ResourceError};

use super::{EVENTS, SHARED_INFO};
use crate::abi::EVENT_PORTS;
use crate::hypercall::{Errno, Hypercalls};

/// One end of an event channel. Dropping it closes the port.
///
/// A port lives no longer than its domain: once the guest was restored in another one it is silent, and
/// does nothing to the new port that may have its number.
#[derive(Debug)]
pub struct Port {
    calls: Hypercalls,
    number: u32,
    /// Of which life of the guest it is.
    life: u32,
    /// The port's event count when [`poll_event`](EventPort::poll_event) was last ready.
    seen: Cell<u32>,
}

impl Port {
    /// Takes charge of a port that this domain has: `number` came from Xen or the toolstack.
    pub(crate) fn open(calls: Hypercalls, number: u32) -> Result<Self, ResourceError> {
        let refused = |operation, Errno(errno)| ResourceError::Refused { operation, errno };
        if number >= EVENT_PORTS {
            return Err(refused("an event channel port", Errno::NO_SPACE));
        }
        let shared = SHARED_INFO.get();
        if let Some(shared) = shared {
            EVENTS.silence(shared, number);
        }
        let port = Self {
            calls,
            number,
            life: EVENTS.life(),
            seen: Cell::new(EVENTS.events(number)),
        };
        if let Some(shared) = shared {
            EVENTS.open(shared, number);
        }
        Ok(port)
    }

    fn is_alive(&self) -> bool {
        self.life == EVENTS.life()
    }
}

impl EventPort for Port {
    fn number(&self) -> PortNumber {
        PortNumber(self.number)
    }

    fn notify(&self) {
        if self.is_alive() {
            // Fails when the peer is gone, which is no news for this layer.
            let _ = self.calls.send(self.number);
        }
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_alive() {
            return Poll::Pending;
        }
        let events = EVENTS.events(self.number);
        if self.seen.replace(events) != events {
            return Poll::Ready(());
        }
        // An event that comes right here is counted and noted by the handler, but dispatched,
        // and its waker looked for, only by the run loop: later than this.
        EVENTS.wake_on_event(self.number, context.waker());
        Poll::Pending
    }

    fn events(&self) -> u32 {
        EVENTS.events(self.number)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.is_alive() {
            return;
        }
        if let Some(shared) = SHARED_INFO.get() {
            EVENTS.close(shared, self.number);
        }
        // Fails only for a port that is closed, which is what is wanted.
        let _ = self.calls.close_port(self.number);
    }
}
