//! The network stack and its sockets.
//!
//! The protocols are smoltcp's; what decides which socket a packet is for, when a connection is
//! looked at again and how many there may be is ours (docs/decisions/network-stack.md). Every
//! TCP connection has a smoltcp socket set of its own, found by its two ends in a hash map, so
//! that a packet costs the same with one connection and with ten thousand.
//!
//! - [`Stack`] holds the interfaces and knows which sockets are bound to which port.
//! - An interface is a task: it takes frames from its device, lets the connections that are
//!   ready send, and sleeps until the device, a socket or a timer wakes it.
//! - [`TcpListener`], [`TcpStream`], [`UdpSocket`] and [`resolve`] are what programs use, with
//!   the names and the behaviour that users of std and tokio expect.
//!
//! There is no loopback interface: a guest is one program and does not talk to itself.

pub mod device;

mod address;
mod addressing;
mod announcements;
mod bound;
mod budget;
mod build;
mod capture;
mod connection;
mod cut;
mod datagrams;
mod demultiplex;
mod dhcp;
mod diagnosis;
mod dns;
mod engine;
mod error;
mod frame;
mod growth;
mod information;
mod interface;
mod link;
mod listener;
mod pages;
mod port;
mod ports;
mod receive;
mod routers;
mod schedule;
mod sent;
mod silence;
mod stack;
mod tcp;
mod time_wait;
mod udp;
mod wakers;

pub use address::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config};
pub(crate) use address::{is_host_ipv4, is_host_ipv6};
pub use capture::{Capture, CaptureError};
pub use diagnosis::{Answered, Asked, Clash, Diagnosis, Facts, Ipv4Facts, LinkFacts, diagnose};
pub use dns::resolve;
pub use error::{AcceptError, BindError, ConnectError, ResolveError, SendError, TcpError};
pub use information::{
    ConfiguredAddress, Counters, InterfaceInformation, InterfaceWatch, ListenerInformation,
    OpenSockets, interfaces, watch_interfaces,
};
pub use link::EthernetText;
pub use listener::TcpListener;
pub use stack::Stack;
pub use tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, TcpOptions, TcpStream, WriteHalf};
pub use udp::{UdpOptions, UdpSocket};
