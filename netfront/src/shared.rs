//! What a [`Device`](crate::Device) and its [`Control`](crate::Control) have in common.
//!
//! The control task makes connections and ends them; the device moves frames over the one
//! there is. Each wakes the other when something changed.

use alloc::rc::Rc;
use alloc::string::String;
use core::mem;
use core::task::{Context, Poll, Waker};

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenbus::State;

use crate::connection::Connection;
use crate::misbehaviour::Misbehaviour;
use crate::settings::Settings;
use crate::statistics::{Counters, Statistics};

pub(crate) struct Shared<H: Hypervisor> {
    /// What to call the interface in messages.
    pub(crate) name: String,
    pub(crate) link: Link<H>,
    /// Whether the device is in xenstore; unknown before anybody looked.
    presence: Option<bool>,
    /// Nobody moves frames any more.
    is_abandoned: bool,
    /// The Ethernet address, once it is known.
    pub(crate) mac: Option<[u8; 6]>,
    /// The address that the host assigned, as it is written there.
    pub(crate) assigned_address: Option<Rc<str>>,
    /// What was negotiated last; survives the connection.
    pub(crate) settings: Option<Rc<Settings>>,
    pub(crate) counters: Counters,
    /// State that the frontend last wrote.
    pub(crate) frontend: State,
    /// State that the backend last showed.
    pub(crate) backend: State,
    /// Why there is no connection, or was none before this one.
    pub(crate) last_problem: Option<String>,
    /// The control task lets the connection rest in time.
    pub(crate) rests: bool,
    /// The guest is another domain since the control task last looked.
    restored: bool,
    /// The device has not been told yet that the link or the settings changed.
    changed: bool,
    device: Option<Waker>,
    control: Option<Waker>,
    identity: Option<Waker>,
}

/// The connection, and whether it may be used.
pub(crate) enum Link<H: Hypervisor> {
    /// There is none.
    Down,
    /// Frames flow.
    Up(Connection<H>),
    /// The backend broke the protocol: nothing is read from the rings any more. They stay
    /// granted until the backend let go of them.
    Broken(Connection<H>),
}

