//! Which connections of an interface have something to do, now or later.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::task::Waker;

use super::connection::Connection;
use crate::time::Instant;

/// The work of an interface.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<Rc<Connection>>,
    /// One entry per connection at most, keyed by deadline and connection number: an ordered
    /// map, so that a connection whose deadline moves with every packet leaves nothing behind.
    timers: BTreeMap<(Instant, u64), Rc<Connection>>,
    lacking_neighbour: Vec<Rc<Connection>>,
    /// The interface's task while it sleeps.
    sleeping: Option<Waker>,
}

/// A connection's place in the [`Schedule`] of its interface.
#[derive(Default)]
pub(super) struct Place {
    is_ready: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    lacks_neighbour: Cell<bool>,
}

impl Schedule {
    /// `connection` may have something to send.
    pub(super) fn make_ready(&mut self, connection: &Rc<Connection>) {
        if !connection.place.is_ready.replace(true) {
            self.ready.push_back(connection.clone());
        }
        self.wake();
    }

    pub(super) fn next_ready(&mut self) -> Option<Rc<Connection>> {
        let connection = self.ready.pop_front()?;
        connection.place.is_ready.set(false);
        Some(connection)
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Makes `connection` ready at `deadline`, and not at the deadline set before.
    pub(super) fn set_deadline(&mut self, connection: &Rc<Connection>, deadline: Option<Instant>) {
        let number = connection.number;
        let before = connection.place.deadline.replace(deadline);
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, number));
        }
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, number), connection.clone());
        }
    }

    /// Makes ready whatever was to be done by `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let connection = entry.remove();
            connection.place.deadline.set(None);
            self.make_ready(&connection);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|(key, _)| key.0)
    }

    /// `connection` waits for the Ethernet address of its next hop.
    pub(super) fn await_neighbour(&mut self, connection: &Rc<Connection>) {
        if !connection.place.lacks_neighbour.replace(true) {
            self.lacking_neighbour.push(connection.clone());
        }
    }

    /// A neighbour told its Ethernet address: those who waited for one try again.
    pub(super) fn neighbour_spoke(&mut self) {
        for connection in core::mem::take(&mut self.lacking_neighbour) {
            connection.place.lacks_neighbour.set(false);
            self.make_ready(&connection);
        }
    }

    /// Removes `connection` everywhere.
    pub(super) fn forget(&mut self, connection: &Rc<Connection>) {
        self.set_deadline(connection, None);
        if connection.place.lacks_neighbour.replace(false) {
            self.lacking_neighbour
                .retain(|other| !Rc::ptr_eq(other, connection));
        }
        if connection.place.is_ready.replace(false) {
            self.ready.retain(|other| !Rc::ptr_eq(other, connection));
        }
    }

    /// The interface's task goes to sleep.
    pub(super) fn sleep(&mut self, task: &Waker) {
        self.sleeping = Some(task.clone());
    }

    /// The interface's task is at work: no need to wake it.
    pub(super) fn awake(&mut self) {
        self.sleeping = None;
    }

    /// There is work for the interface's task.
    pub(super) fn wake(&mut self) {
        if let Some(task) = self.sleeping.take() {
            task.wake();
        }
    }
}
