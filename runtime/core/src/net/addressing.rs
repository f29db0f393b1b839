//! Which addresses an interface has, from all the places they come from.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::announcements::{Announcements, Claim};
use super::dhcp::Dhcp;
use super::diagnosis::{Clash, Ipv4Facts};
use super::engine::{Engine, MOST_ADDRESSES};
use super::frame::Flow;
use super::interface::Interface;
use super::routers::Routers;
use super::{AddressConfig, AddressSource, ConfiguredAddress, Ipv4Config, Ipv6Config};
use crate::time::Instant;

/// The addresses of an interface: those of its configuration, and what DHCP and routers add.
pub(super) struct Addressing {
    config: AddressConfig,
    dhcp: Option<Dhcp>,
    routers: Option<Routers>,
    announcements: Announcements,
    /// Memory for the next list of addresses: the last but one.
    spare: Vec<ConfiguredAddress>,
}

impl Addressing {
    pub(super) fn new(config: AddressConfig) -> Self {
        Self {
            config,
            dhcp: None,
            routers: None,
            announcements: Announcements::default(),
            spare: Vec::with_capacity(MOST_ADDRESSES),
        }
    }

    /// Changes where addresses are to come from, which shows when they are
    /// [installed](Self::install). What servers and routers gave is forgotten.
    pub(super) fn configure(&mut self, config: AddressConfig) {
        self.config = config;
        self.dhcp = None;
        self.routers = None;
    }

    /// The link came up: perhaps to another network.
    pub(super) fn link_up(&mut self, interface: &Interface, engine: &mut Engine, now: Instant) {
        if self.config.ipv4 == Ipv4Config::Dhcp {
            match &mut self.dhcp {
                Some(dhcp) => dhcp.restart(now),
                None => self.dhcp = Some(Dhcp::new(now)),
            }
        }
        if self.config.ipv6 == Ipv6Config::Auto {
            self.routers = Some(Routers::new(now));
        }
        self.install(interface, engine, now);
        self.announcements.begin(engine, now);
        self.work(interface, engine, now);
    }

    /// The link went down.
    pub(super) fn link_down(&mut self) {
        self.announcements.stop();
    }

    /// Does what is to do now.
    pub(super) fn work(&mut self, interface: &Interface, engine: &mut Engine, now: Instant) {
        let mut changed = false;
        if let Some(dhcp) = &mut self.dhcp {
            changed |= dhcp.work(&interface.name, engine, now);
        }
        if let Some(routers) = &mut self.routers {
            let own = link_local(engine);
            changed |= routers.work(engine, now, own);
        }
        if changed {
            self.install(interface, engine, now);
        }
        self.announcements.work(engine, now);
    }

    /// Takes a datagram from a DHCP server. False when it is none.
    pub(super) fn receive(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        frame: &[u8],
        flow: &Flow,
    ) -> bool {
        match &mut self.dhcp {
            Some(dhcp) if Dhcp::is_for_client(flow) => {
                dhcp.receive(engine, now, frame);
                true
            }
            _ => false,
        }
    }

    /// Takes a router's advertisement.
    pub(super) fn receive_advertisement(
        &mut self,
        interface: &Interface,
        engine: &mut Engine,
        now: Instant,
        frame: &[u8],
    ) {
        if let Some(routers) = &mut self.routers
            && routers.receive(now, frame)
        {
            self.install(interface, engine, now);
        }
    }

    /// Looks at what a neighbour says about itself; returns a clash with one of our addresses.
    pub(super) fn examine_neighbour(
        &mut self,
        name: &str,
        engine: &Engine,
        claim: Claim,
    ) -> Option<Clash> {
        self.announcements.examine(name, engine, claim)
    }

