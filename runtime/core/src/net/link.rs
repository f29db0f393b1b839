//! An interface follows its device: that may be taken away and come back, and so may its link.
//!
//! Connections outlive both. While nothing can be sent they are left alone, so that no timer of
//! TCP backs off and they go on at once when the link is back. One whose address is gone waits
//! for it to come back, but not for ever.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::{Cell, RefCell};
use core::fmt;

use super::connection::{Connection, Stage};
use super::engine::Engine;
use super::interface::Interface;
use super::time_wait::TimeWait;
use super::{AddressConfig, TcpError};
use crate::time::{Duration, Instant};

/// How long connections are left alone after the link went down. Then they run into their own
/// limits.
const HOLD_LIMIT: Duration = Duration::from_secs(60);

/// How long connections wait for a device that was taken away.
const ABSENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long they wait, once there is a link, for their address: a DHCP server or a router has
/// to answer first.
const ACQUISITION_LIMIT: Duration = Duration::from_secs(30);

/// How an interface is to get its addresses, given those that the host assigned to it.
pub(super) type Configure = Box<dyn Fn(Option<&str>) -> AddressConfig>;

/// What an interface last saw of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// The device was taken away.
    Absent,
    Down,
    Up {
        /// Tells this link from the one before an interruption that nobody saw.
        epoch: u64,
    },
}

/// What an interface knows of its device, and what it waits for.
pub(super) struct Follower {
    link: Cell<Link>,
    configure: Configure,
    /// The host's assignment that was configured last.
    assigned: RefCell<Option<String>>,
    /// Until when connections are left alone while the link is down.
    hold_until: Cell<Option<Instant>>,
    /// Until when connections wait for their address to come back.
    return_by: Cell<Option<Instant>>,
}

impl Follower {
    pub(super) fn new(configure: Configure, assigned: Option<&str>) -> Self {
        Self {
            link: Cell::new(Link::Down),
            configure,
            assigned: RefCell::new(assigned.map(str::to_string)),
            hold_until: Cell::new(None),
            return_by: Cell::new(None),
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.link.get() != Link::Absent
    }

    pub(super) fn link_is_up(&self) -> bool {
        matches!(self.link.get(), Link::Up { .. })
    }

    /// Whether connections are to be left alone.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.link.get() == Link::Absent || self.hold_until.get().is_some_and(|until| now < until)
    }

    /// Whether connections still wait for addresses that are gone.
    pub(super) fn awaits_addresses(&self) -> bool {
        self.return_by.get().is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.hold_until.get(), self.return_by.get()];
        deadlines.into_iter().flatten().min()
    }

    fn sees(&self, engine: &Engine) -> Link {
        let device = &engine.port.device;
        match (device.is_present(), device.link_is_up()) {
            (false, _) => Link::Absent,
            (true, false) => Link::Down,
            (true, true) => Link::Up {
                epoch: device.link_epoch(),
            },
        }
    }
}

impl Interface {
    /// Takes note of what became of the device, and of the time that has passed.
    pub(super) fn follow_device(&self, engine: &mut Engine, now: Instant) {
        let follower = &self.follower;
        let after = follower.sees(engine);
        let before = follower.link.replace(after);
        if before != after {
            self.device_changed(engine, now, before, after);
        }
        let is_over = |limit: &Cell<Option<Instant>>| {
            let over = limit.get().is_some_and(|at| at <= now);
            if over {
                limit.set(None);
            }
            over
        };
        is_over(&follower.hold_until);
        if is_over(&follower.return_by) {
            self.end_strays(engine, now);
        }
    }

    /// Whether the device is gone, and everything that waited for its return.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.follower.is_present() && self.connections.borrow().len() == 0
    }

    fn device_changed(&self, engine: &mut Engine, now: Instant, before: Link, after: Link) {
        if let Link::Up { .. } = before {
            log::warn!(target: "net", "{}: link down", self.name);
            self.follower.hold_until.set(Some(now + HOLD_LIMIT));
            self.addressing.borrow_mut().link_down();
        }
        if after == Link::Absent {
            self.device_left(engine, now);
        } else if before == Link::Absent {
            log::info!(target: "net", "{}: is back", self.name);
            self.configure_again(engine);
        }
        // Before anything is sent over the new link.
        self.silence
            .borrow_mut()
            .link_changed(now, engine.port.counters, after != Link::Absent);
        if let Link::Up { .. } = after {
            self.link_came_up(engine, now);
        }
        self.changed();
    }

    fn link_came_up(&self, engine: &mut Engine, now: Instant) {
        engine.renew(now);
        self.datagrams.set_mtu(engine.port.mtu());
        log::info!(
            target: "net",
            "{}: link up, {}, mtu {}",
            self.name,
            EthernetText(engine.mac().0),
            engine.port.mtu()
        );
        let assigned = engine.port.device.assigned_address();
        let is_known = self.follower.assigned.borrow().as_deref() == assigned;
        if !is_known {
            self.configure_again(engine);
        }
        self.follower.hold_until.set(None);
        self.follower.return_by.set(Some(now + ACQUISITION_LIMIT));
        self.addressing.borrow_mut().link_up(self, engine, now);
        self.schedule.borrow_mut().neighbour_spoke();
    }

    /// The host may have assigned another address.
    fn configure_again(&self, engine: &Engine) {
        let assigned = engine.port.device.assigned_address();
        let config = (self.follower.configure)(assigned);
        self.addressing.borrow_mut().configure(config);
        *self.follower.assigned.borrow_mut() = assigned.map(str::to_string);
    }

    /// The device was taken away: addresses and routes go, and with them all but the
    /// connections of the program's, which may find their address again.
    fn device_left(&self, engine: &mut Engine, now: Instant) {
        log::warn!(target: "net", "{}: taken away", self.name);
        self.follower.return_by.set(Some(now + ABSENCE_LIMIT));
        let mut addressing = self.addressing.borrow_mut();
        addressing.configure(AddressConfig::OFF);
        addressing.install(self, engine, now);
        engine.port.forget();
        self.datagrams.forget();
        self.fragmented.borrow_mut().clear();
        *self.time_wait.borrow_mut() = TimeWait::new();
        let is_left = |connection: &&Rc<Connection>| {
            connection.is_orphan() || connection.stage.get() == Stage::HalfOpen
        };
        while let Some(connection) = self.find_connection(is_left) {
            self.remove(&connection);
        }
    }

    /// Ends the connections whose address did not come back.
    fn end_strays(&self, engine: &Engine, now: Instant) {
        let is_stray =
            |connection: &&Rc<Connection>| !engine.has_address(connection.flow.local.address);
        while let Some(connection) = self.find_connection(is_stray) {
            self.end(&connection, now);
        }
    }

    /// One connection after the other, without memory for a list of all.
    fn find_connection(
        &self,
        is_wanted: impl FnMut(&&Rc<Connection>) -> bool,
    ) -> Option<Rc<Connection>> {
        self.connections.borrow().iter().find(is_wanted).cloned()
    }

    /// Ends a connection without a word to its peer, whom no packet would reach.
    fn end(&self, connection: &Rc<Connection>, now: Instant) {
        log::debug!(
            target: "net",
            "{}: {} is gone: connection to {} ended",
            self.name,
            connection.flow.local.address,
            connection.peer
        );
        connection.abort(now, TcpError::TimedOut);
        self.remove(connection);
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.get().fmt(formatter)
    }
}

/// An Ethernet address in the usual notation.
#[derive(Clone, Copy, Debug)]
pub struct EthernetText(pub [u8; 6]);

impl fmt::Display for EthernetText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}
