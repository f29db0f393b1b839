//! One TCP connection: its smoltcp socket in a socket set of its own, and what smoltcp does not
//! know about it.

use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::task::Waker;
use core::time::Duration;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};

use super::TcpError;
use super::budget::ConnectionShare;
use super::frame::{Arrival, DEFAULT_SEGMENT, Endpoint, Flow};
use super::growth::Growth;
use super::interface::Interface;
use super::listener::Backlog;
use super::pages;
use super::port::{Observed, Segment};
use super::schedule::Place;
use super::stack::Shared;
use super::tcp::TcpOptions;
use crate::context;
use crate::memory;
use crate::time::Instant;

/// How long an acknowledgement waits for something to go along with.
pub(super) const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(10);

/// How far rounding may take back a window that was offered: its largest unit (RFC 7323, section
/// 2.3).
const LARGEST_ROUNDING: u32 = 1 << 14;

/// How long a peer may take to complete the handshake it began.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection that the program dropped may go without the peer acknowledging any of
/// what is left to send, and how long it may take in all.
const ORPHAN_LIMIT: Duration = Duration::from_secs(60);
const LONGEST_ORPHAN: Duration = Duration::from_secs(300);

/// How long an aborted connection waits to get its reset out.
const RESET_LIMIT: Duration = Duration::from_secs(1);

/// A TCP connection from its SYN to its end.
pub(super) struct Connection {
    /// Unlike that of every other connection of the stack.
    pub(super) number: u64,
    pub(super) flow: Flow,
    /// The peer with its scope, as the program sees it.
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    pub(super) interface: Weak<Interface>,
    pub(super) stage: Cell<Stage>,
    /// The listener that is to accept it.
    pub(super) backlog: Option<Weak<Backlog>>,
    /// Where it stands among those of its listener whose handshake is under way.
    pub(super) place_half_open: Cell<Option<usize>>,
    /// The program has dropped it; it only has to end.
    orphan: Cell<Option<Orphan>>,
    /// When to stop waiting for the peer, whatever the stage.
    pub(super) give_up_at: Cell<Option<Instant>>,
    /// Why it ended, unless in order.
    pub(super) failure: Cell<Option<TcpError>>,
    /// The program has said that it will write no more.
    closing: Cell<bool>,
    /// The peer has sent its FIN.
    pub(super) peer_finished: Cell<bool>,
    /// The most payload that the peer takes in one segment.
    pub(super) peer_segment: Cell<u16>,
    /// The sequence number after the window that our SYN offered, until we sent another segment.
    first_window_end: Cell<Option<u32>>,
    /// The number of the byte that the peer may not send yet, where it was last offered no window.
    closed_window: Cell<Option<u32>>,
    pub(super) growth: Growth,
    /// The last segment sent.
    pub(super) last_segment: Cell<Option<Segment>>,
    user_timeout: Duration,
    sockets: RefCell<SocketSet<'static>>,
    handle: SocketHandle,
    /// The pages of these buffers take memory only once they are written to.
    pub(super) has_send_pages: bool,
    pub(super) has_receive_pages: bool,
    _memory: ConnectionShare,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A peer has sent a SYN.
    HalfOpen,
    /// We have sent a SYN.
    Connecting,
    /// It was established; it may have ended since.
    Open,
    /// It is not in the demultiplexer any more.
    Gone,
}

/// A connection that nobody holds any more.
#[derive(Clone, Copy)]
struct Orphan {
    since: Instant,
    /// Bytes the peer had yet to acknowledge when last looked at.
    unacknowledged: usize,
}

impl Connection {
    /// A connection that has not begun. `None` when there is no memory for it and its buffers.
    pub(super) fn new(
        shared: &Shared,
        interface: &Rc<Interface>,
        flow: Flow,
        options: &TcpOptions,
        backlog: Option<Weak<Backlog>>,
    ) -> Option<Rc<Self>> {
        if !context::current().platform.has_headroom() {
            return None;
        }
        let usual = shared.budget.buffer_size();
        // smoltcp refuses more than 1 GiB; no window is larger (RFC 7323).
        let size = |bytes: Option<usize>| bytes.unwrap_or(usual).clamp(1, 1 << 30);
        let receive = size(options.receive_buffer);
        let paged_send = match options.send_buffer {
            None => pages::try_buffer(pages::SEND_BUFFER),
            Some(_) => None,
        };
        let send = size(options.send_buffer);
        let counted = paged_send.as_ref().map_or(send, |_| pages::PAGE);
        let share = shared.budget.take_for_connection(receive + counted)?;
        let paged_receive = pages::try_buffer(receive);
        let (has_send_pages, has_receive_pages) = (paged_send.is_some(), paged_receive.is_some());
        let mut socket = Socket::new(
            SocketBuffer::new(match paged_receive {
                Some(buffer) => buffer,
                None => memory::zeroed(receive).ok()?,
            }),
            SocketBuffer::new(match paged_send {
                Some(buffer) => buffer,
                None => memory::zeroed(send).ok()?,
            }),
        );
        // Programs write what belongs together at once, and the interface sends only after the
        // task that wrote has run: small segments are not worth a round trip (RFC 896).
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_keep_alive(options.keep_alive.map(Into::into));
        let mut sockets = SocketSet::new(memory::with_capacity(1).ok()?);
        let handle = sockets.add(socket);
        let count = interface.connections.borrow().len() + 1;
        interface.schedule.borrow_mut().reserve(count).ok()?;
        let connection = Self {
            number: shared.next_number(),
            flow,
            peer: interface.scoped(flow.peer),
            place: Place::default(),
            interface: Rc::downgrade(interface),
            stage: Cell::new(match backlog {
                Some(_) => Stage::HalfOpen,
                None => Stage::Connecting,
            }),
            backlog,
            place_half_open: Cell::new(None),
            orphan: Cell::new(None),
            give_up_at: Cell::new(None),
            failure: Cell::new(None),
            closing: Cell::new(false),
            peer_finished: Cell::new(false),
            peer_segment: Cell::new(DEFAULT_SEGMENT),
            first_window_end: Cell::new(None),
            closed_window: Cell::new(None),
            growth: Growth::new(),
            last_segment: Cell::new(None),
            user_timeout: options.user_timeout,
            sockets: RefCell::new(sockets),
            handle,
            has_send_pages,
            has_receive_pages,
            _memory: share,
        };
        memory::shared(connection).ok()
    }

