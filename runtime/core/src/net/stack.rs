//! The stack: its interfaces and what they share.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::IpAddr;

use super::device::NetworkDevice;
use super::{AddressConfig, AddressSource, ResolveError};
use crate::context;

/// A network stack: interfaces and the sockets that use them.
#[derive(Clone)]
pub struct Stack(Rc<RefCell<Vec<IpAddr>>>);

impl Stack {
    /// A stack without interfaces.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Vec::new())))
    }

    /// The stack of the running runtime, which the free functions and `bind`, `connect` use.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn current() -> Self {
        context::current().stack.clone()
    }

    /// Starts a task that runs `device` with these addresses.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn add_interface(&self, device: Box<dyn NetworkDevice>, config: AddressConfig) {
        let _ = (device, config);
    }

    /// Sets the name servers to ask, in this order, before those that DHCP names.
    pub fn set_dns_servers(&self, servers: Vec<IpAddr>) {
        *self.0.borrow_mut() = servers;
    }

    /// The state of all interfaces.
    pub fn interfaces(&self) -> Vec<InterfaceInformation> {
        Vec::new()
    }

    /// Looks up the addresses of a host.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let _ = name;
        Err(ResolveError::NoServers)
    }

    pub(crate) fn clear(&self) {}
}

/// Looks up the addresses of a host in the running runtime's stack.
///
/// # Errors
/// See [`ResolveError`].
///
/// # Panics
/// Outside of a running runtime.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    Stack::current().resolve(name).await
}

/// The state of all interfaces of the running runtime's stack.
///
/// # Panics
/// Outside of a running runtime.
pub fn interfaces() -> Vec<InterfaceInformation> {
    Stack::current().interfaces()
}

/// The state of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceInformation {
    /// What messages call it: `vif0`, `virtio0`.
    pub name: String,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// Whether frames can flow.
    pub link_is_up: bool,
    /// Its addresses.
    pub addresses: Vec<ConfiguredAddress>,
    /// What went through it.
    pub counters: Counters,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfiguredAddress {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that all hosts of the network share.
    pub prefix_length: u8,
    /// Where it comes from.
    pub source: AddressSource,
}

/// What went through an interface since the guest booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received_frames: u64,
    /// Bytes of the frames received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes of the frames sent.
    pub sent_bytes: u64,
    /// Answers dropped because the device had no room.
    pub dropped_sends: u64,
    /// Connections refused because a listener's backlog was full or memory ran out.
    pub refused_connections: u64,
}
