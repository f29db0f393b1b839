//! Looks at frames that smoltcp built: their checksums, and the numbers of TCP segments.

use core::net::IpAddr;

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, IPV6_HEADER_LEN, Icmpv6Message,
    Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use super::port::Segment;

/// What was sent.
pub(super) enum Sent {
    Segment(Segment),
    /// A question for the Ethernet address of a neighbour (ARP request, neighbour solicitation).
    NeighbourQuestion,
    Other,
}

pub(super) fn inspect(frame: &[u8]) -> Sent {
    let ethernet = EthernetFrame::new_unchecked(frame);
    if ethernet.ethertype() == EthernetProtocol::Arp {
        // smoltcp sends answers to single stations and questions to all.
        return match ethernet.dst_addr().is_broadcast() {
            true => Sent::NeighbourQuestion,
            false => Sent::Other,
        };
    }
    let Some(packet) = IpHeader::of(frame) else {
        return Sent::Other;
    };
    let payload = &frame[packet.header_end..];
    match packet.protocol {
        IpProtocol::Tcp => match TcpPacket::new_checked(payload) {
            Ok(segment) => Sent::Segment(Segment {
                next_sequence: (segment.seq_number() + segment.segment_len()).0 as u32,
                acknowledgement: segment.ack_number().0 as u32,
            }),
            Err(_) => Sent::Other,
        },
        IpProtocol::Icmpv6 => match Icmpv6Packet::new_checked(payload) {
            Ok(message) if message.msg_type() == Icmpv6Message::NeighborSolicit => {
                Sent::NeighbourQuestion
            }
            _ => Sent::Other,
        },
        _ => Sent::Other,
    }
}

/// A frame that has a TCP or UDP checksum over the whole of its payload: not a fragment.
pub(super) fn checksummed(frame: &[u8]) -> Option<IpHeader> {
    let packet = IpHeader::of(frame)?;
    let is_transport = matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp);
    // A fragment of a UDP datagram goes out with the checksum 0, "none" (RFC 768): no device
    // could compute it.
    (is_transport && !packet.is_fragment).then_some(packet)
}

/// Where the payload of an IP packet within a frame is, and what the packet is.
pub(super) struct IpHeader {
    pub(super) is_ipv6: bool,
    is_fragment: bool,
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    /// Index of the payload within the frame.
    header_end: usize,
}

impl IpHeader {
    fn of(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
                Some(Self {
                    is_ipv6: false,
                    is_fragment: packet.more_frags() || packet.frag_offset() != 0,
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    header_end: ETHERNET_HEADER_LEN + usize::from(packet.header_len()),
                })
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
                Some(Self {
                    is_ipv6: true,
                    is_fragment: false,
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    header_end: ETHERNET_HEADER_LEN + IPV6_HEADER_LEN,
                })
            }
            _ => None,
        }
    }

    /// Computes the TCP or UDP checksum.
    pub(super) fn fill(&self, frame: &mut [u8]) {
        let payload = &mut frame[self.header_end..];
        let (source, destination) = (self.source.into(), self.destination.into());
        match self.protocol {
            IpProtocol::Tcp => {
                TcpPacket::new_unchecked(payload).fill_checksum(&source, &destination);
            }
            IpProtocol::Udp => {
                UdpPacket::new_unchecked(payload).fill_checksum(&source, &destination);
            }
            _ => {}
        }
    }
}
