//! Looks at frames that smoltcp built: what they are, and what is left to fill in.

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, IPV6_HEADER_LEN, Icmpv6Message,
    Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use super::port::Segment;

/// What a frame to send is.
pub(super) enum Sent {
    Tcp(Tcp),
    Udp(IpHeader),
    /// A question for the Ethernet address of a neighbour (ARP request, neighbour solicitation).
    NeighbourQuestion,
    Other,
}

/// A TCP segment to send.
pub(super) struct Tcp {
    pub(super) ip: IpHeader,
    pub(super) numbers: Segment,
    pub(super) opens: bool,
    /// It offers a window of zero.
    pub(super) closes_window: bool,
    /// Bytes of payload.
    pub(super) payload: usize,
}

/// Where the payload of an IP packet begins in a frame, and what it is.
#[derive(Clone, Copy)]
pub(super) struct IpHeader {
    pub(super) is_ipv6: bool,
    protocol: IpProtocol,
    /// Index of the payload within the frame.
    pub(super) end: usize,
}

impl Sent {
    pub(super) fn inspect(frame: &[u8]) -> Self {
        let ethernet = EthernetFrame::new_unchecked(frame);
        let ip = match ethernet.ethertype() {
            // smoltcp sends answers to single stations and questions to all.
            EthernetProtocol::Arp if ethernet.dst_addr().is_broadcast() => {
                return Self::NeighbourQuestion;
            }
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_unchecked(ethernet.payload());
                IpHeader {
                    is_ipv6: false,
                    protocol: packet.next_header(),
                    end: ETHERNET_HEADER_LEN + usize::from(packet.header_len()),
                }
            }
            EthernetProtocol::Ipv6 => IpHeader {
                is_ipv6: true,
                protocol: Ipv6Packet::new_unchecked(ethernet.payload()).next_header(),
                end: ETHERNET_HEADER_LEN + IPV6_HEADER_LEN,
            },
            _ => return Self::Other,
        };
        let payload = &frame[ip.end..];
        match ip.protocol {
            IpProtocol::Tcp => {
                let segment = TcpPacket::new_unchecked(payload);
                let next_sequence = segment.seq_number() + segment.segment_len();
                Self::Tcp(Tcp {
                    ip,
                    numbers: Segment {
                        next_sequence: next_sequence.0 as u32,
                        acknowledgement: segment.ack_number().0 as u32,
                    },
                    opens: segment.syn(),
                    closes_window: segment.window_len() == 0,
                    payload: payload.len() - usize::from(segment.header_len()),
                })
            }
            IpProtocol::Udp => Self::Udp(ip),
            IpProtocol::Icmpv6
                if Icmpv6Packet::new_unchecked(payload).msg_type()
                    == Icmpv6Message::NeighborSolicit =>
            {
                Self::NeighbourQuestion
            }
            _ => Self::Other,
        }
    }
}

impl IpHeader {
    /// Computes the TCP or UDP checksum.
    pub(super) fn fill_checksum(&self, frame: &mut [u8]) {
        let (headers, payload) = frame.split_at_mut(self.end);
        let packet = &headers[ETHERNET_HEADER_LEN..];
        let (source, destination): (IpAddress, IpAddress) = match self.is_ipv6 {
            true => {
                let packet = Ipv6Packet::new_unchecked(packet);
                (packet.src_addr().into(), packet.dst_addr().into())
            }
            false => {
                let packet = Ipv4Packet::new_unchecked(packet);
                (packet.src_addr().into(), packet.dst_addr().into())
            }
        };
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

    /// Lowers the maximum segment size that a SYN offers to `most`. The checksum is wrong then.
    pub(super) fn limit_segment_size(&self, frame: &mut [u8], most: u16) {
        const END: u8 = 0;
        const PADDING: u8 = 1;
        const MAXIMUM_SEGMENT_SIZE: u8 = 2;
        let segment = &mut frame[self.end..];
        let header_length = usize::from(TcpPacket::new_unchecked(&*segment).header_len());
        let mut options = &mut segment[20..header_length];
        loop {
            match options {
                [MAXIMUM_SEGMENT_SIZE, 4, value @ ..] if value.len() >= 2 => {
                    let offered = u16::from_be_bytes([value[0], value[1]]);
                    value[..2].copy_from_slice(&offered.min(most).to_be_bytes());
                    return;
                }
                [] | [END, ..] => return,
                [PADDING, rest @ ..] => options = rest,
                [_, length, ..] => {
                    let length = usize::from(*length).max(2);
                    let Some(rest) = options.get_mut(length..) else {
                        return;
                    };
                    options = rest;
                }
                [_] => return,
            }
        }
    }
}
