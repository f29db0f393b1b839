//! UDP sockets.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use super::budget::{Budget, Share};
use super::datagrams::Outgoing;
use super::stack::{Shared, Stack};
use super::wakers::Wakers;
use super::{BindError, SendError};
use crate::memory;

/// What a datagram counts in a buffer besides its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;

/// Options of a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Bytes of datagrams that can wait to be received; what comes beyond is dropped. Each
    /// counts 64 bytes more than it has. 64 KiB unless told. Takes memory only when used.
    pub receive_buffer: usize,
    /// Bytes of datagrams that can wait to be sent, counted alike. 64 KiB unless told.
    pub send_buffer: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: 64 * 1024,
            send_buffer: 64 * 1024,
        }
    }
}

/// A UDP socket. Several tasks may use it at the same time.
pub struct UdpSocket {
    mailbox: Rc<Mailbox>,
    stack: Stack,
}

impl UdpSocket {
    /// Binds to `address`. `0.0.0.0` means all IPv4 addresses of this host, `::` all addresses
    /// of both kinds; port 0 chooses a free one.
    ///
    /// # Errors
    /// See [`BindError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn bind(address: impl Into<SocketAddr>) -> Result<Self, BindError> {
        Self::bind_with(address, UdpOptions::default()).await
    }

    /// As [`bind`](Self::bind), with options.
    ///
    /// # Errors
    /// See [`BindError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn bind_with(
        address: impl Into<SocketAddr>,
        options: UdpOptions,
    ) -> Result<Self, BindError> {
        Stack::current().bind_udp(address.into(), options)
    }

    pub(super) fn new(stack: Stack, mailbox: Rc<Mailbox>) -> Self {
        Self { mailbox, stack }
    }

    /// Sends one datagram; waits while the send buffer is full. As always with UDP, nobody
    /// learns whether it arrives.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_to(
        &self,
        datagram: &[u8],
        peer: impl Into<SocketAddr>,
    ) -> Result<usize, SendError> {
        let peer = peer.into();
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(SendError::InvalidAddress(peer));
        }
        let own = self.mailbox.address.ip();
        let address = peer.ip().to_canonical();
        if own.is_ipv4() != address.is_ipv4() && !own.is_unspecified()
            || own.is_ipv4() && address.is_ipv6()
        {
            return Err(SendError::InvalidAddress(peer));
        }
        let interface = self
            .stack
            .shared()
            .route(peer)
            .ok_or(SendError::NoRoute(address))?;
        let longest = interface.longest_datagram(address);
        let longest = longest.min(self.mailbox.options.send_buffer.saturating_sub(OVERHEAD));
        if datagram.len() > longest {
            return Err(SendError::TooLong {
                length: datagram.len(),
                longest,
            });
        }
        let room = poll_fn(|task| match self.mailbox.take_room(datagram.len()) {
            Some(room) => Poll::Ready(room),
            None => {
                self.mailbox.writers.register(task.waker());
                Poll::Pending
            }
        })
        .await;
        let data = memory::copy(datagram)?;
        let outgoing = Outgoing {
            source: self.mailbox.address,
            destination: SocketAddr::new(address, peer.port()),
            data,
            _room: room,
        };
        interface.send_datagram(outgoing)?;
        Ok(datagram.len())
    }

    /// Receives one datagram: its length and sender. What does not fit into `buffer` is lost.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        poll_fn(|task| match self.mailbox.take() {
            Some((peer, datagram)) => {
                let length = datagram.len().min(buffer.len());
                buffer[..length].copy_from_slice(&datagram[..length]);
                Poll::Ready((length, peer))
            }
            None => {
                self.mailbox.readers.register(task.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.mailbox.address
    }

    /// Datagrams dropped because the receive buffer was full.
    pub fn dropped(&self) -> u64 {
        self.mailbox.dropped.get()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.stack.shared().remove_mailbox(&self.mailbox);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UdpSocket")
            .field("address", &self.mailbox.address)
            .finish_non_exhaustive()
    }
}

/// The datagrams of a UDP socket that wait to be received, and room for those to send.
pub(super) struct Mailbox {
    pub(super) address: SocketAddr,
    options: UdpOptions,
    budget: Rc<Budget>,
    received: RefCell<VecDeque<Received>>,
    received_bytes: Cell<usize>,
    outgoing_bytes: Cell<usize>,
    readers: Wakers,
    writers: Wakers,
    dropped: Cell<u64>,
}

struct Received {
    peer: SocketAddr,
    data: Vec<u8>,
    _memory: Share,
}

impl Mailbox {
    pub(super) fn new(address: SocketAddr, options: UdpOptions, budget: Rc<Budget>) -> Self {
        Self {
            address,
            options,
            budget,
            received: RefCell::default(),
            received_bytes: Cell::new(0),
            outgoing_bytes: Cell::new(0),
            readers: Wakers::default(),
            writers: Wakers::default(),
            dropped: Cell::new(0),
        }
    }

    /// A datagram arrived; it is dropped when there is no room.
    pub(super) fn deliver(&self, peer: SocketAddr, datagram: &[u8]) {
        let cost = datagram.len() + OVERHEAD;
        let bytes = self.received_bytes.get() + cost;
        let keep = || {
            self.received.borrow_mut().try_reserve(1).ok()?;
            Some((memory::copy(datagram).ok()?, self.budget.take(cost)?))
        };
        let kept = (bytes <= self.options.receive_buffer).then(keep).flatten();
        let Some((data, memory)) = kept else {
            self.dropped.set(self.dropped.get() + 1);
            return;
        };
        self.received_bytes.set(bytes);
        self.received.borrow_mut().push_back(Received {
            peer,
            data,
            _memory: memory,
        });
        self.readers.wake_all();
    }

    fn take(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let received = self.received.borrow_mut().pop_front()?;
        let cost = received.data.len() + OVERHEAD;
        self.received_bytes.set(self.received_bytes.get() - cost);
        Some((received.peer, received.data))
    }

    fn take_room(self: &Rc<Self>, length: usize) -> Option<Room> {
        let bytes = self.outgoing_bytes.get() + length + OVERHEAD;
        if bytes > self.options.send_buffer {
            return None;
        }
        self.outgoing_bytes.set(bytes);
        Some(Room {
            mailbox: self.clone(),
            bytes: length + OVERHEAD,
        })
    }
}

/// A part of a socket's send buffer, given back when dropped.
pub(super) struct Room {
    mailbox: Rc<Mailbox>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = self.mailbox.outgoing_bytes.get();
        self.mailbox
            .outgoing_bytes
            .set(bytes.saturating_sub(self.bytes));
        self.mailbox.writers.wake_all();
    }
}

impl Shared {
    fn remove_mailbox(&self, mailbox: &Rc<Mailbox>) {
        self.mailboxes.borrow_mut().remove(mailbox);
    }
}
