//! TCP connections, as programs see them.

use alloc::rc::Rc;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{ErrorType, Read, ReadReady, Write, WriteReady};
use smoltcp::socket::tcp::State;

use super::connection::{Connection, Stage};
use super::listener::now_or_boot;
use super::pages;
use super::stack::Stack;
use super::{ConnectError, TcpError};
use crate::time::timeout;

/// Options of new connections, and of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Bytes that can arrive and wait to be read: also the largest window the peer sees.
    /// `None`, unless told: as memory allows. That is 16 KiB when the stack has no limit for
    /// its buffers. Else the first connection gets an 80th of
    /// [the limit](Stack::set_buffer_limit), and one that comes to n others an n-th of that,
    /// from 2 to 256 KiB.
    pub receive_buffer: Option<usize>,
    /// Bytes that can be written and wait to be acknowledged. `None`, unless told: 256 KiB where
    /// the platform backs memory only once it is used, else as above.
    pub send_buffer: Option<usize>,
    /// How long the peer may take to answer when a connection is opened. 30 s unless told.
    pub connect_timeout: Duration,
    /// How long the peer may leave what was sent unacknowledged (the user timeout of RFC 9293).
    /// 2 min unless told.
    pub user_timeout: Duration,
    /// After how much silence to ask whether the peer is still there. Never unless told.
    pub keep_alive: Option<Duration>,
    /// Of a listener: connections whose handshake is under way, and as many that are not
    /// accepted yet. 128 unless told.
    pub backlog: usize,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: None,
            send_buffer: None,
            connect_timeout: Duration::from_secs(30),
            user_timeout: Duration::from_secs(120),
            keep_alive: None,
            backlog: 128,
        }
    }
}

/// A TCP connection.
///
/// Reading gives 0 bytes once the peer has finished. Dropping the stream lets what was written
/// go out, then ends the connection in order, in the background; whatever the peer still sends
/// is thrown away.
pub struct TcpStream {
    connection: Rc<Connection>,
}

