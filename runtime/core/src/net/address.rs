//! How an interface gets its addresses.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// How an interface gets its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressConfig {
    /// IPv4.
    pub ipv4: Ipv4Config,
    /// IPv6.
    pub ipv6: Ipv6Config,
}

impl AddressConfig {
    /// No addresses at all.
    pub const OFF: Self = Self {
        ipv4: Ipv4Config::Off,
        ipv6: Ipv6Config::Off,
    };
}

/// How an interface gets its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Config {
    /// It has none.
    Off,
    /// From a DHCP server (RFC 2131).
    Dhcp,
    /// This one.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// Leading bits that all hosts of the network share, 1 to 32.
        prefix_length: u8,
        /// The router to everything else.
        gateway: Option<Ipv4Addr>,
        /// Who said so.
        source: AddressSource,
    },
}

/// How an interface gets its IPv6 addresses. Unless it is off, it has a link-local one made of
/// its Ethernet address (RFC 4291, appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Config {
    /// It has none.
    Off,
    /// From router advertisements (SLAAC, RFC 4862).
    Auto,
    /// This one.
    Static {
        /// The address.
        address: Ipv6Addr,
        /// Leading bits that all hosts of the network share, 1 to 128.
        prefix_length: u8,
        /// The router to everything else.
        gateway: Option<Ipv6Addr>,
        /// Who said so.
        source: AddressSource,
    },
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The kernel command line.
    CommandLine,
    /// The host that runs the guest: xl's `vif = ['ip=...']`.
    Host,
    /// A DHCP server.
    Dhcp,
    /// A router's advertisement.
    RouterAdvertisement,
    /// The interface's Ethernet address.
    LinkLocal,
}

impl fmt::Display for AddressSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CommandLine => "command line",
            Self::Host => "host",
            Self::Dhcp => "DHCP",
            Self::RouterAdvertisement => "router advertisement",
            Self::LinkLocal => "link-local",
        })
    }
}

/// Whether an address can belong to one host. The stack refuses to take others for its own.
pub(crate) fn is_host_ipv4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

/// Whether an address can belong to one host. The stack refuses to take others for its own.
pub(crate) fn is_host_ipv6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast())
}
