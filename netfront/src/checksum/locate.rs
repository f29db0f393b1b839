//! Finding the transport header in a frame, believing nothing.

use super::{IpVersion, NoSegment, Segment, Transport, add, sum};

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

// Protocol numbers, and IPv6 extension headers among them (IANA "protocol-numbers").
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers to walk through before giving up: more than RFC 8200 lists.
const MAXIMUM_EXTENSION_HEADERS: usize = 8;

pub(super) fn locate(frame: &[u8]) -> Result<Segment, NoSegment> {
    match u16_at(frame, 12).ok_or(NoSegment::OtherProtocol)? {
        ETHERTYPE_IPV4 => locate_ipv4(frame),
        ETHERTYPE_IPV6 => locate_ipv6(frame),
        _ => Err(NoSegment::OtherProtocol),
    }
}

fn locate_ipv4(frame: &[u8]) -> Result<Segment, NoSegment> {
    let header = ETHERNET_HEADER;
    let version_and_length = u8_at(frame, header).ok_or(NoSegment::Malformed)?;
    if version_and_length >> 4 != 4 {
        return Err(NoSegment::Malformed);
    }
    let header_bytes = usize::from(version_and_length & 0xf) * 4;
    let total_bytes = usize::from(u16_at(frame, header + 2).ok_or(NoSegment::Malformed)?);
    if header_bytes < IPV4_HEADER
        || total_bytes < header_bytes
        || header + total_bytes > frame.len()
    {
        return Err(NoSegment::Malformed);
    }
    // All but "don't fragment" and the reserved bit: more fragments, or a fragment offset.
    if u16_at(frame, header + 6).ok_or(NoSegment::Malformed)? & 0x3fff != 0 {
        return Err(NoSegment::Fragment);
    }
    let addresses = &frame[header + 12..header + 20];
    let protocol = frame[header + 9];
    let payload = header + header_bytes..header + total_bytes;
    transport(frame, IpVersion::V4, protocol, payload, addresses)
}

fn locate_ipv6(frame: &[u8]) -> Result<Segment, NoSegment> {
    let header = ETHERNET_HEADER;
    if frame.len() < header + IPV6_HEADER || frame[header] >> 4 != 6 {
        return Err(NoSegment::Malformed);
    }
    let payload_bytes = usize::from(u16_at(frame, header + 4).ok_or(NoSegment::Malformed)?);
    let end = header + IPV6_HEADER + payload_bytes;
    if end > frame.len() {
        return Err(NoSegment::Malformed);
    }
    let addresses = &frame[header + 8..header + IPV6_HEADER];
    let mut protocol = frame[header + 6];
    let mut at = header + IPV6_HEADER;
    for _ in 0..=MAXIMUM_EXTENSION_HEADERS {
        let extension_bytes = match protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => (extension_length(frame, at)? + 1) * 8,
            ROUTING => {
                // Segments left: the pseudo-header's destination is elsewhere (section 8.1).
                if u8_at(frame, at + 3).ok_or(NoSegment::Malformed)? != 0 {
                    return Err(NoSegment::OtherProtocol);
                }
                (extension_length(frame, at)? + 1) * 8
            }
            AUTHENTICATION => (extension_length(frame, at)? + 2) * 4,
            FRAGMENT => {
                // An atomic fragment (RFC 6946) is whole: offset 0 and nothing more to come.
                if u16_at(frame, at + 2).ok_or(NoSegment::Malformed)? & 0xfff9 != 0 {
                    return Err(NoSegment::Fragment);
                }
                8
            }
            _ => return transport(frame, IpVersion::V6, protocol, at..end, addresses),
        };
        protocol = u8_at(frame, at).ok_or(NoSegment::Malformed)?;
        at += extension_bytes;
        if at > end {
            return Err(NoSegment::Malformed);
        }
    }
    Err(NoSegment::OtherProtocol)
}

fn transport(
    frame: &[u8],
    ip_version: IpVersion,
    protocol: u8,
    payload: core::ops::Range<usize>,
    addresses: &[u8],
) -> Result<Segment, NoSegment> {
    let mut range = payload;
    let (transport, field) = match protocol {
        TCP if range.len() >= TCP_HEADER => (Transport::Tcp, range.start + 16),
        UDP if range.len() >= UDP_HEADER => {
            // UDP has a length of its own, which may be shorter than what IP carries.
            let bytes = u16_at(frame, range.start + 4).ok_or(NoSegment::Malformed)?;
            let bytes = usize::from(bytes);
            if bytes < UDP_HEADER || bytes > range.len() {
                return Err(NoSegment::Malformed);
            }
            range.end = range.start + bytes;
            (Transport::Udp, range.start + 6)
        }
        TCP | UDP => return Err(NoSegment::Malformed),
        _ => return Err(NoSegment::OtherProtocol),
    };
    // An IP packet is at most 65535 bytes with its header, and so is what it carries.
    let length = u16::try_from(range.len()).map_err(|_| NoSegment::Malformed)?;
    let pseudo_header = add(add(sum(addresses), u16::from(protocol)), length);
    Ok(Segment {
        transport,
        ip_version,
        range,
        field,
        pseudo_header,
    })
}

fn extension_length(frame: &[u8], at: usize) -> Result<usize, NoSegment> {
    u8_at(frame, at + 1)
        .map(usize::from)
        .ok_or(NoSegment::Malformed)
}

fn u8_at(frame: &[u8], at: usize) -> Option<u8> {
    frame.get(at).copied()
}

fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