    /// How it stands with the IPv4 address.
    pub(super) fn ipv4_facts(&self) -> Ipv4Facts {
        match (self.config.ipv4, &self.dhcp) {
            (Ipv4Config::Off, _) => Ipv4Facts::Off,
            (Ipv4Config::Static { .. }, _) => Ipv4Facts::Configured,
            (Ipv4Config::Dhcp, Some(dhcp)) if dhcp.is_answered() => Ipv4Facts::Configured,
            (Ipv4Config::Dhcp, _) => Ipv4Facts::Asking,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.dhcp.as_ref().and_then(Dhcp::next_deadline),
            self.routers.as_ref().and_then(Routers::next_deadline),
            self.announcements.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Name servers that DHCP gave.
    pub(super) fn dns_servers(&self) -> Vec<IpAddr> {
        match self.dhcp.as_ref().and_then(Dhcp::lease) {
            Some(lease) => lease.dns.iter().copied().map(IpAddr::V4).collect(),
            None => Vec::new(),
        }
    }

    /// Gives the interface the addresses it is to have now, and says what is new.
    pub(super) fn install(&mut self, interface: &Interface, engine: &mut Engine, now: Instant) {
        let mut addresses = core::mem::take(&mut self.spare);
        addresses.clear();
        let gateway_ipv4 = self.ipv4(&mut addresses);
        let gateway_ipv6 = self.ipv6(engine, &mut addresses);
        let before = &engine.addresses;
        if addresses == *before && engine.gateways() == (gateway_ipv4, gateway_ipv6) {
            self.spare = addresses;
            return;
        }
        for new in addresses.iter().filter(|new| !before.contains(new)) {
            let gateway = match new.address {
                IpAddr::V4(_) => gateway_ipv4.map(IpAddr::V4),
                IpAddr::V6(_) => gateway_ipv6.map(IpAddr::V6),
            };
            log::info!(target: "net", "{}: address {new}{}", interface.name, Via(gateway));
        }
        for old in before.iter().filter(|old| !addresses.contains(old)) {
            log::info!(target: "net", "{}: address {old} is gone", interface.name);
        }
        let has_new = addresses.iter().any(|new| !before.contains(new));
        self.spare = engine.set_addresses(addresses, gateway_ipv4, gateway_ipv6);
        if has_new && interface.follower.link_is_up() {
            self.announcements.begin(engine, now);
        }
        interface.schedule.borrow_mut().neighbour_spoke();
        interface.changed();
    }

    fn ipv4(&self, addresses: &mut Vec<ConfiguredAddress>) -> Option<Ipv4Addr> {
        match self.config.ipv4 {
            Ipv4Config::Off => None,
            Ipv4Config::Dhcp => {
                let lease = self.dhcp.as_ref().and_then(Dhcp::lease)?;
                addresses.push(ConfiguredAddress {
                    address: lease.address.into(),
                    prefix_length: lease.prefix_length,
                    source: AddressSource::Dhcp,
                });
                lease.gateway
            }
            Ipv4Config::Static {
                address,
                prefix_length,
                gateway,
                source,
            } => {
                if super::is_host_ipv4(address) {
                    addresses.push(ConfiguredAddress {
                        address: address.into(),
                        prefix_length: prefix_length.min(32),
                        source,
                    });
                }
                gateway
            }
        }
    }

    fn ipv6(&self, engine: &Engine, addresses: &mut Vec<ConfiguredAddress>) -> Option<Ipv6Addr> {
        if self.config.ipv6 == Ipv6Config::Off {
            return None;
        }
        addresses.push(ConfiguredAddress {
            address: link_local(engine).into(),
            prefix_length: 64,
            source: AddressSource::LinkLocal,
        });
        match self.config.ipv6 {
            Ipv6Config::Off => None,
            Ipv6Config::Auto => {
                let routers = self.routers.as_ref()?;
                let mac = engine.mac().0;
                addresses.extend(routers.prefixes().map(|prefix| ConfiguredAddress {
                    address: with_interface_identifier(prefix, mac).into(),
                    prefix_length: 64,
                    source: AddressSource::RouterAdvertisement,
                }));
                routers.gateway()
            }
            Ipv6Config::Static {
                address,
                prefix_length,
                gateway,
                source,
            } => {
                if super::is_host_ipv6(address) {
                    addresses.push(ConfiguredAddress {
                        address: address.into(),
                        prefix_length: prefix_length.min(128),
                        source,
                    });
                }
                gateway
            }
        }
    }
}

/// The gateway of an address, behind that.
struct Via(Option<IpAddr>);

impl fmt::Display for Via {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(gateway) => write!(formatter, ", gateway {gateway}"),
            None => Ok(()),
        }
    }
}

/// The link-local address of an interface (RFC 4291, section 2.5.6).
fn link_local(engine: &Engine) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    with_interface_identifier(prefix, engine.mac().0)
}

/// The address within a /64 that an Ethernet address gives (RFC 4291, appendix A).
fn with_interface_identifier(prefix: Ipv6Addr, mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = prefix.octets();
    let [a, b, c, d, e, f] = mac;
    octets[8..].copy_from_slice(&[a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}
