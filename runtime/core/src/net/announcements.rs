//! Tells neighbours where our addresses are, and notices who else claims one of them.

use alloc::vec::Vec;
use core::net::IpAddr;

use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, Ipv6Packet, NdiscRepr,
};

use super::build;
use super::diagnosis::{Clash, Diagnosis};
use super::engine::Engine;
use crate::time::{Duration, Instant};

/// How often an address is announced, and the time in between (RFC 5227, section 1.1). IPv6
/// allows three times, a second apart (RFC 4861, section 10).
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(2);

/// Announces the addresses of an interface whenever it has a new one, or its link came up:
/// bridges and neighbours may know another port, or another Ethernet address.
#[derive(Default)]
pub(super) struct Announcements {
    left: u8,
    at: Option<Instant>,
    /// Addresses that somebody else claims too, as was said already.
    disputed: Vec<IpAddr>,
}

impl Announcements {
    /// The link came up or an address is new: tells now, and again a little later.
    pub(super) fn begin(&mut self, engine: &mut Engine, now: Instant) {
        if self.at != Some(now + ANNOUNCEMENT_INTERVAL) {
            self.left = ANNOUNCEMENTS;
            self.at = Some(now);
            self.work(engine, now);
        }
    }

    /// There is nobody to tell: the link is down. On the next network, who has which address is
    /// a new question.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Does what is to do now.
    pub(super) fn work(&mut self, engine: &mut Engine, now: Instant) {
        if self.at.is_none_or(|at| at > now) {
            return;
        }
        announce(engine);
        self.left = self.left.saturating_sub(1);
        self.at = (self.left > 0).then_some(now + ANNOUNCEMENT_INTERVAL);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Looks at what a neighbour says about itself, and returns a clash. Whoever else has one of our addresses gets
    /// part of our packets, which nobody would guess from what programs see; so it is logged,
    /// once for each address until the link goes down, as anyone on the link can say such things.
    pub(super) fn examine(&mut self, name: &str, engine: &Engine, claim: Claim) -> Option<Clash> {
        let Claim { address, mac } = claim;
        if mac == engine.mac() || !engine.has_address(address) {
            return None;
        }
        let clash = Clash {
            address,
            own: engine.mac().0,
            claimant: mac.0,
        };
        // There are no more of our own than an interface can have.
        let is_news = !self.disputed.contains(&address);
        if is_news && self.disputed.try_reserve(1).is_ok() {
            self.disputed.push(address);
            log::error!(target: "net", "{name}: {}", Diagnosis::AddressClash(clash));
        }
        Some(clash)
    }
}

/// What the sender of a frame says about itself: an address it has, and its Ethernet address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) address: IpAddr,
    pub(super) mac: EthernetAddress,
}

/// Gratuitous ARP for every IPv4 address (RFC 5227, section 3), after the question whether somebody has it, which
/// Linux answers and an announcement it does not; unsolicited neighbour
/// advertisements for every IPv6 address (RFC 4861, section 7.2.6).
fn announce(engine: &mut Engine) {
    let mac = engine.mac();
    for index in 0..engine.addresses.len() {
        let frame = match engine.addresses[index].address {
            IpAddr::V4(address) => {
                if let Ok(question) = build::address_probe(mac, address) {
                    engine.port.send(&question);
                }
                build::gratuitous_arp(mac, address)
            }
            IpAddr::V6(address) => build::unsolicited_advertisement(mac, address),
        };
        // Without memory for this one, the next comes in two seconds.
        if let Ok(frame) = frame {
            engine.port.send(&frame);
        }
    }
}

/// What the sender of a frame says about itself.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).ok()?;
            let ArpRepr::EthernetIpv4 {
                source_hardware_addr,
                source_protocol_addr,
                ..
            } = ArpRepr::parse(&packet).ok()?
            else {
                return None;
            };
            Some(Claim {
                address: source_protocol_addr.into(),
                mac: source_hardware_addr,
            })
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            // RFC 4861, section 7.1.2: from this link, whoever it says it is.
            if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != 255 {
                return None;
            }
            let (source, destination) = (packet.src_addr(), packet.dst_addr());
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let checksums = Default::default();
            match Icmpv6Repr::parse(&source, &destination, &message, &checksums).ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) => Some(Claim {
                    address: target_addr.into(),
                    mac: frame.src_addr(),
                }),
                _ => None,
            }
        }
        _ => None,
    }
}