    pub(super) fn with_socket<R>(&self, operation: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        operation(self.sockets.borrow_mut().get_mut(self.handle))
    }

    pub(super) fn with_sockets<R>(
        &self,
        operation: impl FnOnce(&mut SocketSet<'static>) -> R,
    ) -> R {
        operation(&mut self.sockets.borrow_mut())
    }

    /// Bytes that were written and not acknowledged, of the connection that `sockets` is the set of.
    pub(super) fn send_queue(&self, sockets: &SocketSet<'static>) -> usize {
        sockets.get::<Socket<'_>>(self.handle).send_queue()
    }

    pub(super) fn state(&self) -> State {
        self.sockets.borrow().get::<Socket<'_>>(self.handle).state()
    }

    pub(super) fn local(&self) -> SocketAddr {
        let Endpoint { address, port } = self.flow.local;
        SocketAddr::new(address, port)
    }

    pub(super) fn start_handshake_limit(&self, now: Instant) {
        self.give_up_at.set(Some(now + HANDSHAKE_LIMIT));
    }

    /// The program let go of it: what was written still goes out, then the FIN; what comes in
    /// is thrown away.
    pub(super) fn orphan(&self, now: Instant) {
        self.close();
        self.orphan.set(Some(Orphan {
            since: now,
            unacknowledged: self.with_socket(|socket| socket.send_queue()),
        }));
        let limit = match self.state() {
            State::Closed => RESET_LIMIT,
            _ => ORPHAN_LIMIT,
        };
        self.give_up_at.set(Some(now + limit));
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.orphan.get().is_some()
    }

    /// Sends the FIN after what was written.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.with_socket(Socket::close);
    }

    /// Ends it with a reset.
    pub(super) fn abort(&self, now: Instant, failure: TcpError) {
        if self.failure.get().is_none() {
            self.failure.set(Some(failure));
        }
        self.give_up_at.set(Some(now + RESET_LIMIT));
        self.with_socket(Socket::abort);
    }

    /// smoltcp took the peer's SYN, if `arrival` is one.
    pub(super) fn peer_opens(&self, arrival: &Arrival) {
        let Some(size) = arrival.segment_size else {
            return;
        };
        self.peer_segment.set(size);
        let capacity = self.with_socket(|socket| socket.recv_capacity());
        let window = u16::try_from(capacity).unwrap_or(u16::MAX);
        let first = arrival.sequence.wrapping_add(1);
        self.first_window_end
            .set(Some(first.wrapping_add(window.into())));
    }

    /// Whether a segment reaches beyond the window that our SYN offered, where no other was
    /// offered since.
    ///
    /// The window of a SYN is not scaled (RFC 7323, section 2.2). smoltcp scales it when it
    /// looks whether a segment fits, takes more than its buffer holds, and panics.
    pub(super) fn is_beyond_first_window(&self, arrival: &Arrival) -> bool {
        self.first_window_end.get().is_some_and(|end| {
            let segment_end = arrival.sequence.wrapping_add(arrival.payload as u32);
            let beyond = segment_end.wrapping_sub(end);
            beyond != 0 && i32::try_from(beyond).is_ok()
        })
    }

    /// Where the peer is, if a segment with an acknowledgement lies behind a window of zero.
    ///
    /// smoltcp ignores what such a segment acknowledges and offers, where RFC 9293 (section
    /// 3.10.7.4) asks for the opposite. There are such: a scaled window is rounded down, so that
    /// it closes in front of bytes that were offered, and once those are sent all of the peer's
    /// acknowledgements stand behind them. With both buffers full nothing would ever move again.
    pub(super) fn behind_closed_window(&self, arrival: &Arrival) -> Option<u32> {
        let closed = self
            .closed_window
            .get()
            .filter(|_| arrival.acknowledgement.is_some())?;
        let beyond = arrival.sequence.wrapping_sub(closed);
        let is_behind = beyond <= LARGEST_ROUNDING && (beyond > 0 || arrival.payload > 0);
        is_behind.then_some(closed)
    }

