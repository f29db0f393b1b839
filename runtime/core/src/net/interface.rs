//! One interface: the task that moves its packets, and the connections that go through it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::{Future, poll_fn};
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::pin::Pin;
use core::task::{Context, Poll};

use smoltcp::socket::tcp::State;

use super::InterfaceInformation;
use super::addressing::Addressing;
use super::capture::Direction;
use super::connection::{ACKNOWLEDGEMENT_DELAY, Connection, Stage};
use super::datagrams::Datagrams;
use super::demultiplex::Demultiplexer;
use super::device::NetworkDevice;
use super::diagnosis::Diagnosis;
use super::engine::Engine;
use super::frame::{Class, Endpoint, Flow, FragmentedPacket};
use super::link::{Configure, Follower};
use super::schedule::Schedule;
use super::silence::Silence;
use super::stack::Shared;
use super::time_wait::TimeWait;
use crate::report::Sink;
use crate::time::{Duration, Instant, sleep_until};

/// Frames taken from the device before everything else gets its turn.
const FRAMES_PER_PASS: usize = 64;

/// What one connection sends before the next gets its turn: a little more than these bytes, or
/// so many frames.
const BYTES_PER_TURN: u64 = 64 * 1024;
const FRAMES_PER_TURN: u64 = 64;

/// The pause before a socket that wants to be polled at once, but did nothing when it was, is
/// polled again: should smoltcp ever disagree with itself, it costs a little time and no more.
const SPIN_GUARD: Duration = Duration::from_millis(10);

/// A socket that wants to be polled within this time has an acknowledgement to send, which
/// smoltcp delays by 10 ms at most; otherwise it waits for a timer of TCP.
const IMMINENT: Duration = Duration::from_millis(500);

/// One interface of a [`Stack`](super::Stack).
pub(super) struct Interface {
    pub(super) name: String,
    /// Unlike that of every other interface of the stack, from 0.
    pub(super) number: usize,
    pub(super) stack: Weak<Shared>,
    pub(super) engine: RefCell<Engine>,
    pub(super) schedule: RefCell<Schedule>,
    pub(super) connections: RefCell<Demultiplexer<Rc<Connection>>>,
    pub(super) time_wait: RefCell<TimeWait>,
    pub(super) addressing: RefCell<Addressing>,
    pub(super) datagrams: Datagrams,
    /// What the first fragments of recent packets said about where the packet goes.
    pub(super) fragmented: RefCell<VecDeque<(FragmentedPacket, Class)>>,
    pub(super) follower: Follower,
    pub(super) silence: RefCell<Silence>,
    /// Room for the frame that is looked at.
    incoming: RefCell<Vec<u8>>,
}

impl Interface {
    pub(super) fn new(
        stack: Weak<Shared>,
        number: usize,
        device: Box<dyn NetworkDevice>,
        configure: Configure,
    ) -> Self {
        let name = device.name().into();
        let assigned = device.assigned_address();
        let config = configure(assigned);
        let follower = Follower::new(configure, assigned);
        let tap = stack.upgrade().map(|stack| stack.tap.clone());
        let engine = Engine::new(device, number, tap.unwrap_or_default());
        let datagrams = Datagrams::new(engine.port.mtu());
        Self {
            name,
            number,
            stack,
            engine: RefCell::new(engine),
            schedule: RefCell::new(Schedule::default()),
            connections: RefCell::new(Demultiplexer::new()),
            time_wait: RefCell::new(TimeWait::new()),
            addressing: RefCell::new(Addressing::new(config)),
            datagrams,
            fragmented: RefCell::new(VecDeque::new()),
            follower,
            silence: RefCell::new(Silence::new(Instant::recent())),
            incoming: RefCell::default(),
        }
    }

    /// Takes up the addresses that are known from the start, so that sockets can be bound to
    /// them before the link is up.
    pub(super) fn configure(&self) {
        let mut engine = self.engine.borrow_mut();
        let now = Instant::recent();
        self.addressing.borrow_mut().install(self, &mut engine, now);
    }

