//! Addresses are announced, and those that somebody else claims are noticed.

use std::net::{IpAddr, Ipv4Addr};

use rekernel_core::net::{AddressConfig, Ipv6Config};
use rekernel_core::time::{Duration, sleep};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscNeighborFlags, NdiscRepr,
};

use crate::hostile::ethernet;
use crate::ipv6::advertisement;
use crate::support::{CLIENT, End, SERVER, alone, capture_log, log_lines, run, static_ipv4};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn with_ipv6() -> AddressConfig {
    AddressConfig {
        ipv6: Ipv6Config::Auto,
        ..static_ipv4(SERVER)
    }
}

/// The address that a frame announces to all.
fn announced(frame: &[u8]) -> Option<IpAddr> {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
            let ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr,
                source_protocol_addr,
                target_protocol_addr,
                ..
            } = arp
            else {
                panic!("{arp:?}");
            };
            assert!(frame.dst_addr().is_broadcast());
            assert_eq!(source_hardware_addr, EthernetAddress(MAC));
            (source_protocol_addr == target_protocol_addr).then_some(source_protocol_addr.into())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let (source, destination) = (packet.src_addr(), packet.dst_addr());
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let checksums = ChecksumCapabilities::default();
            let message = Icmpv6Repr::parse(&source, &destination, &message, &checksums).ok()?;
            let Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags,
                target_addr,
                lladdr,
            }) = message
            else {
                return None;
            };
            assert_eq!(frame.dst_addr(), EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
            assert_eq!(packet.hop_limit(), 255);
            assert_eq!(
                destination,
                "ff02::1".parse::<std::net::Ipv6Addr>().unwrap()
            );
            // Neither a router nor an answer, and to be believed (RFC 4861, section 7.2.6).
            assert_eq!(flags, NdiscNeighborFlags::OVERRIDE);
            assert_eq!(lladdr, Some(EthernetAddress(MAC).into()));
            Some(target_addr.into())
        }
        _ => None,
    }
}

fn announcements(raw: &End) -> Vec<String> {
    std::iter::from_fn(|| raw.try_next())
        .filter_map(|frame| announced(&frame))
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn neighbours_are_told_where_the_addresses_are_whenever_the_link_comes_up() {
    run(async {
        let own = ["10.0.0.1", "fe80::ff:fe00:1"];
        let (wire, _stack, raw) = alone(with_ipv6());
        for round in 0..4 {
            sleep(Duration::from_millis(10)).await;
            assert_eq!(announcements(&raw), own, "at once, round {round}");
            sleep(Duration::from_millis(1900)).await;
            assert_eq!(announcements(&raw), [""; 0]);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(announcements(&raw), own, "again, two seconds later");
            sleep(Duration::from_secs(60)).await;
            assert_eq!(announcements(&raw), [""; 0]);
            match round % 2 {
                0 => {
                    wire.set_link(false);
                    sleep(Duration::from_millis(10)).await;
                    wire.set_link(true);
                }
                _ => wire.interrupt_link(),
            }
        }
    });
}

#[test]
fn a_new_address_is_announced() {
    run(async {
        let (_wire, stack, raw) = alone(with_ipv6());
        sleep(Duration::from_secs(10)).await;
        announcements(&raw);
        let advertisement = advertisement(&raw, "2001:db8::".parse().unwrap(), 64, 1800);
        raw.send(&advertisement);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(stack.interfaces()[0].addresses.len(), 3);
        let all = ["10.0.0.1", "fe80::ff:fe00:1", "2001:db8::ff:fe00:1"];
        assert_eq!(announcements(&raw), [all, all].concat());
        // The same once more is no news.
        raw.send(&advertisement);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(announcements(&raw), [""; 0]);
    });
}

/// An ARP message by which `mac` claims `address`.
pub(crate) fn claim(raw: &End, operation: ArpOperation, mac: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: Ipv4Addr::from(address),
        target_hardware_addr: EthernetAddress(MAC),
        target_protocol_addr: Ipv4Addr::from(SERVER),
    };
    let mut payload = vec![0; arp.buffer_len()];
    arp.emit(&mut ArpPacket::new_unchecked(&mut payload));
    ethernet(raw.mac, EthernetProtocol::Arp, &payload)
}

#[test]
fn a_duplicate_address_is_logged_once() {
    capture_log();
    let duplicates = || {
        let mut lines = log_lines();
        lines.retain(|line| line.contains("duplicate"));
        lines
    };
    run(async {
        let (wire, _stack, raw) = alone(static_ipv4(SERVER));
        sleep(Duration::from_millis(10)).await;
        // Our own announcement, sent back by a bridge; a neighbour's address; a question for ours.
        raw.send(&claim(&raw, ArpOperation::Request, MAC, SERVER));
        raw.send(&claim(&raw, ArpOperation::Reply, raw.mac, CLIENT));
        raw.send(&claim(&raw, ArpOperation::Request, raw.mac, [0; 4]));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(duplicates(), [""; 0]);
        for last in 2..200 {
            let mac = [2, 0, 0, 0, 0, last];
            raw.send(&claim(&raw, ArpOperation::Reply, mac, SERVER));
            raw.send(&claim(&raw, ArpOperation::Request, mac, SERVER));
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            duplicates(),
            [
                "ERROR wire0: duplicate address: 10.0.0.1 is ours (02:00:00:00:00:01), and \
                 02:00:00:00:00:02 claims it too; give one of the two another address"
            ]
        );
        // On the next network it is news again.
        wire.set_link(false);
        sleep(Duration::from_millis(10)).await;
        wire.set_link(true);
        sleep(Duration::from_millis(10)).await;
        raw.send(&claim(&raw, ArpOperation::Reply, raw.mac, SERVER));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(duplicates().len(), 2);
    });
}
