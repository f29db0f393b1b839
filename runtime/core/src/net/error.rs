//! What can go wrong with sockets, by operation.

use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use embedded_io_async::ErrorKind;

use crate::memory::OutOfMemory;

/// A socket could not be bound to a local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// Another socket has this address.
    AddressInUse(SocketAddr),
    /// No interface has this address.
    AddressNotAvailable(IpAddr),
    /// All ports of the ephemeral range are taken.
    NoFreePort,
    /// There is not enough memory for the socket's buffers.
    OutOfMemory,
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse(address) => write!(formatter, "address {address} is in use"),
            Self::AddressNotAvailable(address) => {
                write!(formatter, "no interface has the address {address}")
            }
            Self::NoFreePort => formatter.write_str("all ephemeral ports are in use"),
            Self::OutOfMemory => formatter.write_str("not enough memory for the socket's buffers"),
        }
    }
}

impl core::error::Error for BindError {}

impl From<OutOfMemory> for BindError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// A listener cannot accept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The network stack it belongs to is gone.
    Closed,
}

impl fmt::Display for AcceptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("the network stack is gone"),
        }
    }
}

impl core::error::Error for AcceptError {}

/// A connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The peer's host answered that nobody listens there.
    Refused(SocketAddr),
    /// The peer did not answer in time.
    TimedOut(SocketAddr),
    /// No interface leads there.
    NoRoute(IpAddr),
    /// The peer's address or port is not one that can be connected to.
    InvalidAddress(SocketAddr),
    /// All ports of the ephemeral range are taken.
    NoFreePort,
    /// There is not enough memory for the connection's buffers.
    OutOfMemory,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(peer) => write!(formatter, "{peer} refused the connection"),
            Self::TimedOut(peer) => write!(formatter, "{peer} did not answer in time"),
            Self::NoRoute(peer) => write!(formatter, "no interface leads to {peer}"),
            Self::InvalidAddress(peer) => write!(formatter, "cannot connect to {peer}"),
            Self::NoFreePort => formatter.write_str("all ephemeral ports are in use"),
            Self::OutOfMemory => {
                formatter.write_str("not enough memory for the connection's buffers")
            }
        }
    }
}

impl core::error::Error for ConnectError {}

impl From<OutOfMemory> for ConnectError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Reading from or writing to a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpError {
    /// The peer reset the connection.
    Reset,
    /// The peer acknowledged nothing for too long.
    TimedOut,
    /// This side ended the connection, or its half that was to be used.
    Closed,
}

impl fmt::Display for TcpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Reset => "the peer reset the connection",
            Self::TimedOut => "the peer stopped answering",
            Self::Closed => "the connection was closed on this side",
        })
    }
}

impl core::error::Error for TcpError {}

impl embedded_io_async::Error for TcpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Reset => ErrorKind::ConnectionReset,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Closed => ErrorKind::BrokenPipe,
        }
    }
}

/// A datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No interface leads there.
    NoRoute(IpAddr),
    /// The destination's address or port is not one that can be sent to, or is of another IP
    /// version than the socket's own address.
    InvalidAddress(SocketAddr),
    /// The datagram is longer than the socket's buffer or the protocol allow.
    TooLong {
        /// Bytes of the datagram.
        length: usize,
        /// Bytes that can be sent at most.
        longest: usize,
    },
    /// There is not enough memory for the socket's buffers.
    OutOfMemory,
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(peer) => write!(formatter, "no interface leads to {peer}"),
            Self::InvalidAddress(peer) => write!(formatter, "cannot send to {peer}"),
            Self::TooLong { length, longest } => write!(
                formatter,
                "datagram of {length} bytes is longer than {longest} bytes"
            ),
            Self::OutOfMemory => formatter.write_str("not enough memory for the socket's buffers"),
        }
    }
}

impl core::error::Error for SendError {}

impl From<OutOfMemory> for SendError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// A name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// No name server is known: the command line has no `dns=` and DHCP gave none.
    NoServers,
    /// The text cannot be a host name.
    InvalidName(String),
    /// The name does not exist, or has no address.
    NotFound(String),
    /// No server answered in time.
    TimedOut(String),
    /// The servers answered, but could not or would not resolve the name.
    ServerFailed(String),
    /// No socket could be opened to ask.
    Socket(BindError),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServers => formatter.write_str("no name server is known: set dns="),
            Self::InvalidName(name) => write!(formatter, "{name:?} is not a host name"),
            Self::NotFound(name) => write!(formatter, "{name} has no address"),
            Self::TimedOut(name) => write!(formatter, "no name server answered for {name}"),
            Self::ServerFailed(name) => write!(formatter, "the name servers failed for {name}"),
            Self::Socket(error) => write!(formatter, "cannot ask a name server: {error}"),
        }
    }
}

impl core::error::Error for ResolveError {}
