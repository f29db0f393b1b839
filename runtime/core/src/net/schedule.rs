//! Which connections of an interface have something to do, now or later.

use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::Cell;
use core::task::Waker;

use super::connection::Connection;
use crate::deadlines::Deadlines;
use crate::memory::{self, OutOfMemory};
use crate::time::{Duration, Instant};

/// The work of an interface.
///
/// Each connection is in each of the lists once at most, and there is room for all of them
/// ([`reserve`](Self::reserve)): what is done with a connection later needs no memory.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<Rc<Connection>>,
    /// One entry per connection at most. An entry may be earlier than it need be: a deadline that moves back with every packet is left where
    /// it is, found too early when it is reached, and moved then.
    timers: Deadlines<Rc<Connection>>,
    /// Connections that may need a timer, unless their program answers at once.
    postponed: VecDeque<Rc<Connection>>,
    lacking_neighbour: Vec<Rc<Connection>>,
    /// Connections whose send buffers have touched pages, and when to look whether they are
    /// quiet; in that order.
    written: VecDeque<(Instant, Weak<Connection>)>,
    /// The interface's task while it sleeps.
    sleeping: Option<Waker>,
}

/// A connection's place in the [`Schedule`] of its interface.
#[derive(Default)]
pub(super) struct Place {
    is_ready: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    timer: Cell<Option<usize>>,
    /// It is among `postponed`, whether or not it still needs a timer.
    is_postponed: Cell<bool>,
    postponed: Cell<Option<Instant>>,
    lacks_neighbour: Cell<bool>,
    /// When the program last wrote, while among `written`.
    written_at: Cell<Option<Instant>>,
}

/// How long a connection is quiet before its send buffer gives its pages back.
const QUIET: Duration = Duration::from_secs(1);

/// Tells a connection where it stands among the timers.
fn stands_at(connection: &Rc<Connection>, place: usize) {
    connection.place.timer.set(Some(place));
}

impl Schedule {
    /// Finds memory for `count` connections in all.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        for queue in [&mut self.ready, &mut self.postponed] {
            queue.try_reserve(count.saturating_sub(queue.len()))?;
        }
        memory::reserve(&mut self.lacking_neighbour, count)?;
        self.timers.reserve(count)
    }

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

    /// Makes `connection` ready at `deadline`, or earlier.
    pub(super) fn set_deadline(&mut self, connection: &Rc<Connection>, deadline: Instant) {
        connection.place.postponed.set(None);
        let before = connection.place.deadline.get();
        if before.is_some_and(|before| before <= deadline) {
            return;
        }
        self.clear_deadline(connection);
        connection.place.deadline.set(Some(deadline));
        let due = (deadline, connection.number);
        self.timers.insert(due, connection.clone(), stands_at);
    }

    fn clear_deadline(&mut self, connection: &Rc<Connection>) {
        connection.place.deadline.set(None);
        if let Some(place) = connection.place.timer.take() {
            self.timers.remove(place, stands_at);
        }
    }

    /// As [`set_deadline`](Self::set_deadline), once [`settle`](Self::settle) is called for it,
    /// and unless another deadline is set before: an acknowledgement that waits for an answer
    /// to go along with needs no timer where the program answers at once.
    pub(super) fn postpone(&mut self, connection: &Rc<Connection>, deadline: Instant) {
        connection.place.postponed.set(Some(deadline));
        if !connection.place.is_postponed.replace(true) {
            self.postponed.push_back(connection.clone());
        }
    }

    /// `connection` needs no timer any more. One that is set rings for nothing.
    pub(super) fn forget_deadline(&mut self, connection: &Rc<Connection>) {
        connection.place.postponed.set(None);
    }

    pub(super) fn postponed_len(&self) -> usize {
        self.postponed.len()
    }

    /// Sets the timers of the `count` connections that were postponed first.
    pub(super) fn settle(&mut self, count: usize) {
        for _ in 0..count {
            let Some(connection) = self.postponed.pop_front() else {
                return;
            };
            connection.place.is_postponed.set(false);
            if let Some(deadline) = connection.place.postponed.take() {
                self.set_deadline(&connection, deadline);
            }
        }
    }

    /// Makes ready whatever was to be done by `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, connection)) = self.timers.first()
            && at <= now
        {
            let connection = connection.clone();
            self.clear_deadline(&connection);
            self.make_ready(&connection);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| at);
        let look = self.written.front().map(|(at, _)| *at);
        timer.into_iter().chain(look).min()
    }

    /// The program wrote to the send buffer of `connection`, or wants to. Without memory to note that, its
    /// pages stay until the next time.
    pub(super) fn has_written(&mut self, connection: &Rc<Connection>, now: Instant) {
        let written_at = &connection.place.written_at;
        if written_at.get().is_none() {
            if self.written.try_reserve(1).is_err() {
                return;
            }
            self.written
                .push_back((now + QUIET, Rc::downgrade(connection)));
        }
        written_at.set(Some(now));
    }

    /// Whether it is time to ask for [`next_quiet`](Self::next_quiet).
    pub(super) fn has_quiet(&self, now: Instant) -> bool {
        self.written.front().is_some_and(|(at, _)| *at <= now)
    }

    /// Connections that nothing was written to for a while, one after the other. Each writing
    /// connection is looked at once in that time.
    pub(super) fn next_quiet(&mut self, now: Instant) -> Option<Rc<Connection>> {
        while self.has_quiet(now) {
            let (_, connection) = self.written.pop_front()?;
            let Some(connection) = connection.upgrade() else {
                continue;
            };
            match connection.place.written_at.get() {
                Some(at) if now < at + QUIET => {
                    self.written
                        .push_back((now + QUIET, Rc::downgrade(&connection)));
                }
                _ => {
                    connection.place.written_at.set(None);
                    return Some(connection);
                }
            }
        }
        None
    }

    /// `connection` waits for the Ethernet address of its next hop.
    pub(super) fn await_neighbour(&mut self, connection: &Rc<Connection>) {
        if !connection.place.lacks_neighbour.replace(true) {
            self.lacking_neighbour.push(connection.clone());
        }
    }

    /// A neighbour told its Ethernet address: those who waited for one try again.
    pub(super) fn neighbour_spoke(&mut self) {
        // The list's memory serves again.
        let mut waiting = core::mem::take(&mut self.lacking_neighbour);
        for connection in waiting.drain(..) {
            connection.place.lacks_neighbour.set(false);
            self.make_ready(&connection);
        }
        self.lacking_neighbour = waiting;
    }

    /// Removes `connection` everywhere.
    pub(super) fn forget(&mut self, connection: &Rc<Connection>) {
        self.clear_deadline(connection);
        connection.place.postponed.set(None);
        if connection.place.is_postponed.replace(false) {
            self.postponed
                .retain(|other| !Rc::ptr_eq(other, connection));
        }
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
