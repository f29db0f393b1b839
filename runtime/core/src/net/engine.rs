//! smoltcp and the device of one interface: everything that is needed to process a packet, and
//! nothing about which socket it is for.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, Route, SocketSet};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use super::ConfiguredAddress;
use super::capture::Tap;
use super::device::NetworkDevice;
use super::port::Port;
use crate::memory::{self, OutOfMemory, Room};
use crate::random;
use crate::time::{Duration, Instant};

/// How long the fragments of an IPv4 packet are kept. The 60 s of RFC 791 let a few stray
/// fragments block all reassembly for a minute.
const REASSEMBLY_LIMIT: Duration = Duration::from_secs(5);

/// Addresses of one interface: smoltcp's feature `iface-max-addr-count-8`.
pub(super) const MOST_ADDRESSES: usize = 8;

/// Payload in bytes of the longest packet that is put together from fragments. smoltcp's feature
/// `reassembly-buffer-size-4096` says so and keeps to it only where it has no allocator.
pub(super) const LONGEST_REASSEMBLED: usize = 4096;

/// As large as smoltcp's buffer for the fragments of a packet becomes, as vectors grow.
type ReassemblyBuffer = [u8; 2 * LONGEST_REASSEMBLED];

/// smoltcp and the device of one interface.
pub(super) struct Engine {
    pub(super) port: Port,
    /// The next frame has a fragment of a packet.
    pub(super) expects_fragment: bool,
    smoltcp: Box<Interface>,
    /// Has no sockets: for packets that are for none.
    nobody: SocketSet<'static>,
    pub(super) addresses: Vec<ConfiguredAddress>,
    /// The routers to everything else.
    gateway_ipv4: Option<Ipv4Addr>,
    gateway_ipv6: Option<Ipv6Addr>,
}

impl Engine {
    pub(super) fn new(device: Box<dyn NetworkDevice>, number: usize, tap: Rc<Tap>) -> Self {
        let mut port = Port::new(device, number, tap);
        let smoltcp = Box::new(new_interface(&mut port, Instant::recent()));
        Self {
            port,
            expects_fragment: false,
            smoltcp,
            nobody: SocketSet::new(Vec::new()),
            addresses: Vec::with_capacity(MOST_ADDRESSES),
            gateway_ipv4: None,
            gateway_ipv6: None,
        }
    }

    /// Takes over what the device can do now, and forgets what was learned about neighbours.
    pub(super) fn renew(&mut self, now: Instant) {
        self.port.renew_offload();
        // smoltcp keeps the capabilities of the device from the time it was made.
        self.start_anew(now);
    }

    /// Exchanges smoltcp's interface for a new one with the same addresses.
    fn start_anew(&mut self, now: Instant) {
        *self.smoltcp = new_interface(&mut self.port, now);
        self.install_addresses();
    }

