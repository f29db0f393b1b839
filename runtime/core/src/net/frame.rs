//! What a received frame is about: enough to find the socket it belongs to.
//!
//! Nothing is decided about validity here; smoltcp checks the packet afterwards. A frame that
//! makes no sense is [`Class::Other`].

use core::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpOption, TcpPacket, UdpPacket,
};

/// Both ends of a flow: what a connection is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
}

/// An address and a port, without the scope that `SocketAddr` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Tcp(Arrival),
    Udp {
        flow: Flow,
    },
    /// It may tell the Ethernet address of a neighbour: ARP or neighbour discovery.
    Neighbour,
    RouterAdvertisement,
    Other,
}

/// What has to be known of a TCP segment before smoltcp sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) flow: Flow,
    /// It asks for a new connection.
    pub(super) opens: bool,
    /// Of a segment with SYN: the most payload that its sender takes in a segment.
    pub(super) segment_size: Option<u16>,
    /// What it acknowledges, if nothing else but data and FIN is in it.
    pub(super) acknowledgement: Option<u32>,
    pub(super) sequence: u32,
    /// Bytes of payload.
    pub(super) payload: usize,
}

/// The most payload in a segment to a peer that does not say (RFC 9293, section 3.7.1).
pub(super) const DEFAULT_SEGMENT: u16 = 536;

/// What a peer's maximum segment size counts as at least: as in smoltcp and Linux.
const SMALLEST_SEGMENT: u16 = 48;

/// A frame's class, and the IPv4 packet it is a fragment of, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classified {
    pub(super) class: Class,
    pub(super) fragment: Option<Fragment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) of: FragmentedPacket,
    /// Only the first has the ports.
    pub(super) is_first: bool,
    /// Where it ends in the packet's payload, in bytes.
    pub(super) end: usize,
}

/// Names an IPv4 packet that was sent in fragments (RFC 791, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentedPacket {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    identification: u16,
    protocol: IpProtocol,
}

/// Looks at the headers of `frame`.
pub(super) fn classify(frame: &[u8]) -> Classified {
    let whole = |class| Classified {
        class,
        fragment: None,
    };
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
        return whole(Class::Other);
    };
    match ethernet.ethertype() {
        EthernetProtocol::Arp => whole(Class::Neighbour),
        EthernetProtocol::Ipv4 => match Ipv4Packet::new_checked(ethernet.payload()) {
            Ok(packet) => classify_ipv4(&packet),
            Err(_) => whole(Class::Other),
        },
        EthernetProtocol::Ipv6 => match Ipv6Packet::new_checked(ethernet.payload()) {
            Ok(packet) => whole(classify_ipv6(&packet)),
            Err(_) => whole(Class::Other),
        },
        _ => whole(Class::Other),
    }
}

fn classify_ipv4(packet: &Ipv4Packet<&[u8]>) -> Classified {
    let is_first = packet.frag_offset() == 0;
    let fragment = (packet.more_frags() || !is_first).then(|| Fragment {
        of: FragmentedPacket {
            source: packet.src_addr(),
            destination: packet.dst_addr(),
            identification: packet.ident(),
            protocol: packet.next_header(),
        },
        is_first,
        end: usize::from(packet.frag_offset()) + packet.payload().len(),
    });
    let class = match is_first {
        true => classify_transport(
            packet.next_header(),
            packet.payload(),
            packet.src_addr().into(),
            packet.dst_addr().into(),
        ),
        false => Class::Other,
    };
    Classified { class, fragment }
}

fn classify_ipv6(packet: &Ipv6Packet<&[u8]>) -> Class {
    let mut protocol = packet.next_header();
    let mut payload = packet.payload();
    if protocol == IpProtocol::HopByHop {
        // RFC 8200, section 4.3: next header, length in units of 8 bytes beyond the first 8.
        let [next, length, ..] = payload else {
            return Class::Other;
        };
        protocol = IpProtocol::from(*next);
        let Some(rest) = payload.get((usize::from(*length) + 1) * 8..) else {
            return Class::Other;
        };
        payload = rest;
    }
    classify_transport(
        protocol,
        payload,
        packet.src_addr().into(),
        packet.dst_addr().into(),
    )
}

fn classify_transport(
    protocol: IpProtocol,
    payload: &[u8],
    source: IpAddr,
    destination: IpAddr,
) -> Class {
    let flow = |source_port, destination_port| Flow {
        local: Endpoint {
            address: destination,
            port: destination_port,
        },
        peer: Endpoint {
            address: source,
            port: source_port,
        },
    };
    match protocol {
        IpProtocol::Tcp => match TcpPacket::new_checked(payload) {
            Ok(segment) => Class::Tcp(Arrival {
                flow: flow(segment.src_port(), segment.dst_port()),
                opens: segment.syn() && !segment.ack() && !segment.rst() && !segment.fin(),
                segment_size: segment.syn().then(|| offered_segment_size(&segment)),
                acknowledgement: (segment.ack() && !segment.syn() && !segment.rst())
                    .then(|| segment.ack_number().0 as u32),
                sequence: segment.seq_number().0 as u32,
                payload: segment.payload().len(),
            }),
            Err(_) => Class::Other,
        },
        IpProtocol::Udp => match UdpPacket::new_checked(payload) {
            Ok(datagram) => Class::Udp {
                flow: flow(datagram.src_port(), datagram.dst_port()),
            },
            // The first fragment of a longer datagram.
            Err(_) => match payload {
                [a, b, c, d, ..] => Class::Udp {
                    flow: flow(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
                },
                _ => Class::Other,
            },
        },
        IpProtocol::Icmpv6 => match Icmpv6Packet::new_checked(payload) {
            Ok(message) => match message.msg_type() {
                Icmpv6Message::RouterAdvert => Class::RouterAdvertisement,
                Icmpv6Message::NeighborAdvert | Icmpv6Message::NeighborSolicit => Class::Neighbour,
                _ => Class::Other,
            },
            Err(_) => Class::Other,
        },
        _ => Class::Other,
    }
}

/// The maximum segment size that a SYN offers, as smoltcp understands it.
fn offered_segment_size(segment: &TcpPacket<&[u8]>) -> u16 {
    let mut options = segment.options();
    let mut offered = DEFAULT_SEGMENT;
    while let Ok((rest, option)) = TcpOption::parse(options) {
        match option {
            TcpOption::EndOfList => break,
            TcpOption::MaxSegmentSize(size) if size != 0 => offered = size.max(SMALLEST_SEGMENT),
            _ => {}
        }
        if rest.is_empty() {
            break;
        }
        options = rest;
    }
    offered
}