impl TcpStream {
    /// Connects to `peer`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn connect(peer: impl Into<SocketAddr>) -> Result<Self, ConnectError> {
        Self::connect_with(peer, TcpOptions::default()).await
    }

    /// As [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn connect_with(
        peer: impl Into<SocketAddr>,
        options: TcpOptions,
    ) -> Result<Self, ConnectError> {
        Stack::current().connect(peer.into(), options).await
    }

    pub(super) fn new(connection: Rc<Connection>) -> Self {
        Self { connection }
    }

    /// Waits until the connection that was begun is established. Dropping the future ends it.
    pub(super) async fn established(self, limit: Duration) -> Result<Self, ConnectError> {
        let peer = self.peer_addr();
        let outcome = timeout(
            limit,
            poll_fn(|task| match self.connection.state() {
                State::SynSent | State::SynReceived => {
                    self.connection
                        .with_socket(|socket| socket.register_send_waker(task.waker()));
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(match self.connection.failure.get() {
                    Some(TcpError::Reset) => ConnectError::Refused(peer),
                    _ => ConnectError::TimedOut(peer),
                })),
                _ => Poll::Ready(Ok(())),
            }),
        )
        .await;
        match outcome {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectError::TimedOut(peer)),
        }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.connection.local()
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.connection.peer
    }

    /// Borrows the two directions, to be used at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let stream = &*self;
        (ReadHalf { stream }, WriteHalf { stream })
    }

    /// Takes the two directions apart, for two tasks. Dropping the writing half finishes this
    /// direction; the connection ends when both are dropped.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Rc::new(self);
        let read = OwnedReadHalf {
            stream: stream.clone(),
        };
        (read, OwnedWriteHalf { stream })
    }

    /// Waits until there is something to read, or nothing more to come. A program with many idle
    /// connections need not have a buffer for each of them before that.
    pub async fn readable(&self) {
        poll_fn(|task| {
            if self.can_read_at_once() {
                return Poll::Ready(());
            }
            self.connection
                .with_socket(|socket| socket.register_recv_waker(task.waker()));
            Poll::Pending
        })
        .await;
    }

    /// Tells the peer, after all that was written, that no more will be written. Reading goes
    /// on.
    pub fn shutdown(&self) {
        self.connection.close();
        self.connection.make_ready();
    }

    /// Waits until the peer has acknowledged all that was written (and the FIN, after
    /// [`shutdown`](Self::shutdown)).
    ///
    /// # Errors
    /// See [`TcpError`].
    pub async fn acknowledged(&self) -> Result<(), TcpError> {
        poll_fn(|task| {
            self.connection.with_socket(|socket| match socket.state() {
                State::Closed => Poll::Ready(match self.connection.failure.get() {
                    Some(failure) => Err(failure),
                    None => Ok(()),
                }),
                State::Established | State::CloseWait | State::FinWait2 | State::TimeWait
                    if socket.send_queue() == 0 =>
                {
                    Poll::Ready(Ok(()))
                }
                _ => {
                    socket.register_send_waker(task.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// Ends the connection at once with a reset; what was written and not sent is lost.
    pub fn abort(&self) {
        self.connection.abort(now_or_boot(), TcpError::Closed);
        self.connection.make_ready();
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<usize, TcpError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        poll_fn(|task| {
            let (waiting, capacity, result) = self.connection.with_socket(|socket| {
                let (waiting, capacity) = (socket.recv_queue(), socket.recv_capacity());
                let result = socket.recv_slice(buffer);
                if let Ok(0) = result {
                    socket.register_recv_waker(task.waker());
                }
                (waiting, capacity, result)
            });
            match result {
                Ok(0) => Poll::Pending,
                Ok(length) => {
                    // smoltcp tells the peer of a larger window only if it is polled; that is
                    // worth a packet when the buffer was filling up.
                    if waiting * 2 >= capacity {
                        self.connection.make_ready();
                    }
                    Poll::Ready(Ok(length))
                }
                Err(_) => Poll::Ready(self.end_of_reading()),
            }
        })
        .await
    }

    fn end_of_reading(&self) -> Result<usize, TcpError> {
        match self.connection.failure.get() {
            _ if self.connection.peer_finished.get() => Ok(0),
            Some(failure) => Err(failure),
            None => Ok(0),
        }
    }

    async fn send(&self, data: &[u8]) -> Result<usize, TcpError> {
        poll_fn(|task| {
            let mut lacks_memory = false;
            let result = self.connection.with_socket(|socket| {
                let mut data = data;
                if self.connection.has_send_pages {
                    let room = socket.send_capacity() - socket.send_queue();
                    let wanted = data.len().min(room);
                    data = &data[..pages::room_for(wanted)];
                    lacks_memory = data.is_empty() && wanted > 0;
                }
                let result = socket.send_slice(data);
                if let Ok(0) = result
                    && !lacks_memory
                {
                    socket.register_send_waker(task.waker());
                }
                result
            });
            if lacks_memory {
                self.connection.await_memory(task.waker());
            } else {
                self.connection.has_written();
            }
            match result {
                Ok(0) if !data.is_empty() => Poll::Pending,
                Ok(length) => {
                    self.connection.make_ready();
                    Poll::Ready(Ok(length))
                }
                Err(_) => Poll::Ready(Err(self
                    .connection
                    .failure
                    .get()
                    .unwrap_or(TcpError::Closed))),
            }
        })
        .await
    }

    fn can_read_at_once(&self) -> bool {
        self.connection
            .with_socket(|socket| socket.can_recv() || !socket.may_recv())
    }

    fn can_write_at_once(&self) -> bool {
        self.connection
            .with_socket(|socket| socket.can_send() || !socket.may_send())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if self.connection.stage.get() != Stage::Gone {
            self.connection.orphan(now_or_boot());
            self.connection.make_ready();
        }
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TcpStream")
            .field("local", &self.local_addr())
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

/// The reading direction of a borrowed [`TcpStream`].
#[derive(Debug)]
pub struct ReadHalf<'a> {
    stream: &'a TcpStream,
}

/// The writing direction of a borrowed [`TcpStream`].
#[derive(Debug)]
pub struct WriteHalf<'a> {
    stream: &'a TcpStream,
}

/// The reading direction of a [`TcpStream`], on its own.
#[derive(Debug)]
pub struct OwnedReadHalf {
    stream: Rc<TcpStream>,
}

/// The writing direction of a [`TcpStream`], on its own. Dropping it tells the peer that no
/// more will be written.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Rc<TcpStream>,
}

impl OwnedReadHalf {
    /// As [`TcpStream::readable`].
    pub async fn readable(&self) {
        self.stream.readable().await;
    }
}

impl ReadHalf<'_> {
    /// As [`TcpStream::readable`].
    pub async fn readable(&self) {
        self.stream.readable().await;
    }
}

impl OwnedWriteHalf {
    /// As [`TcpStream::shutdown`].
    pub fn shutdown(&self) {
        self.stream.shutdown();
    }

    /// As [`TcpStream::abort`]: ends both directions.
    pub fn abort(&self) {
        self.stream.abort();
    }
}

impl WriteHalf<'_> {
    /// As [`TcpStream::shutdown`].
    pub fn shutdown(&self) {
        self.stream.shutdown();
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

/// The four ways to hold a connection read and write it alike.
trait Holds {
    fn stream(&self) -> &TcpStream;
}

impl Holds for TcpStream {
    fn stream(&self) -> &TcpStream {
        self
    }
}

impl Holds for ReadHalf<'_> {
    fn stream(&self) -> &TcpStream {
        self.stream
    }
}

impl Holds for WriteHalf<'_> {
    fn stream(&self) -> &TcpStream {
        self.stream
    }
}

impl Holds for OwnedReadHalf {
    fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Holds for OwnedWriteHalf {
    fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

macro_rules! error_type {
    ($($holder:ty),*) => {$(
        impl ErrorType for $holder {
            type Error = TcpError;
        }
    )*};
}

macro_rules! reads {
    ($($holder:ty),*) => {$(
        impl Read for $holder {
            async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TcpError> {
                self.stream().receive(buffer).await
            }
        }

        impl ReadReady for $holder {
            fn read_ready(&mut self) -> Result<bool, TcpError> {
                Ok(self.stream().can_read_at_once())
            }
        }
    )*};
}

macro_rules! writes {
    ($($holder:ty),*) => {$(
        impl Write for $holder {
            async fn write(&mut self, data: &[u8]) -> Result<usize, TcpError> {
                self.stream().send(data).await
            }

            /// Nothing to do: what was written goes out by itself. To know that it arrived,
            /// await [`TcpStream::acknowledged`].
            async fn flush(&mut self) -> Result<(), TcpError> {
                Ok(())
            }
        }

        impl WriteReady for $holder {
            fn write_ready(&mut self) -> Result<bool, TcpError> {
                Ok(self.stream().can_write_at_once())
            }
        }
    )*};
}

error_type!(
    TcpStream,
    ReadHalf<'_>,
    WriteHalf<'_>,
    OwnedReadHalf,
    OwnedWriteHalf
);
reads!(TcpStream, ReadHalf<'_>, OwnedReadHalf);
writes!(TcpStream, WriteHalf<'_>, OwnedWriteHalf);