    /// Hands one received frame to smoltcp, for the sockets of `sockets`. Without memory for an answer
    /// of its length, such as to an echo request, or to put it to other fragments, it is dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        frame: &[u8],
        sockets: Option<&mut SocketSet<'static>>,
    ) {
        self.port.observe();
        let longest_answer = match self.expects_fragment {
            true => LONGEST_REASSEMBLED,
            false => frame.len(),
        };
        let can_answer = sockets.is_some() || self.port.has_room_to_build(longest_answer);
        if !can_answer || !self.can_reassemble() {
            self.port.counters.dropped_receives += 1;
            return;
        }
        self.port.counters.socket_sets_polled += u64::from(sockets.is_some());
        let sockets = sockets.unwrap_or(&mut self.nobody);
        let _: PollIngressSingleResult =
            self.smoltcp
                .poll_ingress_single(moment(now), &mut self.port.receiving(frame), sockets);
    }

    /// Whether smoltcp finds the memory to put a fragment to the others of its packet.
    fn can_reassemble(&self) -> bool {
        !self.expects_fragment || Room::<ReassemblyBuffer>::boxed().map(Room::release).is_ok()
    }

    /// Lets the sockets of `sockets` send one packet each, of at most `payload` bytes after its headers. False
    /// when none had anything to send, or could, or there is no memory for such a packet.
    pub(super) fn send(
        &mut self,
        now: Instant,
        sockets: &mut SocketSet<'static>,
        payload: usize,
    ) -> bool {
        self.port.observe();
        if !self.port.has_room_to_build(payload) {
            return false;
        }
        self.port.counters.socket_sets_polled += 1;
        let result = self
            .smoltcp
            .poll_egress(moment(now), &mut self.port.sending(), sockets);
        matches!(result, PollResult::SocketStateChanged)
    }

    /// When the sockets of `sockets` want to send or be polled next.
    pub(super) fn next_poll(
        &mut self,
        now: Instant,
        sockets: &SocketSet<'static>,
    ) -> Option<Instant> {
        self.port.counters.socket_sets_polled += 1;
        self.smoltcp
            .poll_at(moment(now), sockets)
            .map(|at| Instant::since_boot(Duration::from_micros(at.total_micros().max(0) as u64)))
    }

    /// What smoltcp does from time to time, and what it may send without a socket: reports of
    /// multicast groups.
    pub(super) fn maintain(&mut self, now: Instant) {
        self.smoltcp.poll_maintenance(moment(now));
        if !self.port.is_stalled() {
            self.smoltcp
                .poll_egress(moment(now), &mut self.port.sending(), &mut self.nobody);
        }
    }

    /// A smoltcp interface that is to choose the initial sequence number of one connection, and
    /// to be thrown away.
    ///
    /// smoltcp draws sequence numbers from a small generator whose state can be computed from a
    /// few of its outputs. One that is seeded anew for each connection, from the CSPRNG, has
    /// only one output to show (docs/decisions/network-stack.md).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(super) fn opener(&mut self, now: Instant) -> Result<Box<Interface>, OutOfMemory> {
        let mut opener = memory::boxed(new_interface(&mut self.port, now))?;
        // It only sees segments whose destination was found to be ours.
        opener.set_any_ip(true);
        Ok(opener)
    }

    /// Hands a SYN to the listening socket of `sockets` by way of an [`opener`](Self::opener).
    pub(super) fn receive_syn(
        &mut self,
        now: Instant,
        frame: &[u8],
        sockets: &mut SocketSet<'static>,
    ) -> Result<(), OutOfMemory> {
        let mut opener = self.opener(now)?;
        self.port.observe();
        self.port.counters.socket_sets_polled += 1;
        let _: PollIngressSingleResult =
            opener.poll_ingress_single(moment(now), &mut self.port.receiving(frame), sockets);
        Ok(())
    }

    /// Replaces addresses and gateways. Returns the addresses there were.
    pub(super) fn set_addresses(
        &mut self,
        addresses: Vec<ConfiguredAddress>,
        gateway_ipv4: Option<Ipv4Addr>,
        gateway_ipv6: Option<Ipv6Addr>,
    ) -> Vec<ConfiguredAddress> {
        let before = core::mem::replace(&mut self.addresses, addresses);
        self.gateway_ipv4 = gateway_ipv4;
        self.gateway_ipv6 = gateway_ipv6;
        // smoltcp forgets all neighbours when addresses change, but not that it asked for one a
        // moment ago, and then asks for none until a second later. A new one has asked nobody.
        self.start_anew(Instant::recent());
        before
    }

    /// The routers to everything else, IPv4 and IPv6.
    pub(super) fn gateways(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (self.gateway_ipv4, self.gateway_ipv6)
    }

    pub(super) fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.port.device.mac())
    }

    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|configured| configured.address == address)
    }

    /// Whether `address` is that of one host as far as this interface knows: no group, no
    /// broadcast.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        let is_host = match address {
            IpAddr::V4(address) => super::is_host_ipv4(address),
            IpAddr::V6(address) => super::is_host_ipv6(address),
        };
        is_host
            && !self
                .addresses
                .iter()
                .any(|configured| configured.broadcast() == Some(address))
    }

    /// How well this interface leads to `destination`: leading bits that one of its networks
    /// shares with it, 0 by way of a gateway, `None` if not at all.
    pub(super) fn route(&self, destination: IpAddr) -> Option<u8> {
        let on_link = self
            .addresses
            .iter()
            .filter(|configured| configured.is_on_link(destination))
            .map(|configured| configured.prefix_length)
            .max();
        let has_gateway = match destination {
            // Broadcast needs no gateway, but an address to send from.
            IpAddr::V4(address) if address.is_broadcast() || address.is_multicast() => {
                self.addresses.iter().any(|own| own.address.is_ipv4())
            }
            IpAddr::V6(address) if address.is_multicast() => {
                self.addresses.iter().any(|own| own.address.is_ipv6())
            }
            IpAddr::V4(_) => {
                self.gateway_ipv4.is_some()
                    && self.addresses.iter().any(|own| own.address.is_ipv4())
            }
            IpAddr::V6(_) => {
                self.gateway_ipv6.is_some()
                    && self.addresses.iter().any(ConfiguredAddress::is_global_ipv6)
            }
        };
        on_link.or(has_gateway.then_some(0))
    }

    /// The address that packets to `destination` come from.
    pub(super) fn source_address(&self, destination: IpAddr) -> Option<IpAddr> {
        // smoltcp answers with the loopback address when it has none.
        if !self
            .addresses
            .iter()
            .any(|own| own.address.is_ipv4() == destination.is_ipv4())
        {
            return None;
        }
        let source = self.smoltcp.get_source_address(&destination.into())?;
        Some(source.into())
    }

    fn install_addresses(&mut self) {
        let addresses = &self.addresses;
        self.smoltcp.update_ip_addrs(|installed| {
            installed.clear();
            for own in addresses {
                // There is room for 8; the callers keep below.
                let _ = installed.push(IpCidr::new(own.address.into(), own.prefix_length));
            }
        });
        let (gateway_ipv4, gateway_ipv6) = (self.gateway_ipv4, self.gateway_ipv6);
        self.smoltcp.routes_mut().update(|routes| {
            routes.clear();
            let _ = gateway_ipv4.map(|gateway| routes.push(Route::new_ipv4_gateway(gateway)));
            let _ = gateway_ipv6.map(|gateway| routes.push(Route::new_ipv6_gateway(gateway)));
        });
    }
}

fn new_interface(port: &mut Port, now: Instant) -> Interface {
    let mac = EthernetAddress(port.device.mac());
    // smoltcp refuses group addresses; no driver should have one.
    let mac = match mac.is_unicast() {
        true => mac,
        false => EthernetAddress([0x02, 0, 0, 0, 0, 1]),
    };
    let mut config = Config::new(HardwareAddress::Ethernet(mac));
    config.random_seed = random::network_u64();
    let mut interface = Interface::new(config, &mut port.sending(), moment(now));
    interface.set_reassembly_timeout(REASSEMBLY_LIMIT.into());
    interface
}

/// An instant as smoltcp counts.
pub(super) fn moment(instant: Instant) -> Moment {
    let micros = instant.duration_since_boot().as_micros();
    Moment::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
