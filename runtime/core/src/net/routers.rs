//! IPv6 router discovery and stateless addresses (RFC 4861, section 6.3; RFC 4862).
//!
//! smoltcp has this too (feature `proto-ipv6-slaac`), but takes a multicast prefix for one it
//! can make an address of, and then panics; and while it looks for routers it loses the timers
//! of all sockets (docs/decisions/network-stack.md).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr,
};

use super::engine::Engine;
use super::{build, is_host_ipv6};
use crate::time::{Duration, Instant};

/// Solicitations to send, and the time between them (RFC 4861, section 10).
const MOST_SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);

/// Prefixes that are used; further ones are ignored.
const MOST_PREFIXES: usize = 4;

/// A prefix whose lifetime ends sooner cannot be cut shorter by an advertisement, which anyone
/// on the link could forge (RFC 4862, section 5.5.3 e).
const PROTECTED_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// What routers advertised.
pub(super) struct Routers {
    solicitations_left: u8,
    solicit_at: Option<Instant>,
    /// The default router, and until when it is one.
    gateway: Option<(Ipv6Addr, Instant)>,
    prefixes: Vec<Prefix>,
}

struct Prefix {
    prefix: Ipv6Addr,
    valid_until: Instant,
}

impl Routers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            solicitations_left: MOST_SOLICITATIONS,
            solicit_at: Some(now),
            gateway: None,
            prefixes: Vec::new(),
        }
    }

    /// Asks for routers, and forgets what has expired. True when something has. `own` is the
    /// interface's link-local address.
    pub(super) fn work(&mut self, engine: &mut Engine, now: Instant, own: Ipv6Addr) -> bool {
        if self.solicit_at.is_some_and(|at| at <= now) {
            if let Ok(question) = build::router_solicitation(engine.mac(), own) {
                engine.port.send(&question);
            }
            self.solicitations_left = self.solicitations_left.saturating_sub(1);
            self.solicit_at = (self.solicitations_left > 0).then_some(now + SOLICITATION_INTERVAL);
        }
        let prefixes = self.prefixes.len();
        self.prefixes.retain(|prefix| prefix.valid_until > now);
        let gateway_expired = self.gateway.is_some_and(|(_, until)| until <= now);
        if gateway_expired {
            self.gateway = None;
        }
        gateway_expired || self.prefixes.len() != prefixes
    }

    /// Takes a frame with an advertisement. True when something changed.
    pub(super) fn receive(&mut self, now: Instant, frame: &[u8]) -> bool {
        let Some(advertisement) = Advertisement::parse(frame) else {
            return false;
        };
        self.solicit_at = None;
        let gateway_changed = self.take_router(now, &advertisement);
        let prefix_changed = match advertisement.prefix {
            Some(prefix) => self.take_prefix(now, &prefix),
            None => false,
        };
        gateway_changed || prefix_changed
    }

    pub(super) fn gateway(&self) -> Option<Ipv6Addr> {
        self.gateway.map(|(router, _)| router)
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.prefixes.iter().map(|prefix| prefix.prefix)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let prefixes = self.prefixes.iter().map(|prefix| prefix.valid_until);
        let gateway = self.gateway.map(|(_, until)| until);
        prefixes.chain(gateway).chain(self.solicit_at).min()
    }

    fn take_router(&mut self, now: Instant, advertisement: &Advertisement) -> bool {
        let before = self.gateway();
        let router = advertisement.router;
        match before {
            Some(current) if current != router => {}
            _ if advertisement.router_lifetime.is_zero() => self.gateway = None,
            _ => self.gateway = Some((router, now + advertisement.router_lifetime)),
        }
        self.gateway() != before
    }

    fn take_prefix(&mut self, now: Instant, option: &NdiscPrefixInformation) -> bool {
        let lifetime = Duration::from(option.valid_lifetime);
        if !option.flags.contains(NdiscPrefixInfoFlags::ADDRCONF)
            || option.prefix_len != 64
            || !is_host_ipv6(option.prefix)
            || option.prefix.is_unicast_link_local()
            || option.preferred_lifetime > option.valid_lifetime
        {
            return false;
        }
        let bits = option.prefix.to_bits() & (u128::MAX << 64);
        let prefix = Ipv6Addr::from_bits(bits);
        let known = self
            .prefixes
            .iter_mut()
            .find(|known| known.prefix == prefix);
        if let Some(known) = known {
            let left = known.valid_until - now;
            if lifetime > PROTECTED_LIFETIME || lifetime > left {
                known.valid_until = now + lifetime;
            } else if left > PROTECTED_LIFETIME {
                known.valid_until = now + PROTECTED_LIFETIME;
            }
            return false;
        }
        if lifetime.is_zero()
            || self.prefixes.len() >= MOST_PREFIXES
            || self.prefixes.try_reserve(1).is_err()
        {
            return false;
        }
        self.prefixes.push(Prefix {
            prefix,
            valid_until: now + lifetime,
        });
        true
    }
}

/// A router advertisement that has passed the checks of RFC 4861, section 6.1.2.
struct Advertisement {
    router: Ipv6Addr,
    router_lifetime: Duration,
    prefix: Option<NdiscPrefixInformation>,
}

impl Advertisement {
    fn parse(frame: &[u8]) -> Option<Self> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        if packet.next_header() != IpProtocol::Icmpv6
            || packet.hop_limit() != 255
            || !source.is_unicast_link_local()
        {
            return None;
        }
        let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
        let checksums = ChecksumCapabilities::default();
        match Icmpv6Repr::parse(&source, &destination, &message, &checksums).ok()? {
            Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
                router_lifetime,
                prefix_info,
                ..
            }) => Some(Self {
                router: source,
                router_lifetime: router_lifetime.into(),
                prefix: prefix_info,
            }),
            _ => None,
        }
    }
}
