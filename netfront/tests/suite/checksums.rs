use netfront::Offload;
use netfront::checksum::{Verdict, verify};
use netfront::fake::{Options, Packet};
use netfront::wire::{ReceiveFlags, TransmitFlags};

use crate::support::Lab;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// A TCP or UDP frame over IPv4 (4) or IPv6 (6), with this checksum field.
pub(crate) fn frame(version: u8, protocol: u8, checksum: [u8; 2], data: &[u8]) -> Vec<u8> {
    let mut segment = match protocol {
        TCP => vec![
            0, 80, 192, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
        ],
        _ => {
            let length = (8 + data.len() as u16).to_be_bytes();
            vec![0, 53, 192, 1, length[0], length[1], 0, 0]
        }
    };
    let field = if protocol == TCP { 16 } else { 6 };
    segment[field..field + 2].copy_from_slice(&checksum);
    segment.extend(data);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let length = segment.len() as u16;
    if version == 4 {
        let total = (20 + length).to_be_bytes();
        frame.extend([
            8, 0, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
        ]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    } else {
        let length = length.to_be_bytes();
        frame.extend([
            0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], protocol, 64,
        ]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
    }
    frame.extend(segment);
    frame
}

fn field(version: u8, protocol: u8) -> usize {
    let transport = if version == 4 { 34 } else { 54 };
    transport + if protocol == TCP { 16 } else { 6 }
}

/// The same frame with the checksum that the textbook computes.
fn complete(version: u8, protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = frame(version, protocol, [0, 0], data);
    let (addresses, transport) = if version == 4 { (26, 34) } else { (22, 54) };
    let length = (frame.len() - transport) as u16;
    let mut covered = frame[addresses..].to_vec();
    covered.extend([0; 1][..covered.len() % 2].iter());
    covered.extend([0, protocol]);
    covered.extend(length.to_be_bytes());
    let mut sum: u64 = covered
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let at = field(version, protocol);
    frame[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

#[test]
fn what_nobody_vouches_for_is_verified() {
    let mut lab = Lab::connected();
    for version in [4, 6] {
        for protocol in [TCP, UDP] {
            let good = complete(version, protocol, b"payload");
            let mut bad = good.clone();
            *bad.last_mut().expect("it has bytes") ^= 1;
            let none = ReceiveFlags::empty();
            assert_eq!(lab.deliver(Packet::whole(&good, none)), Some(good.clone()));
            assert_eq!(lab.deliver(Packet::whole(&bad, none)), None);
            // In pieces it is the same frame.
            assert_eq!(lab.deliver(Packet::cut(&good, 20, none)), Some(good));
            assert_eq!(lab.deliver(Packet::cut(&bad, 20, none)), None);
        }
    }
    let counters = lab.device.statistics().counters;
    assert_eq!(counters.receive_drops.checksum, 8);
    assert_eq!(counters.verified, 8);
}

#[test]
fn what_the_host_vouches_for_is_accepted_as_it_is() {
    let mut lab = Lab::connected();
    let validated = ReceiveFlags::DATA_VALIDATED;
    let blank = ReceiveFlags::CHECKSUM_BLANK;
    for version in [4, 6] {
        for protocol in [TCP, UDP] {
            let frame = frame(version, protocol, [0x12, 0x34], b"from the host itself");
            assert_eq!(verify(&frame), Verdict::Bad);
            for flags in [validated, blank, blank | validated] {
                assert_eq!(
                    lab.deliver(Packet::whole(&frame, flags)),
                    Some(frame.clone())
                );
            }
        }
    }
    let counters = lab.device.statistics().counters;
    assert_eq!(counters.blank, 8);
    assert_eq!(counters.verified, 0);
    assert_eq!(counters.receive_drops.checksum, 0);
}

#[test]
fn other_protocols_and_fragments_pass() {
    let mut lab = Lab::connected();
    let mut icmp = frame(4, 1, [0, 0], b"wrong in any case");
    icmp[23] = 1;
    let mut fragment = frame(4, UDP, [0x12, 0x34], b"part of more");
    fragment[20] = 0x20;
    for frame in [icmp, fragment] {
        let packet = Packet::whole(&frame, ReceiveFlags::empty());
        assert_eq!(lab.deliver(packet), Some(frame));
    }
}

#[test]
fn the_device_completes_checksums_where_it_said_so() {
    for (no_checksum_offload, ipv6_checksum_offload) in
        [(false, true), (false, false), (true, true), (true, false)]
    {
        let mut lab = Lab::connected_with(Options {
            no_checksum_offload,
            ipv6_checksum_offload,
            ..Options::default()
        });
        for version in [4, 6] {
            for protocol in [TCP, UDP] {
                let offered = match version {
                    4 => !no_checksum_offload,
                    _ => ipv6_checksum_offload,
                };
                let expected = complete(version, protocol, b"checked");
                // Whatever was in the field before.
                let given = frame(version, protocol, [0xab, 0xcd], b"checked");
                lab.device
                    .transmit(&given, Offload::Checksum)
                    .expect("there is room");
                lab.device.flush();
                lab.settle();
                let sent = lab.backend.rings().received.pop_front();
                let sent = sent.expect("it arrived");
                assert_eq!(
                    sent.bytes, expected,
                    "version {version} protocol {protocol}"
                );
                let blank = TransmitFlags::CHECKSUM_BLANK | TransmitFlags::DATA_VALIDATED;
                let flags = if offered {
                    blank
                } else {
                    TransmitFlags::empty()
                };
                assert_eq!(sent.flags, flags);
            }
        }
    }
}

#[test]
fn what_is_complete_is_not_touched() {
    let mut lab = Lab::connected();
    let given = frame(4, TCP, [0xab, 0xcd], b"as it is");
    lab.device
        .transmit(&given, Offload::None)
        .expect("there is room");
    lab.device.flush();
    lab.settle();
    let sent = lab.backend.rings().received.pop_front();
    let sent = sent.expect("it arrived");
    assert_eq!(sent.bytes, given);
    assert_eq!(sent.flags, TransmitFlags::empty());
}

#[test]
fn a_padded_frame_is_completed_by_the_driver() {
    // The backend would add up the padding.
    let mut lab = Lab::connected();
    let mut given = frame(4, UDP, [0, 0], b"x");
    given.resize(60, 0xee);
    let mut expected = complete(4, UDP, b"x");
    expected.resize(60, 0xee);
    assert_eq!(lab.transmit(&given, Offload::Checksum), expected);
}

#[test]
fn a_frame_without_a_checksum_may_be_left_to_the_device() {
    let mut lab = Lab::connected();
    let arp = crate::support::plain_frame(60, 6);
    assert_eq!(lab.transmit(&arp, Offload::Checksum), arp);
}
