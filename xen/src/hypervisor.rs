//! [`xen_proto::hypervisor::Hypervisor`] on the real machine.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;

use xen_proto::hypervisor::{self, Access, DomainId, ResourceError};

use crate::events::Port;
use crate::grants::GrantedMemory;
use crate::machine::Machine;

/// Waiting, which is the executor's business: it hands this in at
/// [`Machine::start`].
pub trait Timers: Sync {
    /// Time on the scale of [`clock::now`](crate::clock::now), the scale of all deadlines.
    fn now(&self) -> Duration {
        crate::clock::now()
    }

    /// Ready at `deadline`.
    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// What drivers are given. Copies speak of the same machine.
#[derive(Clone, Copy, Debug)]
pub struct Hypervisor {
    machine: &'static Machine,
}

impl Hypervisor {
    pub(crate) fn new(machine: &'static Machine) -> Self {
        Self { machine }
    }

    /// The machine below.
    #[must_use]
    pub fn machine(&self) -> &'static Machine {
        self.machine
    }
}

impl hypervisor::Hypervisor for Hypervisor {
    type Page = GrantedMemory;
    type Port = Port;
    type Sleep = Pin<Box<dyn Future<Output = ()>>>;

    fn share_page(&self, peer: DomainId, access: Access) -> Result<Self::Page, ResourceError> {
        GrantedMemory::new(self.machine, peer, access)
    }

    fn allocate_port(&self, peer: DomainId) -> Result<Self::Port, ResourceError> {
        self.machine.allocate_port(peer)
    }

    fn now(&self) -> Duration {
        self.machine.timers().now()
    }

    fn sleep_until(&self, deadline: Duration) -> Self::Sleep {
        self.machine.timers().sleep_until(deadline)
    }
}