    /// Notes what smoltcp sent.
    pub(super) fn has_sent(&self, observed: &Observed) {
        let Some(segment) = observed.segment else {
            return;
        };
        let last = self.last_segment.replace(Some(segment));
        self.growth.sent(segment, last);
        let closed = observed.closes_window && !observed.opens;
        self.closed_window
            .set(closed.then_some(segment.acknowledgement));
        if !observed.opens {
            self.first_window_end.set(None);
        }
    }

    /// A segment is about to be handed to smoltcp.
    pub(super) fn expect_segment(&self, arrival: &Arrival) {
        // Every second full segment is acknowledged at once (RFC 9293, section 3.8.6.3), and a
        // device may hand over many as one; smoltcp counts what arrives together as one.
        let delay = match arrival.payload > usize::from(self.peer_segment.get()) {
            true => Duration::ZERO,
            false => ACKNOWLEDGEMENT_DELAY,
        };
        self.with_socket(|socket| socket.set_ack_delay(Some(delay.into())));
    }

    /// Brings this side's knowledge up to date after smoltcp worked on the socket. `arrived`:
    /// the segment it processed; otherwise it was time or the program that made it work.
    pub(super) fn take_note(&self, now: Instant, arrived: Option<&Arrival>) {
        let user_timeout = self.user_timeout;
        let state = self.with_socket(|socket| {
            let state = socket.state();
            // smoltcp's limit runs whether or not there is anything to acknowledge; it is meant
            // here for data that is under way, and for probes of an idle connection.
            let waits = socket.keep_alive().is_some()
                || (matches!(state, State::Established | State::CloseWait)
                    && socket.send_queue() > 0);
            socket.set_timeout(waits.then(|| user_timeout.into()));
            state
        });
        match state {
            State::Closed => {
                let ended_in_order = self.closing.get() && self.peer_finished.get();
                if self.failure.get().is_none() && !ended_in_order {
                    self.failure.set(Some(match arrived {
                        Some(_) => TcpError::Reset,
                        None => TcpError::TimedOut,
                    }));
                }
            }
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => {
                self.peer_finished.set(true);
            }
            _ => {}
        }
        if self.stage.get() == Stage::Connecting
            && state != State::SynSent
            && let Some(arrival) = arrived
        {
            self.peer_opens(arrival);
        }
        if let Some(orphan) = self.orphan.get() {
            self.take_note_of_orphan(now, orphan);
        }
    }

    fn take_note_of_orphan(&self, now: Instant, orphan: Orphan) {
        let unacknowledged = self.with_socket(|socket| {
            // Keeps the window open until the peer's FIN comes.
            let _ = socket.recv(|received| (received.len(), ()));
            socket.send_queue()
        });
        if unacknowledged < orphan.unacknowledged {
            let limit = (now + ORPHAN_LIMIT).min(orphan.since + LONGEST_ORPHAN);
            self.give_up_at.set(Some(limit));
            self.orphan.set(Some(Orphan {
                unacknowledged,
                ..orphan
            }));
        }
    }

    /// Gives back the memory that the send buffer took, if it is empty.
    pub(super) fn give_back_pages(&self) {
        self.with_socket(|socket| {
            if socket.send_queue() == 0 {
                // The whole buffer is free then. Fails where nothing will be sent any more.
                let _ = socket.send(|free| {
                    pages::give_back(free);
                    (0, ())
                });
            }
        });
    }

    /// Whether smoltcp is done with it: closed, and the reset sent if there was one to send.
    pub(super) fn is_over(&self) -> bool {
        self.with_socket(|socket| {
            matches!(socket.state(), State::Closed | State::Listen)
                && socket.remote_endpoint().is_none()
        })
    }
}

impl Connection {
    /// Has the interface look whether there is something to send.
    pub(super) fn make_ready(self: &Rc<Self>) {
        if self.stage.get() != Stage::Gone
            && let Some(interface) = self.interface.upgrade()
        {
            interface.schedule.borrow_mut().make_ready(self);
        }
    }

    /// Wakes who wants to write when there may be memory again: when connections end or go
    /// quiet, and after a while anyway.
    pub(super) fn await_memory(self: &Rc<Self>, writer: &Waker) {
        if let Some(interface) = self.interface.upgrade()
            && let Some(stack) = interface.stack.upgrade()
        {
            stack.budget.writers.register(writer);
        }
        self.has_written();
    }

    /// Notes that the program wrote to the send buffer.
    pub(super) fn has_written(self: &Rc<Self>) {
        if self.has_send_pages
            && let Some(interface) = self.interface.upgrade()
        {
            let now = Instant::recent();
            interface.schedule.borrow_mut().has_written(self, now);
        }
    }
}
