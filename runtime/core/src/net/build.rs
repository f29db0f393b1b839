//! Frames that the stack builds itself.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame,
    EthernetProtocol, EthernetRepr, IPV6_LINK_LOCAL_ALL_NODES, IPV6_LINK_LOCAL_ALL_ROUTERS,
    Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, IpRepr, IpVersion, Ipv4Packet, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::frame::Flow;
use super::port::Segment;
use crate::memory::{self, OutOfMemory};

/// An ARP request for our own address: tells all neighbours who has it (RFC 5227, section 3).
pub(super) fn gratuitous_arp(
    mac: EthernetAddress,
    address: Ipv4Addr,
) -> Result<Vec<u8>, OutOfMemory> {
    arp_request(mac, address, address)
}

/// An ARP request: who has `target`?
pub(super) fn arp_request(
    mac: EthernetAddress,
    source: Ipv4Addr,
    target: Ipv4Addr,
) -> Result<Vec<u8>, OutOfMemory> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let (mut frame, payload) = ethernet(
        mac,
        EthernetAddress::BROADCAST,
        EthernetProtocol::Arp,
        arp.buffer_len(),
    )?;
    arp.emit(&mut ArpPacket::new_unchecked(&mut frame[payload..]));
    Ok(frame)
}

/// An ARP request without a source address: whoever has `address` already answers, while nobody
/// takes us for its owner (RFC 5227, section 2.1.1).
pub(super) fn address_probe(
    mac: EthernetAddress,
    address: Ipv4Addr,
) -> Result<Vec<u8>, OutOfMemory> {
    arp_request(mac, Ipv4Addr::UNSPECIFIED, address)
}

/// A router solicitation (RFC 4861, section 4.1) from our link-local address.
pub(super) fn router_solicitation(
    mac: EthernetAddress,
    source: Ipv6Addr,
) -> Result<Vec<u8>, OutOfMemory> {
    let message = NdiscRepr::RouterSolicit {
        lladdr: Some(mac.into()),
    };
    neighbour_discovery(mac, source, IPV6_LINK_LOCAL_ALL_ROUTERS, message)
}

/// A neighbour advertisement that nobody asked for (RFC 4861, section 7.2.6): tells all
/// neighbours to use our Ethernet address for `address` from now on.
pub(super) fn unsolicited_advertisement(
    mac: EthernetAddress,
    address: Ipv6Addr,
) -> Result<Vec<u8>, OutOfMemory> {
    let message = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: address,
        lladdr: Some(mac.into()),
    };
    neighbour_discovery(mac, address, IPV6_LINK_LOCAL_ALL_NODES, message)
}

/// A message of neighbour discovery to a group.
fn neighbour_discovery(
    mac: EthernetAddress,
    source: Ipv6Addr,
    group: Ipv6Addr,
    message: NdiscRepr<'_>,
) -> Result<Vec<u8>, OutOfMemory> {
    let message = Icmpv6Repr::Ndisc(message);
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: group,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    // RFC 2464, section 7: 33-33 and the last four bytes of the group's address.
    let [.., a, b, c, d] = group.octets();
    let (mut frame, payload) = ethernet(
        mac,
        EthernetAddress([0x33, 0x33, a, b, c, d]),
        EthernetProtocol::Ipv6,
        header.buffer_len() + message.buffer_len(),
    )?;
    let packet = &mut frame[payload..];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut *packet));
    message.emit(
        &header.src_addr,
        &header.dst_addr,
        &mut Icmpv6Packet::new_unchecked(&mut packet[header.buffer_len()..]),
        &ChecksumCapabilities::default(),
    );
    Ok(frame)
}

