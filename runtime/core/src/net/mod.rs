//! The network stack and its sockets.
pub mod device;

mod address;
mod error;
mod stack;
mod tcp;
mod udp;

pub use address::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config};
pub(crate) use address::{is_host_ipv4, is_host_ipv6};
pub use error::{AcceptError, BindError, ConnectError, ResolveError, SendError, TcpError};
pub use stack::{ConfiguredAddress, Counters, InterfaceInformation, Stack, interfaces, resolve};
pub use tcp::{
    OwnedReadHalf, OwnedWriteHalf, ReadHalf, TcpListener, TcpOptions, TcpStream, WriteHalf,
};
pub use udp::UdpSocket;
