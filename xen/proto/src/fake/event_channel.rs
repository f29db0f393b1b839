//! Event channels between the guest and its peers.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};

use crate::hypervisor::{DomainId, EventPort, PortNumber};

#[derive(Default)]
pub(super) struct EventChannels {
    ports: RefCell<BTreeMap<(DomainId, u32), Rc<PortState>>>,
}

struct PortState {
    domain: DomainId,
    number: u32,
    other: RefCell<Other>,
    events: Cell<u32>,
    pending: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// It was a port of a domain that is gone.
    gone: Cell<bool>,
}

enum Other {
    /// Only this domain may bind to it.
    Unbound(DomainId),
    Bound(Rc<PortState>),
    Closed,
}

impl EventChannels {
    pub(super) fn open_ports(&self, domain: DomainId) -> usize {
        let ports = self.ports.borrow();
        ports.keys().filter(|(owner, _)| *owner == domain).count()
    }

    /// The domain of all these is gone: no port is anyone's any more. Who waits is woken.
    pub(super) fn forget_all(&self) {
        for state in core::mem::take(&mut *self.ports.borrow_mut()).into_values() {
            state.gone.set(true);
            let other = state.other.replace(Other::Closed);
            drop(other);
            if let Some(waker) = state.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    pub(super) fn allocate_unbound(self: &Rc<Self>, owner: DomainId, peer: DomainId) -> FakePort {
        self.insert(owner, Other::Unbound(peer))
    }

    /// Binds a new port of `binder` to port `number` of `owner`.
    pub(super) fn bind(
        self: &Rc<Self>,
        binder: DomainId,
        owner: DomainId,
        number: PortNumber,
    ) -> FakePort {
        let there = self.ports.borrow().get(&(owner, number.0)).cloned();
        let there = there.unwrap_or_else(|| panic!("domain {owner} has no port {number}"));
        match *there.other.borrow() {
            Other::Unbound(meant) => assert_eq!(meant, binder, "port {number} is for another"),
            _ => panic!("port {number} of domain {owner} is bound already"),
        }
        let here = self.insert(binder, Other::Bound(there.clone()));
        *there.other.borrow_mut() = Other::Bound(here.state.clone());
        // As Xen does: events sent before are not lost.
        here.state.raise();
        here
    }

    fn insert(self: &Rc<Self>, domain: DomainId, other: Other) -> FakePort {
        let mut ports = self.ports.borrow_mut();
        let mut number = 1;
        while ports.contains_key(&(domain, number)) {
            number += 1;
        }
        let state = Rc::new(PortState {
            domain,
            number,
            other: RefCell::new(other),
            events: Cell::new(0),
            pending: Cell::new(false),
            waker: RefCell::new(None),
            gone: Cell::new(false),
        });
        ports.insert((domain, number), state.clone());
        FakePort {
            channels: self.clone(),
            state,
        }
    }
}

impl PortState {
    fn raise(&self) {
        self.events.set(self.events.get().wrapping_add(1));
        self.pending.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// One end of an event channel: the guest's or a peer's.
pub struct FakePort {
    channels: Rc<EventChannels>,
    state: Rc<PortState>,
}

impl EventPort for FakePort {
    fn number(&self) -> PortNumber {
        PortNumber(self.state.number)
    }

    fn notify(&self) {
        let other = match &*self.state.other.borrow() {
            Other::Bound(other) => other.clone(),
            Other::Unbound(_) | Other::Closed => return,
        };
        other.raise();
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.state.gone.get() {
            return Poll::Pending;
        }
        if self.state.pending.replace(false) {
            return Poll::Ready(());
        }
        *self.state.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    fn events(&self) -> u32 {
        self.state.events.get()
    }
}

impl FakePort {
    /// Whether the other end is there.
    pub fn is_bound(&self) -> bool {
        matches!(*self.state.other.borrow(), Other::Bound(_))
    }

    /// Raises an event as if the other end had sent one.
    pub fn raise(&self) {
        self.state.raise();
    }

    /// Waits for an event.
    pub async fn event(&self) {
        core::future::poll_fn(|context| self.poll_event(context)).await;
    }
}

impl Drop for FakePort {
    fn drop(&mut self) {
        if self.state.gone.get() {
            return;
        }
        let key = (self.state.domain, self.state.number);
        let removed = self.channels.ports.borrow_mut().remove(&key);
        assert!(removed.is_some(), "port {} closed twice", key.1);
        if let Other::Bound(other) = self.state.other.replace(Other::Closed) {
            *other.other.borrow_mut() = Other::Closed;
        }
    }
}