/// The acknowledgement that a connection in TIME-WAIT repeats, sent back to where `received`
/// came from.
pub(super) fn last_acknowledgement(
    received: &[u8],
    flow: &Flow,
    numbers: Segment,
) -> Option<Vec<u8>> {
    let received = EthernetFrame::new_checked(received).ok()?;
    let segment = TcpRepr {
        src_port: flow.local.port,
        dst_port: flow.peer.port,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(numbers.next_sequence as i32),
        ack_number: Some(TcpSeqNumber(numbers.acknowledgement as i32)),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let source = IpAddress::from(flow.local.address);
    let destination = IpAddress::from(flow.peer.address);
    let header = IpRepr::new(
        source,
        destination,
        IpProtocol::Tcp,
        segment.buffer_len(),
        64,
    );
    let (mut frame, payload) = ethernet(
        received.dst_addr(),
        received.src_addr(),
        received.ethertype(),
        header.buffer_len(),
    )
    .ok()?;
    let checksums = ChecksumCapabilities::default();
    let packet = &mut frame[payload..];
    header.emit(&mut *packet, &checksums);
    segment.emit(
        &mut TcpPacket::new_unchecked(&mut packet[header.header_len()..]),
        &source,
        &destination,
        &checksums,
    );
    Some(frame)
}

/// A frame with room for `payload` bytes, and where they begin.
fn ethernet(
    source: EthernetAddress,
    destination: EthernetAddress,
    ethertype: EthernetProtocol,
    payload: usize,
) -> Result<(Vec<u8>, usize), OutOfMemory> {
    let mut frame = memory::zeroed(ETHERNET_HEADER_LEN + payload)?;
    EthernetRepr {
        src_addr: source,
        dst_addr: destination,
        ethertype,
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    Ok((frame, ETHERNET_HEADER_LEN))
}

/// Copies of a received segment without its payload, to acknowledge less than it did.
pub(super) struct Acknowledgement {
    frame: Vec<u8>,
    /// Index of the TCP header.
    transport: usize,
    source: IpAddress,
    destination: IpAddress,
}

impl Acknowledgement {
    /// `None` if `frame` is not one whole TCP segment, or damaged, or there is no memory; `is_verified`: it is not.
    pub(super) fn without_payload(frame: &[u8], is_verified: bool) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let (source, destination, header_length, payload): (IpAddress, IpAddress, _, _) =
            match ethernet.ethertype() {
                EthernetProtocol::Ipv4 => {
                    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
                    let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
                    if !is_whole
                        || packet.next_header() != IpProtocol::Tcp
                        || !packet.verify_checksum()
                    {
                        return None;
                    }
                    let (source, destination) = (packet.src_addr(), packet.dst_addr());
                    let header_length = usize::from(packet.header_len());
                    let length = usize::from(packet.total_len());
                    let payload = ethernet.payload().get(header_length..length)?;
                    (source.into(), destination.into(), header_length, payload)
                }
                EthernetProtocol::Ipv6 => {
                    let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
                    if packet.next_header() != IpProtocol::Tcp {
                        return None;
                    }
                    let (source, destination) = (packet.src_addr(), packet.dst_addr());
                    let end = packet.total_len();
                    let payload = ethernet.payload().get(packet.header_len()..end)?;
                    (
                        source.into(),
                        destination.into(),
                        packet.header_len(),
                        payload,
                    )
                }
                _ => return None,
            };
        let segment = TcpPacket::new_checked(payload).ok()?;
        if !is_verified && !segment.verify_checksum(&source, &destination) {
            return None;
        }
        let transport = ETHERNET_HEADER_LEN + header_length;
        let length = usize::from(segment.header_len());
        let mut frame = memory::copy(&frame[..transport + length]).ok()?;
        let packet = &mut frame[ETHERNET_HEADER_LEN..];
        // Lengths fit: they are shorter than those that were there.
        if source.version() == IpVersion::Ipv6 {
            Ipv6Packet::new_unchecked(packet).set_payload_len(length as u16);
        } else {
            let mut packet = Ipv4Packet::new_unchecked(packet);
            packet.set_total_len((header_length + length) as u16);
            packet.fill_checksum();
        }
        let mut segment = TcpPacket::new_unchecked(&mut frame[transport..]);
        segment.set_fin(false);
        segment.set_psh(false);
        Some(Self {
            frame,
            transport,
            source,
            destination,
        })
    }

    /// The frame as if it had come with another sequence number.
    pub(super) fn at(&mut self, sequence: u32) -> &[u8] {
        let mut segment = TcpPacket::new_unchecked(&mut self.frame[self.transport..]);
        segment.set_seq_number(TcpSeqNumber(sequence as i32));
        segment.fill_checksum(&self.source, &self.destination);
        &self.frame
    }

    /// The frame that acknowledges up to `number`.
    pub(super) fn of(&mut self, number: u32) -> &[u8] {
        let mut segment = TcpPacket::new_unchecked(&mut self.frame[self.transport..]);
        segment.set_ack_number(TcpSeqNumber(number as i32));
        segment.fill_checksum(&self.source, &self.destination);
        &self.frame
    }
}