impl<H: Hypervisor> Shared<H> {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            link: Link::Down,
            presence: None,
            is_abandoned: false,
            mac: None,
            assigned_address: None,
            settings: None,
            counters: Counters::default(),
            frontend: State::Initialising,
            backend: State::Unknown,
            last_problem: None,
            rests: false,
            restored: false,
            changed: false,
            device: None,
            control: None,
            identity: None,
        }
    }

    /// Somebody looked whether the device is there. One that was taken away leaves nothing that
    /// would hold for the next one of its name.
    pub(crate) fn set_present(&mut self, is_present: bool) {
        if self.presence.replace(is_present) == Some(is_present) {
            return;
        }
        if !is_present {
            self.mac = None;
            self.settings = None;
            self.assigned_address = None;
        }
        self.tell_device();
        wake(&mut self.identity);
    }

    pub(crate) fn is_present(&self) -> bool {
        self.presence != Some(false)
    }

    /// The device is dropped: nobody needs a connection any more.
    pub(crate) fn abandon(&mut self) {
        self.is_abandoned = true;
        wake(&mut self.control);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    /// The Ethernet address is known, and what the host assigned.
    pub(crate) fn identify(&mut self, mac: [u8; 6], assigned_address: Option<&str>) {
        if self.mac != Some(mac) || self.assigned_address.as_deref() != assigned_address {
            self.mac = Some(mac);
            self.assigned_address = assigned_address.map(Rc::from);
            self.tell_device();
        }
        wake(&mut self.identity);
    }

    /// The host's settings are known.
    pub(crate) fn settle(&mut self, settings: Rc<Settings>) {
        self.identify(settings.mac, settings.assigned_address.as_deref());
        self.settings = Some(settings);
        self.tell_device();
    }

    /// Frames may flow from now on.
    pub(crate) fn connect(&mut self, mut connection: Connection<H>) {
        connection.announce(&mut self.counters);
        self.counters.connections = self.counters.connections.wrapping_add(1);
        self.link = Link::Up(connection);
        self.last_problem = None;
        self.tell_device();
    }

    /// Ends the connection, if there is one.
    pub(crate) fn disconnect(&mut self) -> Option<Connection<H>> {
        let link = mem::replace(&mut self.link, Link::Down);
        match link {
            Link::Down => None,
            Link::Broken(connection) => Some(connection),
            Link::Up(connection) => {
                self.tell_device();
                Some(connection)
            }
        }
    }

    /// The guest is another domain: the connection is of the old one. What is in its rings and pages was
    /// saved while the backend was still at work, so not even what has arrived can be believed.
    pub(crate) fn restore(&mut self) {
        drop(self.disconnect());
        self.restored = true;
        wake(&mut self.control);
    }

    /// Ready once after each [`restore`](Self::restore).
    pub(crate) fn poll_restored(&mut self, context: &Context<'_>) -> Poll<()> {
        note(&mut self.control, context);
        if mem::take(&mut self.restored) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the control task knows in which domain it is.
    pub(crate) fn is_settled(&self) -> bool {
        !self.restored
    }

    /// Disables the connection because of what the backend did.
    pub(crate) fn break_off(&mut self, misbehaviour: Misbehaviour) {
        let link = mem::replace(&mut self.link, Link::Down);
        let Link::Up(connection) = link else {
            self.link = link;
            return;
        };
        log::error!(
            "{}: backend broke the protocol: {misbehaviour}; device disabled until it reconnects",
            self.name
        );
        self.counters.broken = self.counters.broken.wrapping_add(1);
        self.last_problem = Some(alloc::format!("backend broke the protocol: {misbehaviour}"));
        self.link = Link::Broken(connection);
        self.tell_device();
        wake(&mut self.control);
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.link, Link::Broken(_))
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (receive_pages, transmit_pages) = match &self.link {
            Link::Down => (0, 0),
            Link::Up(connection) | Link::Broken(connection) => connection.page_counts(),
        };
        Statistics {
            counters: self.counters,
            frontend: self.frontend,
            backend: self.backend,
            link_is_up: matches!(self.link, Link::Up(_)),
            receive_pages,
            transmit_pages,
        }
    }

    /// Ready once when link or settings changed; else notes whom to wake.
    pub(crate) fn poll_change(&mut self, context: &Context<'_>) -> Poll<()> {
        note(&mut self.device, context);
        if mem::take(&mut self.changed) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// The connection has more pages than it began with.
    pub(crate) fn has_grown(&self) -> bool {
        matches!(&self.link, Link::Up(connection) if connection.has_grown())
    }

    /// Lets the control task know if the connection has grown.
    pub(crate) fn note_growth(&mut self) {
        if !self.rests && self.has_grown() {
            wake(&mut self.control);
        }
    }

    /// Lets a connection give pages back that it had little use for since the last call.
    pub(crate) fn rest(&mut self) {
        if let Link::Up(connection) = &mut self.link
            && let Err(misbehaviour) = connection.rest(&mut self.counters)
        {
            self.break_off(misbehaviour);
        }
    }

    /// Ready while the device is dropped or the connection is broken, or has grown and nobody
    /// sees to it that it [rests](Self::rest) in time.
    pub(crate) fn poll_control(&mut self, context: &Context<'_>) -> Poll<()> {
        note(&mut self.control, context);
        if self.is_abandoned || self.is_broken() || (!self.rests && self.has_grown()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ready once the Ethernet address is known, with true, or known not to be there.
    pub(crate) fn poll_identity(&mut self, context: &Context<'_>) -> Poll<bool> {
        note(&mut self.identity, context);
        match (self.presence, self.mac) {
            (Some(false), _) => Poll::Ready(false),
            (Some(true), Some(_)) => Poll::Ready(true),
            _ => Poll::Pending,
        }
    }

    fn tell_device(&mut self) {
        self.changed = true;
        wake(&mut self.device);
    }
}

fn note(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *place = Some(context.waker().clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}