    /// Moves packets for as long as the stack lives and the device is there.
    pub(super) async fn run(self: Rc<Self>) {
        let mut alarm: Option<Instant> = None;
        let mut sleep = sleep_until(Instant::recent());
        poll_fn(|task| {
            let now = Instant::recent();
            let has_more = self.pass(task, now);
            let Some(stack) = self.stack.upgrade() else {
                return Poll::Ready(());
            };
            if self.is_abandoned() {
                stack.remove_interface(&self);
                return Poll::Ready(());
            }
            if has_more {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.schedule.borrow_mut().sleep(task.waker());
            if let Some(deadline) = self.next_deadline() {
                // An alarm that rings too early costs a pass; to set it for each packet costs
                // more.
                let is_covered = alarm.is_some_and(|at| now < at && at <= deadline);
                if !is_covered {
                    sleep.reset(deadline);
                    alarm = Some(deadline);
                    if Pin::new(&mut sleep).poll(task).is_ready() {
                        alarm = None;
                        task.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Does a bounded amount of what there is to do. True when there is more.
    fn pass(&self, task: &mut Context<'_>, now: Instant) -> bool {
        let postponed = {
            let mut schedule = self.schedule.borrow_mut();
            schedule.awake();
            schedule.postponed_len()
        };
        let mut engine = self.engine.borrow_mut();
        let engine = &mut *engine;
        let something_happened = engine.port.device.poll_event(task).is_ready();
        self.follow_device(engine, now);
        engine.port.drain();

        let frames = self.receive_frames(engine, now);
        engine.maintain(now);
        self.schedule.borrow_mut().expire(now);
        self.addressing.borrow_mut().work(self, engine, now);
        self.explain_silence(engine, now);
        self.datagrams.send(self, engine, now);
        let holds = self.follower.holds(now);
        if !holds {
            self.send_segments(engine, now);
        }
        engine.port.flush();
        self.give_back_pages(now);

        let mut schedule = self.schedule.borrow_mut();
        schedule.settle(postponed);
        let can_send = !engine.port.is_stalled();
        let segments = !holds && schedule.ready_len() > 0;
        something_happened
            || frames == FRAMES_PER_PASS
            || schedule.postponed_len() > 0
            || (can_send && (segments || self.datagrams.has_work()))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.schedule.borrow().next_deadline(),
            self.addressing.borrow().next_deadline(),
            self.silence.borrow().next_deadline(),
            self.datagrams.next_deadline(),
            self.follower.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Wakes who waits for the network.
    pub(super) fn changed(&self) {
        if let Some(stack) = self.stack.upgrade() {
            stack.interface_changed();
        }
    }

    fn receive_frames(&self, engine: &mut Engine, now: Instant) -> usize {
        let mut frame = self.incoming.take();
        let mut count = 0;
        while count < FRAMES_PER_PASS && engine.port.device.receive(&mut frame) {
            count += 1;
            engine.port.counters.received_frames += 1;
            engine.port.counters.received_bytes += frame.len() as u64;
            engine.port.tap(Direction::Received, &frame);
            let is_for_us = frame.starts_with(&engine.mac().0);
            engine.port.counters.received_for_us += u64::from(is_for_us);
            self.receive(engine, now, &frame);
        }
        self.incoming.replace(frame);
        count
    }

    /// Says once, if it is so, why nothing is heard.
    fn explain_silence(&self, engine: &mut Engine, now: Instant) {
        let ipv4 = self.addressing.borrow().ipv4_facts();
        let found = self.silence.borrow_mut().work(engine, now, ipv4);
        let Some((diagnosis, silent)) = found else {
            return;
        };
        // It was said when it was noticed.
        if !matches!(diagnosis, Diagnosis::AddressClash(_)) {
            let seconds = silent.as_secs();
            log::warn!(target: "net", "{}: silent for {seconds} s: {diagnosis}", self.name);
        }
    }

    /// Looks closely whether anything is heard.
    pub(super) fn look_closely(&self) {
        let mut engine = self.engine.borrow_mut();
        self.silence.borrow_mut().look(&mut engine);
        engine.port.flush();
    }

    /// What is wrong, as far as is known now.
    pub(super) fn diagnose(&self) -> Diagnosis {
        let ipv4 = self.addressing.borrow().ipv4_facts();
        self.silence.borrow().diagnose(&self.engine.borrow(), ipv4)
    }

    /// Takes memory back from connections that are quiet.
    fn give_back_pages(&self, now: Instant) {
        if !self.schedule.borrow().has_quiet(now) {
            return;
        }
        loop {
            let Some(connection) = self.schedule.borrow_mut().next_quiet(now) else {
                break;
            };
            if connection.stage.get() != Stage::Gone {
                connection.give_back_pages();
            }
        }
        if let Some(stack) = self.stack.upgrade() {
            stack.budget.writers.wake_all();
        }
    }

    /// Gives every connection that is ready a turn.
    fn send_segments(&self, engine: &mut Engine, now: Instant) {
        let turns = self.schedule.borrow().ready_len();
        for _ in 0..turns {
            if engine.port.is_stalled() {
                return;
            }
            let Some(connection) = self.schedule.borrow_mut().next_ready() else {
                return;
            };
            self.serve(engine, now, &connection);
        }
    }

    /// Lets one connection send what it has, within bounds, and finds out when it is to be
    /// served next.
    fn serve(&self, engine: &mut Engine, now: Instant, connection: &Rc<Connection>) {
        if connection.stage.get() == Stage::Gone {
            return;
        }
        if connection.give_up_at.get().is_some_and(|at| at <= now) {
            self.give_up(connection, now);
            return;
        }
        if self.follower.awaits_addresses() && !engine.has_address(connection.flow.local.address) {
            // smoltcp would end it. New addresses wake it as new neighbours do.
            self.schedule.borrow_mut().await_neighbour(connection);
            return;
        }
        let turn = self.take_turn(engine, now, connection);
        let Turn {
            next,
            lacks_neighbour,
            is_used_up,
        } = turn;
        connection.take_note(now, None);
        if lacks_neighbour {
            self.schedule.borrow_mut().await_neighbour(connection);
        }
        self.advance(connection, now);
        if connection.stage.get() == Stage::Gone {
            return;
        }
        let is_quiet = !lacks_neighbour
            && !engine.port.is_stalled()
            && next.is_none_or(|at| at > now + IMMINENT);
        if is_quiet && self.retire(connection, now) {
            return;
        }
        let mut schedule = self.schedule.borrow_mut();
        match next {
            // More to send; or no room, and then it is served when there is.
            Some(at) if at <= now && (is_used_up || engine.port.is_stalled()) => {
                schedule.make_ready(connection);
            }
            next => {
                let next = next.map(|at| if at <= now { now + SPIN_GUARD } else { at });
                let end = connection.give_up_at.get();
                match [next, end].into_iter().flatten().min() {
                    Some(at) if at <= now + ACKNOWLEDGEMENT_DELAY => {
                        schedule.postpone(connection, at);
                    }
                    Some(at) => schedule.set_deadline(connection, at),
                    None => schedule.forget_deadline(connection),
                }
            }
        }
    }

    /// Lets one connection send what it has, within bounds.
    fn take_turn(&self, engine: &mut Engine, now: Instant, connection: &Rc<Connection>) -> Turn {
        engine.port.set_peer_segment(connection.peer_segment.get());
        let longest = engine.port.longest_payload();
        let before = engine.port.counters;
        connection.with_sockets(|sockets| {
            loop {
                let next = engine.next_poll(now, sockets);
                let counters = &engine.port.counters;
                let is_used_up = counters.sent_bytes - before.sent_bytes >= BYTES_PER_TURN
                    || counters.sent_frames - before.sent_frames >= FRAMES_PER_TURN;
                let waiting = connection.send_queue(sockets).min(longest);
                let has_sent = !is_used_up
                    && next.is_some_and(|at| at <= now)
                    && engine.send(now, sockets, waiting);
                let observed = engine.port.observed;
                if has_sent {
                    connection.has_sent(&observed);
                }
                if !has_sent || observed.lacks_neighbour {
                    return Turn {
                        next,
                        lacks_neighbour: observed.lacks_neighbour,
                        is_used_up,
                    };
                }
            }
        })
    }

    /// Takes the steps that follow from the state of a connection's socket.
    pub(super) fn advance(&self, connection: &Rc<Connection>, now: Instant) {
        if connection.is_over() {
            self.remove(connection);
            return;
        }
        let state = connection.state();
        match (connection.stage.get(), state) {
            (Stage::HalfOpen, State::SynReceived | State::Listen) => {}
            (Stage::HalfOpen, _) => {
                connection.stage.set(Stage::Open);
                connection.give_up_at.set(None);
                let backlog = connection.backlog.as_ref().and_then(Weak::upgrade);
                match backlog {
                    Some(backlog) => backlog.established(connection),
                    None => connection.abort(now, super::TcpError::Closed),
                }
            }
            (Stage::Connecting, State::SynSent | State::SynReceived) => {}
            (Stage::Connecting, _) => connection.stage.set(Stage::Open),
            _ => {}
        }
    }

    /// Replaces a connection that only sits out its TIME-WAIT, with nothing left to send, by
    /// what has to be remembered of it.
    fn retire(&self, connection: &Rc<Connection>, now: Instant) -> bool {
        let waits = connection.state() == State::TimeWait && connection.is_orphan();
        let Some(last) = connection.last_segment.get().filter(|_| waits) else {
            return false;
        };
        self.remove(connection);
        self.time_wait
            .borrow_mut()
            .insert(now, connection.flow, last);
        true
    }

    /// The peer took too long.
    fn give_up(&self, connection: &Rc<Connection>, now: Instant) {
        match connection.stage.get() {
            // Nobody learns of a connection that never was: the SYN may have been forged.
            Stage::HalfOpen => {
                if let Some(backlog) = connection.backlog.as_ref().and_then(Weak::upgrade) {
                    backlog.forget(connection);
                }
                self.remove(connection);
            }
            _ if connection.failure.get().is_some() => self.remove(connection),
            _ => {
                connection.abort(now, super::TcpError::TimedOut);
                self.schedule.borrow_mut().make_ready(connection);
            }
        }
    }

    /// Forgets a connection. Who still holds it finds its socket closed.
    pub(super) fn remove(&self, connection: &Rc<Connection>) {
        if connection.stage.replace(Stage::Gone) == Stage::HalfOpen
            && let Some(backlog) = connection.backlog.as_ref().and_then(Weak::upgrade)
        {
            backlog.forget(connection);
        }
        self.connections.borrow_mut().remove(&connection.flow);
        self.schedule.borrow_mut().forget(connection);
    }

    /// An address and port as programs see them: a link-local IPv6 address needs the interface.
    pub(super) fn scoped(&self, endpoint: Endpoint) -> SocketAddr {
        match endpoint.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                let scope = u32::try_from(self.number + 1).unwrap_or(0);
                SocketAddrV6::new(address, endpoint.port, 0, scope).into()
            }
            address => SocketAddr::new(address, endpoint.port),
        }
    }

    pub(super) fn information(&self) -> InterfaceInformation {
        let engine = self.engine.borrow();
        InterfaceInformation {
            name: self.name.clone(),
            mac: engine.port.device.mac(),
            mtu: engine.port.mtu(),
            link_is_up: engine.port.device.link_is_up(),
            addresses: engine.addresses.clone(),
            connections: self.connections.borrow().len(),
            counters: engine.port.counters,
        }
    }

    /// What the device says of itself.
    pub(super) fn report_device(&self, tell: &mut Sink<'_>) {
        self.engine.borrow().port.device.report(tell);
    }

    /// Whether a connection between these ends exists here.
    pub(super) fn is_in_use(&self, flow: &Flow) -> bool {
        self.connections.borrow().contains(flow)
    }

    /// Ends all connections, when the runtime ends.
    pub(super) fn clear(&self) {
        let connections = self.connections.borrow_mut().take_all();
        for connection in connections {
            self.remove(&connection);
        }
    }
}

/// What became of a connection's turn to send.
struct Turn {
    /// When smoltcp wants to look at the socket again.
    next: Option<Instant>,
    /// The next hop has not told its Ethernet address.
    lacks_neighbour: bool,
    /// The connection has sent as much as one may.
    is_used_up: bool,
}

impl fmt::Debug for Interface {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Interface")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
