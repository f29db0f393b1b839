//! Listening for TCP connections.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use super::connection::Connection;
use super::information::ListenerInformation;
use super::stack::{Shared, Stack};
use super::tcp::{TcpOptions, TcpStream};
use super::wakers::Wakers;
use super::{AcceptError, BindError};
use crate::deadlines::Deadlines;
use crate::memory::OutOfMemory;
use crate::time::Instant;

/// Waits for connections on a local address.
///
/// A connection costs nothing until its SYN arrives; then it gets its buffers. When as many
/// wait to be accepted as the backlog allows, further SYNs are dropped, and their senders try
/// again. When as many are half open, the oldest of those makes place: under a flood of forged
/// SYNs an honest peer, which answers at once, still gets through.
pub struct TcpListener {
    backlog: Rc<Backlog>,
    stack: Stack,
}

impl TcpListener {
    /// Listens on `address`. `0.0.0.0` means all IPv4 addresses of this host, `::` all
    /// addresses of both kinds; port 0 chooses a free one.
    ///
    /// # Errors
    /// [`BindError::AddressInUse`], [`BindError::AddressNotAvailable`],
    /// [`BindError::NoFreePort`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn bind(address: impl Into<SocketAddr>) -> Result<Self, BindError> {
        Self::bind_with(address, TcpOptions::default()).await
    }

    /// As [`bind`](Self::bind), with options for the listener and its connections.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn bind_with(
        address: impl Into<SocketAddr>,
        options: TcpOptions,
    ) -> Result<Self, BindError> {
        Stack::current().listen(address.into(), options)
    }

    pub(super) fn new(stack: Stack, backlog: Rc<Backlog>) -> Self {
        Self { backlog, stack }
    }

    /// The next connection, and the address it comes from.
    ///
    /// # Errors
    /// [`AcceptError::Closed`]: the runtime is ending.
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr), AcceptError> {
        poll_fn(|task| {
            let next = self.backlog.waiting.borrow_mut().pop_front();
            match next {
                Some(connection) => {
                    let peer = connection.peer;
                    Poll::Ready(Ok((TcpStream::new(connection), peer)))
                }
                None if self.stack.is_cleared() => Poll::Ready(Err(AcceptError::Closed)),
                None => {
                    self.backlog.acceptors.register(task.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.backlog.address
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.stack.shared().remove_listener(&self.backlog);
        self.backlog.close();
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TcpListener")
            .field("address", &self.backlog.address)
            .finish_non_exhaustive()
    }
}

/// The connections of a listener that the program has not accepted yet.
pub(super) struct Backlog {
    pub(super) address: SocketAddr,
    pub(super) options: TcpOptions,
    /// Handshake under way, by when it began: each ends in its own time, and under a flood there are as
    /// many as the backlog allows.
    half_open: RefCell<Deadlines<Rc<Connection>>>,
    /// Established, oldest first.
    waiting: RefCell<VecDeque<Rc<Connection>>>,
    acceptors: Wakers,
}

/// Whether one more connection may begin.
pub(super) enum Admission {
    Free,
    /// Yes, if this one goes.
    Instead(Rc<Connection>),
    Full,
}

impl Backlog {
    pub(super) fn new(address: SocketAddr, options: TcpOptions) -> Self {
        Self {
            address,
            options,
            half_open: RefCell::default(),
            waiting: RefCell::default(),
            acceptors: Wakers::default(),
        }
    }

    pub(super) fn information(&self) -> ListenerInformation {
        ListenerInformation {
            address: self.address,
            half_open: self.half_open.borrow().len(),
            waiting: self.waiting.borrow().len(),
        }
    }

    pub(super) fn admit(&self) -> Admission {
        let limit = self.options.backlog.max(1);
        if self.waiting.borrow().len() >= limit {
            return Admission::Full;
        }
        if self.half_open.borrow().len() < limit {
            return Admission::Free;
        }
        self.oldest_half_open()
            .map_or(Admission::Full, Admission::Instead)
    }

    /// Takes out the handshake that has been under way for longest.
    pub(super) fn oldest_half_open(&self) -> Option<Rc<Connection>> {
        let mut half_open = self.half_open.borrow_mut();
        let (_, oldest) = half_open.first()?;
        let oldest = oldest.clone();
        take_out(&mut half_open, &oldest);
        Some(oldest)
    }

    /// Finds memory to keep one more connection, now and when it is established.
    pub(super) fn reserve(&self) -> Result<(), OutOfMemory> {
        let mut half_open = self.half_open.borrow_mut();
        let count = half_open.len() + 1;
        half_open.reserve(count)?;
        Ok(self.waiting.borrow_mut().try_reserve(count)?)
    }

    /// A handshake began that memory was [reserved](Self::reserve) for.
    pub(super) fn begin(&self, now: Instant, connection: &Rc<Connection>) {
        let due = (now, connection.number);
        let mut half_open = self.half_open.borrow_mut();
        half_open.insert(due, connection.clone(), stands_at);
    }

    /// A handshake is complete.
    pub(super) fn established(&self, connection: &Rc<Connection>) {
        self.forget(connection);
        self.waiting.borrow_mut().push_back(connection.clone());
        self.acceptors.wake_all();
    }

    /// A handshake will never be complete.
    pub(super) fn forget(&self, connection: &Rc<Connection>) {
        take_out(&mut self.half_open.borrow_mut(), connection);
    }

    /// Resets what nobody will accept any more.
    fn close(&self) {
        while let Some(connection) = self.oldest_half_open() {
            if let Some(interface) = connection.interface.upgrade() {
                interface.remove(&connection);
            }
        }
        let waiting = self.waiting.take();
        for connection in waiting {
            TcpStream::new(connection).abort();
        }
    }

    pub(super) fn wake(&self) {
        self.acceptors.wake_all();
    }
}

/// Tells a connection where it stands among those whose handshake is under way.
fn stands_at(connection: &Rc<Connection>, place: usize) {
    connection.place_half_open.set(Some(place));
}

fn take_out(half_open: &mut Deadlines<Rc<Connection>>, connection: &Connection) {
    if let Some(place) = connection.place_half_open.take() {
        half_open.remove(place, stands_at);
    }
}

/// Whether a listener or socket on `own` and one on `other` would want the same packets.
pub(super) fn overlaps(own: SocketAddr, other: SocketAddr) -> bool {
    own.port() == other.port() && (covers(own, other.ip()) || covers(other, own.ip()))
}

/// Whether a packet for `address` is for a socket on `own`, the port being equal.
pub(super) fn covers(own: SocketAddr, address: core::net::IpAddr) -> bool {
    match own {
        SocketAddr::V4(own) if own.ip().is_unspecified() => address.is_ipv4(),
        SocketAddr::V6(own) if own.ip().is_unspecified() => true,
        own => own.ip() == address,
    }
}

impl Shared {
    fn remove_listener(&self, backlog: &Rc<Backlog>) {
        self.listeners.borrow_mut().remove(backlog);
    }
}

/// The current time, or the boot where no runtime is left to ask: what is dropped after the
/// runtime ended has no one to talk to anyway.
pub(super) fn now_or_boot() -> Instant {
    match crate::cpu_local::current() {
        Some(context) => context.recent(),
        None => Instant::since_boot(core::time::Duration::ZERO),
    }
}
