//! Takes a frame apart that is longer than the link carries, where the device does not do it:
//! TCP into segments, other IPv4 packets into fragments.

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, IPV4_HEADER_LEN, IPV6_HEADER_LEN, Ipv4Packet, Ipv6Packet,
    TcpPacket,
};

use crate::memory::{self, OutOfMemory};

/// Cuts the payload of a TCP packet into pieces of `size` bytes, and hands out a frame for each.
///
/// `transport` is the index of the TCP header in `frame`. The headers are those of the whole
/// but for lengths, the sequence number, the IPv4 identification, and FIN and PSH, which only
/// the last segment has. TCP checksums are left alone: the next to look at the frame fills them
/// in.
///
/// # Errors
/// [`OutOfMemory`]: nothing was handed out.
pub(super) fn into_segments(
    frame: &[u8],
    transport: usize,
    is_ipv6: bool,
    size: usize,
    mut send: impl FnMut(&mut [u8]),
) -> Result<(), OutOfMemory> {
    let whole = TcpPacket::new_unchecked(&frame[transport..]);
    let payload_start = transport + usize::from(whole.header_len());
    let (headers, payload) = frame.split_at(payload_start);
    let first = whole.seq_number();
    let last = payload.len().div_ceil(size).saturating_sub(1);
    let mut piece = memory::with_capacity(headers.len() + size)?;
    for (index, part) in payload.chunks(size).enumerate() {
        piece.clear();
        piece.extend_from_slice(headers);
        piece.extend_from_slice(part);
        let mut segment = TcpPacket::new_unchecked(&mut piece[transport..]);
        segment.set_seq_number(first + index * size);
        if index != last {
            segment.set_fin(false);
            segment.set_psh(false);
        }
        let packet = &mut piece[ETHERNET_HEADER_LEN..];
        // Lengths fit: a piece is shorter than the whole, which was at most 65535 bytes.
        if is_ipv6 {
            let length = (packet.len() - IPV6_HEADER_LEN) as u16;
            Ipv6Packet::new_unchecked(packet).set_payload_len(length);
        } else {
            let length = packet.len() as u16;
            let mut packet = Ipv4Packet::new_unchecked(packet);
            packet.set_total_len(length);
            packet.set_ident(packet.ident().wrapping_add(index as u16));
            packet.fill_checksum();
        }
        send(&mut piece);
    }
    Ok(())
}

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, section 3.2), and hands
/// out a frame for each.
///
/// # Errors
/// [`OutOfMemory`]: nothing was handed out.
pub(super) fn into_fragments(
    frame: &[u8],
    mtu: usize,
    identification: u16,
    mut send: impl FnMut(&mut [u8]),
) -> Result<(), OutOfMemory> {
    let ethernet = EthernetFrame::new_unchecked(frame);
    let header_length = usize::from(Ipv4Packet::new_unchecked(ethernet.payload()).header_len());
    debug_assert_eq!(header_length, IPV4_HEADER_LEN, "smoltcp sends no options");
    let (headers, payload) = frame.split_at(ETHERNET_HEADER_LEN + header_length);
    // Offsets count in units of 8 bytes.
    let size = (mtu - header_length) & !7;
    let count = payload.len().div_ceil(size);
    let mut piece = memory::with_capacity(headers.len() + size)?;
    for (index, part) in payload.chunks(size).enumerate() {
        piece.clear();
        piece.extend_from_slice(headers);
        piece.extend_from_slice(part);
        let packet = &mut piece[ETHERNET_HEADER_LEN..];
        let length = packet.len() as u16;
        let mut packet = Ipv4Packet::new_unchecked(packet);
        packet.set_total_len(length);
        packet.set_ident(identification);
        packet.set_dont_frag(false);
        packet.set_more_frags(index + 1 < count);
        packet.set_frag_offset((index * size) as u16);
        packet.fill_checksum();
        send(&mut piece);
    }
    Ok(())
}
