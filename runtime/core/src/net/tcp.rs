//! TCP connections.

use alloc::rc::Rc;
use core::net::SocketAddr;
use core::time::Duration;

use super::{AcceptError, BindError, ConnectError, TcpError};
use embedded_io_async::{ErrorType, Read, Write};

/// Options of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Bytes that can be received and wait to be read. 16 KiB unless told.
    pub receive_buffer: usize,
    /// Bytes that can be written and wait to be acknowledged. 16 KiB unless told.
    pub send_buffer: usize,
    /// How long the peer may take to answer when a connection is opened. 30 s unless told.
    pub connect_timeout: Duration,
    /// Connections a listener holds that are not accepted yet. 128 unless told.
    pub backlog: usize,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: 16 * 1024,
            send_buffer: 16 * 1024,
            connect_timeout: Duration::from_secs(30),
            backlog: 128,
        }
    }
}

/// Waits for connections on a local address.
pub struct TcpListener(());

impl TcpListener {
    /// Listens on `address`; an unspecified address (`0.0.0.0`, `::`) means all of this host.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: impl Into<SocketAddr>) -> Result<Self, BindError> {
        Self::bind_with(address, TcpOptions::default()).await
    }

    /// As [`bind`](Self::bind), with options for the listener and its connections.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind_with(
        address: impl Into<SocketAddr>,
        options: TcpOptions,
    ) -> Result<Self, BindError> {
        let _ = (address.into(), options);
        Ok(Self(()))
    }

    /// The next connection, and the address it comes from.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr), AcceptError> {
        core::future::pending().await
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
}

/// A TCP connection.
pub struct TcpStream(Rc<()>);

impl TcpStream {
    /// Connects to `peer`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(peer: impl Into<SocketAddr>) -> Result<Self, ConnectError> {
        Self::connect_with(peer, TcpOptions::default()).await
    }

    /// As [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        peer: impl Into<SocketAddr>,
        options: TcpOptions,
    ) -> Result<Self, ConnectError> {
        let _ = options;
        Err(ConnectError::NoRoute(peer.into().ip()))
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    /// Borrows the two directions, to be used at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Takes the two directions apart for two tasks. The connection ends when both are dropped.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (OwnedReadHalf(Rc::new(())), OwnedWriteHalf(self.0))
    }

    /// Says to the peer that nothing more will be written; reading goes on.
    pub fn shutdown(&self) {}

    /// Ends the connection at once with a reset.
    pub fn abort(self) {}
}

/// The reading direction of a borrowed [`TcpStream`].
pub struct ReadHalf<'a>(#[allow(dead_code)] &'a TcpStream);

/// The writing direction of a borrowed [`TcpStream`].
pub struct WriteHalf<'a>(#[allow(dead_code)] &'a TcpStream);

/// The reading direction of a [`TcpStream`].
pub struct OwnedReadHalf(#[allow(dead_code)] Rc<()>);

/// The writing direction of a [`TcpStream`].
pub struct OwnedWriteHalf(#[allow(dead_code)] Rc<()>);

macro_rules! shell {
    ($($name:ty),*) => {$(
        impl ErrorType for $name { type Error = TcpError; }
        impl Read for $name {
            async fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, TcpError> { Ok(0) }
        }
        impl Write for $name {
            async fn write(&mut self, _buffer: &[u8]) -> Result<usize, TcpError> { Err(TcpError::Closed) }
            async fn flush(&mut self) -> Result<(), TcpError> { Ok(()) }
        }
    )*};
}
shell!(
    TcpStream,
    ReadHalf<'_>,
    WriteHalf<'_>,
    OwnedReadHalf,
    OwnedWriteHalf
);
