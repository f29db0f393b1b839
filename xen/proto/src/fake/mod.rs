//! A strict Xen for host tests: grants, event channels, clock, xenstored and an executor.
//!
//! What Xen would refuse panics here, at once and with the reason, so that a test cannot pass
//! by luck. A test plays both sides: the guest through [`FakeHypervisor`], peers through
//! [`FakePeer`], the toolstack through [`FakeXenstored`]. Time stands still until a test moves
//! it. [`TestBed`] has one of each, wired together.

mod clock;
mod event_channel;
mod executor;
mod grant_table;
mod hypervisor;
mod page;
mod random;
#[cfg(test)]
mod tests;
mod xenstored;

use alloc::rc::Rc;
use core::future::{Future, poll_fn};
use core::pin::pin;

use failing_memory::unharmed;

pub use self::clock::FakeSleep;
pub use self::event_channel::FakePort;
pub use self::executor::{Executor, TaskHandle};
pub use self::grant_table::{FakeGrantedPage, MapError, MappedPage};
pub use self::hypervisor::{FakeHypervisor, FakePeer};
pub use self::page::{AdversarialPage, FakePage};
pub use self::random::Random;
pub use self::xenstored::{FakeXenstored, Misbehave};
use crate::hypervisor::DomainId;
use crate::xenstore::Store;

/// A guest with a hypervisor, a xenstored that serves it, a client of it, and an executor on
/// which both run already.
pub struct TestBed {
    /// Runs tasks and moves time.
    pub executor: Executor,
    /// The guest's hypervisor.
    pub hypervisor: FakeHypervisor,
    /// The toolstack's side of xenstore.
    pub xenstored: FakeXenstored,
    /// The guest's side of xenstore.
    pub store: Store<FakeHypervisor>,
}

impl TestBed {
    /// The domain of the guest.
    pub const GUEST: DomainId = DomainId(7);
    /// The domain of the guest after [`restore`](Self::restore).
    pub const RESTORED: DomainId = DomainId(8);
    /// The domain of the peers.
    pub const PEER: DomainId = DomainId(0);

    /// A guest that has just been started. Ring indices and request ids are close to their
    /// wrap from the start.
    #[expect(clippy::new_without_default, reason = "a test bed is no value")]
    pub fn new() -> Self {
        let hypervisor = FakeHypervisor::new(Self::GUEST);
        let executor = Executor::new(&hypervisor);
        let (xenstored, ring, port) = FakeXenstored::new(&hypervisor);
        let ring = Rc::new(ring);
        let store = Store::starting_at(hypervisor.clone(), ring, port, 0xffff_ff00);
        let server = xenstored.clone();
        executor.spawn(async move {
            let mut serve = pin!(server.serve());
            poll_fn(|context| unharmed(|| serve.as_mut().poll(context))).await
        });
        let client = store.clone();
        executor.spawn(async move { client.run().await });
        Self {
            executor,
            hypervisor,
            xenstored,
            store,
        }
    }

    /// The guest is saved and restored as domain [`RESTORED`](Self::RESTORED), with an empty
    /// xenstore. As the runtime does, `tell_drivers` is called first, and they have their time; then the
    /// client of xenstore goes on. Devices have to be plugged in.
    pub fn restore(&self, tell_drivers: impl FnOnce()) {
        self.hypervisor.restore_as(Self::RESTORED);
        self.store.detach();
        tell_drivers();
        self.executor.run_until_stalled();
        let (ring, port) = self.xenstored.start_over(&self.hypervisor);
        self.store.resume(Rc::new(ring), port);
    }
}
