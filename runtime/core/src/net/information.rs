//! What the program can learn about the interfaces.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::task::Poll;

use super::{AddressSource, Stack};

/// The state of all interfaces of the running runtime's stack, in the order of their numbers:
/// on Xen those of the devices, else as the machine lists them.
///
/// # Panics
/// Outside of a running runtime.
pub fn interfaces() -> Vec<InterfaceInformation> {
    Stack::current().interfaces()
}

/// Follows the interfaces of the running runtime's stack from now on.
///
/// # Panics
/// Outside of a running runtime.
pub fn watch_interfaces() -> InterfaceWatch {
    Stack::current().watch_interfaces()
}

/// Tells when an interface came or went, its link went up or down, or its addresses changed.
///
/// ```ignore
/// let mut watch = watch_interfaces();
/// loop {
///     let is_reachable = interfaces().iter().any(|interface| interface.link_is_up);
///     // ...
///     watch.changed().await;
/// }
/// ```
#[derive(Debug)]
pub struct InterfaceWatch {
    stack: Stack,
    /// Changes that are known.
    seen: u64,
}

impl InterfaceWatch {
    pub(super) fn new(stack: Stack) -> Self {
        let seen = stack.shared().interface_changes.get();
        Self { stack, seen }
    }

    /// Waits until something has changed since this was last ready, or since the watch was made.
    /// No change is missed, several may be told as one. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        poll_fn(|task| {
            let shared = self.stack.shared();
            let changes = shared.interface_changes.get();
            if self.seen == changes {
                shared.interface_watchers.register(task.waker());
                return Poll::Pending;
            }
            self.seen = changes;
            Poll::Ready(())
        })
        .await;
    }
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
    /// TCP connections through it, the half-open ones included.
    pub connections: usize,
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

impl ConfiguredAddress {
    /// Whether `other` is on the same network.
    pub(super) fn is_on_link(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = mask_ipv4(self.prefix_length);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = mask_ipv6(self.prefix_length);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }

    /// The address that means all hosts of an IPv4 network, if it is large enough to have one
    /// (RFC 3021).
    pub(super) fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(own) if self.prefix_length <= 30 => {
                let broadcast = own.to_bits() | !mask_ipv4(self.prefix_length);
                Some(Ipv4Addr::from_bits(broadcast).into())
            }
            _ => None,
        }
    }

    pub(super) fn is_global_ipv6(&self) -> bool {
        match self.address {
            IpAddr::V6(address) => !address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        }
    }
}

impl fmt::Display for ConfiguredAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            prefix_length,
            source,
        } = self;
        write!(formatter, "{address}/{prefix_length} ({source})")
    }
}

fn mask_ipv4(prefix_length: u8) -> u32 {
    u32::MAX
        .checked_shl(Ipv4Addr::BITS.saturating_sub(prefix_length.into()))
        .unwrap_or(0)
}

fn mask_ipv6(prefix_length: u8) -> u128 {
    u128::MAX
        .checked_shl(Ipv6Addr::BITS.saturating_sub(prefix_length.into()))
        .unwrap_or(0)
}

/// The sockets that wait for whoever comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenSockets {
    /// Listeners, by port.
    pub listeners: Vec<ListenerInformation>,
    /// Where UDP sockets are bound, by port.
    pub datagram_addresses: Vec<SocketAddr>,
}

/// A listener, and who stands at its door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerInformation {
    /// Where it listens.
    pub address: SocketAddr,
    /// Handshakes under way.
    pub half_open: usize,
    /// Connections that the program has not accepted yet.
    pub waiting: usize,
}

/// What went through an interface since the guest booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received_frames: u64,
    /// Bytes of the frames received.
    pub received_bytes: u64,
    /// Frames received that were addressed to this interface alone.
    pub received_for_us: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes of the frames sent.
    pub sent_bytes: u64,
    /// Frames dropped because the device had no room for long, or because no neighbour told
    /// its Ethernet address.
    pub dropped_sends: u64,
    /// TCP segments dropped because there was no memory to keep what they carry. Their senders
    /// repeat them.
    pub dropped_receives: u64,
    /// Connections refused because a listener's backlog was full or memory ran out.
    pub refused_connections: u64,
    /// How often a socket was looked at. The work per packet does not depend on how many
    /// sockets there are; this is the measure of it.
    pub socket_sets_polled: u64,
}
