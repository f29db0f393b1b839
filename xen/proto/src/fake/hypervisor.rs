//! The hypervisor as the guest and as a peer see it.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use failing_memory::unharmed;

use super::clock::{Clock, FakeSleep};
use super::event_channel::{EventChannels, FakePort};
use super::grant_table::{FakeGrantedPage, GrantTable, MapError, MappedPage};
use crate::hypervisor::{
    Access, DomainId, GrantReference, Hypervisor, PAGE_SIZE, PortNumber, ResourceError,
};

/// Linux's and Xen's `ENOSPC`: no free port.
const ENOSPC: u32 = 28;

/// A strict hypervisor for one guest. Clones are the same one.
#[derive(Clone)]
pub struct FakeHypervisor {
    inner: Rc<Inner>,
}

struct Inner {
    guest: Cell<DomainId>,
    clock: Rc<Clock>,
    grants: Rc<GrantTable>,
    channels: Rc<EventChannels>,
    allocations: Cell<u64>,
    refused_allocation: Cell<Option<u64>>,
}

impl FakeHypervisor {
    /// A hypervisor that runs domain `guest`. Its clock does not start at 0.
    pub fn new(guest: DomainId) -> Self {
        let clock = Rc::new(Clock::default());
        clock.advance_to(Duration::from_secs(1000));
        Self {
            inner: Rc::new(Inner {
                guest: Cell::new(guest),
                clock,
                grants: GrantTable::new(),
                channels: Rc::new(EventChannels::default()),
                allocations: Cell::new(0),
                refused_allocation: Cell::new(None),
            }),
        }
    }

    /// The guest's domain.
    pub fn guest(&self) -> DomainId {
        self.inner.guest.get()
    }

    /// The guest is saved and restored as domain `guest`: its memory is as it was, but nothing of it
    /// is granted, and it has no event channels. Peers of old reach nothing of it any more.
    pub fn restore_as(&self, guest: DomainId) {
        self.inner.guest.set(guest);
        self.inner.grants.forget_all();
        self.inner.channels.forget_all();
    }

    /// Another domain's view.
    pub fn peer(&self, domain: DomainId) -> FakePeer {
        FakePeer {
            hypervisor: self.clone(),
            domain,
        }
    }

    /// Two ends of a channel that the toolstack made before the guest started.
    pub fn connected_ports(&self, peer: DomainId) -> (FakePort, FakePort) {
        let channels = &self.inner.channels;
        let guest = channels.allocate_unbound(self.guest(), peer);
        let there = crate::hypervisor::EventPort::number(&guest);
        let peer = channels.bind(peer, self.guest(), there);
        (guest, peer)
    }

    /// Moves time on by `duration` and wakes who waited for it.
    pub fn advance(&self, duration: Duration) {
        let clock = &self.inner.clock;
        clock.advance_to(clock.now() + duration);
    }

    /// How many pages and ports were asked for so far, granted or not.
    pub fn allocations(&self) -> u64 {
        self.inner.allocations.get()
    }

    /// Refuses the `number`th (from 0) page or port that is asked for from now on, once.
    pub fn refuse_allocation(&self, number: u64) {
        let number = self.inner.allocations.get() + number;
        self.inner.refused_allocation.set(Some(number));
    }

    /// Leaves only this many pages that were not granted yet.
    pub fn limit_pages(&self, pages: usize) {
        self.inner.grants.set_pages_left(pages);
    }

    /// Granted pages that the guest owns.
    pub fn granted_pages(&self) -> Vec<GrantReference> {
        self.inner.grants.granted()
    }

    /// Pages whose grant the guest ended while a peer has them mapped.
    pub fn quarantined_pages(&self) -> Vec<GrantReference> {
        self.inner.grants.quarantined()
    }

    /// Calls `look` with the content of every page that a peer can see: to search for what
    /// must not be there.
    pub fn for_each_granted_page(&self, look: impl FnMut(GrantReference, &[u8; PAGE_SIZE])) {
        self.inner.grants.for_each_page(look);
    }

    /// From now on, a byte of a granted page that the guest copies out a second time, without
    /// the peer having written it again, has changed.
    pub fn lie_at_second_read(&self, lies: bool) {
        self.inner.grants.lie_at_second_read(lies);
    }

    /// How many bytes of granted pages the guest copied out a second time without the peer
    /// having written them again. Words read with `load` do not count.
    pub fn double_reads(&self) -> u64 {
        self.inner.grants.double_reads()
    }

    /// Open ports of the guest's.
    pub fn open_ports(&self) -> usize {
        self.inner.channels.open_ports(self.guest())
    }

    /// When the next task is due of those that sleep; `None` when nobody sleeps.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.clock().next_deadline()
    }

    pub(super) fn clock(&self) -> &Rc<Clock> {
        &self.inner.clock
    }

    fn count_allocation(&self) -> bool {
        let number = self.inner.allocations.get();
        self.inner.allocations.set(number + 1);
        if self.inner.refused_allocation.get() == Some(number) {
            self.inner.refused_allocation.set(None);
            return false;
        }
        true
    }
}

impl Hypervisor for FakeHypervisor {
    type Page = FakeGrantedPage;
    type Port = FakePort;
    type Sleep = FakeSleep;

    fn share_page(&self, peer: DomainId, access: Access) -> Result<Self::Page, ResourceError> {
        if !self.count_allocation() {
            return Err(ResourceError::OutOfPages);
        }
        unharmed(|| self.inner.grants.grant(peer, access))
    }

    fn allocate_port(&self, peer: DomainId) -> Result<Self::Port, ResourceError> {
        if !self.count_allocation() {
            return Err(ResourceError::Refused {
                operation: "EVTCHNOP_alloc_unbound",
                errno: ENOSPC,
            });
        }
        Ok(unharmed(|| {
            self.inner.channels.allocate_unbound(self.guest(), peer)
        }))
    }

    fn now(&self) -> Duration {
        self.inner.clock.now()
    }

    fn sleep_until(&self, deadline: Duration) -> Self::Sleep {
        self.inner.clock.sleep_until(deadline)
    }
}

/// The view of a domain that the guest shares pages and channels with.
#[derive(Clone)]
pub struct FakePeer {
    hypervisor: FakeHypervisor,
    domain: DomainId,
}

impl FakePeer {
    /// Which domain it is.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// Maps a page that the guest granted.
    ///
    /// # Panics
    /// With the [`MapError`], where [`try_map`](Self::try_map) fails.
    pub fn map(&self, reference: GrantReference) -> MappedPage {
        match self.try_map(reference) {
            Ok(page) => page,
            Err(error) => panic!("domain {} maps grant {reference}: {error}", self.domain),
        }
    }

    /// Maps a page that the guest granted.
    ///
    /// # Errors
    /// [`MapError`] if it did not grant it, not to this domain, or has ended it.
    pub fn try_map(&self, reference: GrantReference) -> Result<MappedPage, MapError> {
        self.hypervisor.inner.grants.map(self.domain, reference)
    }

    /// Binds a port of its own to one that the guest allocated for it.
    ///
    /// # Panics
    /// If there is no such port, it is bound already, or meant for another domain.
    pub fn bind(&self, port: PortNumber) -> FakePort {
        let inner = &self.hypervisor.inner;
        inner.channels.bind(self.domain, inner.guest.get(), port)
    }
}
