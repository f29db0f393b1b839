extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// The textbook way: one big-endian word after the other.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut total = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        total += u32::from(u16::from_be_bytes([pair[0], low]));
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn ipv4(options: &[u8], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let header_bytes = 20 + options.len();
    frame.extend([0x40 | (header_bytes / 4) as u8, 0]);
    frame.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(options);
    frame.extend(payload);
    frame
}

fn ipv6(first_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([first_header, 64]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend(payload);
    frame
}

fn tcp(data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x1f, 0x90, 0xc0, 0x01];
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(data);
    segment
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0, 53, 0xc0, 0x01];
    datagram.extend(((8 + data.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// `frame` with its checksum filled in.
fn completed(mut frame: Vec<u8>) -> Vec<u8> {
    let segment = Segment::locate(&frame).expect("a whole segment");
    let checksum = segment.checksum(&frame).to_be_bytes();
    frame[segment.field..segment.field + 2].copy_from_slice(&checksum);
    frame
}

/// What a device does with a blank checksum: sums from the transport header to the end of the
/// frame, the field included, and puts the complement into the field.
fn completed_by_device(mut frame: Vec<u8>, segment: &Segment) -> Vec<u8> {
    let blank = segment.pseudo_header_sum().to_be_bytes();
    frame[segment.field..segment.field + 2].copy_from_slice(&blank);
    let checksum = !naive_sum(&frame[segment.range.start..]);
    frame[segment.field..segment.field + 2].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn a_checksum_worked_out_by_hand_agrees() {
    // 10.0.2.15 to 10.0.2.3, UDP port 45000 to 53, four bytes of data.
    let datagram = [
        0xaf, 0xc8, 0x00, 0x35, 0x00, 0x0c, 0x00, 0x00, b'a', b'b', b'c', b'd',
    ];
    let mut frame = ipv4(&[], 17, 0, &datagram);
    frame[26..34].copy_from_slice(&[10, 0, 2, 15, 10, 0, 2, 3]);
    let words: u32 = 0x0a00
        + 0x020f
        + 0x0a00
        + 0x0203
        + 0x0011
        + 0x000c
        + 0xafc8
        + 0x0035
        + 0x000c
        + 0x6162
        + 0x6364;
    let expected = !((words & 0xffff) + (words >> 16)) as u16;
    let segment = Segment::locate(&frame).unwrap();
    assert_eq!(segment.field, 14 + 20 + 6);
    assert_eq!(segment.checksum(&frame), expected);
}

#[test]
fn good_and_bad_checksums_are_told_apart() {
    let frames = [
        ipv4(&[], 6, 0, &tcp(b"hello")),
        ipv4(&[], 17, 0, &udp(b"hello")),
        ipv4(&[1; 12], 6, 0, &tcp(b"options")),
        ipv4(&[1; 40], 17, 0x4000, &udp(b"do not fragment")),
        ipv6(6, &tcp(b"hello")),
        ipv6(17, &udp(b"odd")),
    ];
    for frame in frames {
        let frame = completed(frame);
        assert_eq!(verify(&frame), Verdict::Good);
        let segment = Segment::locate(&frame).unwrap();
        for at in segment.range.clone() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(verify(&damaged), Verdict::Bad, "byte {at} bit {bit}");
            }
        }
        let address = segment.range.start - 1;
        if frame[14] >> 4 == 6 {
            let mut damaged = frame.clone();
            damaged[address] ^= 1;
            assert_eq!(verify(&damaged), Verdict::Bad, "the address is covered");
        }
    }
}

#[test]
fn padding_after_the_packet_is_not_covered() {
    let mut frame = completed(ipv4(&[], 17, 0, &udp(b"x")));
    frame.resize(60, 0xee);
    assert_eq!(verify(&frame), Verdict::Good);
}

#[test]
fn extension_headers_are_walked_through() {
    let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let routing = [51, 0, 4, 0, 0, 0, 0, 0];
    let authentication = [44, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let atomic_fragment = [6, 0, 0, 0, 0, 0, 0, 7];
    let mut payload = Vec::new();
    payload.extend(hop_by_hop);
    payload.extend(destination);
    payload.extend(routing);
    payload.extend(authentication);
    payload.extend(atomic_fragment);
    let headers = payload.len();
    payload.extend(tcp(b"deep"));
    let frame = completed(ipv6(0, &payload));
    assert_eq!(Segment::locate(&frame).unwrap().range.start, 54 + headers);
    assert_eq!(verify(&frame), Verdict::Good);
    let mut damaged = frame.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&damaged), Verdict::Bad);
}

#[test]
fn udp_without_a_checksum_passes_over_ipv4_only() {
    assert_eq!(verify(&ipv4(&[], 17, 0, &udp(b"none"))), Verdict::Good);
    assert_eq!(verify(&ipv6(17, &udp(b"none"))), Verdict::Bad);
    assert_eq!(verify(&ipv4(&[], 6, 0, &tcp(b"none"))), Verdict::Bad);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    // Choose the data so that everything sums up to 0xffff.
    let frame = ipv4(&[], 17, 0, &udp(&[0, 0]));
    let segment = Segment::locate(&frame).unwrap();
    let missing = segment.checksum(&frame);
    let frame = ipv4(&[], 17, 0, &udp(&missing.to_be_bytes()));
    assert_eq!(segment.checksum(&frame), 0xffff);
    assert_eq!(verify(&completed(frame)), Verdict::Good);
}

#[test]
fn what_is_neither_tcp_nor_udp_is_left_alone() {
    let frames = [
        ethernet(0x0806),
        ipv4(&[], 1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]),
        ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0]),
        ipv6(59, &[]),
        vec![],
        vec![0; 13],
        // A routing header with segments left: the checksum is for another address.
        ipv6(43, &[6, 0, 4, 1, 0, 0, 0, 0, 1, 2, 3]),
    ];
    for frame in frames {
        assert_eq!(verify(&frame), Verdict::NotApplicable, "{frame:?}");
    }
}

#[test]
fn fragments_are_not_judged() {
    for fragment in [0x2000, 0x0001, 0x2001, 0x1fff] {
        let frame = ipv4(&[], 17, fragment, &udp(b"part"));
        assert_eq!(Segment::locate(&frame), Err(NoSegment::Fragment));
        assert_eq!(verify(&frame), Verdict::NotApplicable);
    }
    for fragment in [[0, 1], [0, 8], [0xff, 0xf8]] {
        let mut payload = vec![17, 0];
        payload.extend(fragment);
        payload.extend([0, 0, 0, 1]);
        payload.extend(udp(b"part"));
        assert_eq!(verify(&ipv6(44, &payload)), Verdict::NotApplicable);
    }
}

#[test]
fn every_truncation_is_malformed_or_shorter() {
    for frame in [
        completed(ipv4(&[1; 8], 6, 0, &tcp(b"whole"))),
        completed(ipv6(
            0,
            &[&[6u8, 0, 1, 4, 0, 0, 0, 0][..], &tcp(b"whole")].concat(),
        )),
    ] {
        for length in 14..frame.len() {
            assert_eq!(verify(&frame[..length]), Verdict::Bad, "{length} bytes");
        }
    }
}

#[test]
fn lengths_that_lie_are_malformed() {
    let mut short_header = ipv4(&[], 6, 0, &tcp(b""));
    short_header[14] = 0x44;
    let mut total_below_header = ipv4(&[], 6, 0, &tcp(b""));
    total_below_header[17] = 19;
    let mut udp_too_long = ipv4(&[], 17, 0, &udp(b"abc"));
    udp_too_long[14 + 20 + 5] = 12;
    let mut udp_too_short = ipv4(&[], 17, 0, &udp(b"abc"));
    udp_too_short[14 + 20 + 5] = 7;
    let tcp_cut = ipv4(&[], 6, 0, &tcp(b"")[..19]);
    let endless_extension = ipv6(0, &[0, 255, 0, 0, 0, 0, 0, 0]);
    for frame in [
        short_header,
        total_below_header,
        udp_too_long,
        udp_too_short,
        tcp_cut,
        endless_extension,
    ] {
        assert_eq!(Segment::locate(&frame), Err(NoSegment::Malformed));
    }
}

proptest! {
    #[test]
    fn the_fast_sum_is_the_naive_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(sum(&bytes), naive_sum(&bytes));
    }

    #[test]
    fn a_device_completes_what_we_leave_blank(
        data in proptest::collection::vec(any::<u8>(), 0..100),
        is_tcp: bool,
        is_ipv4: bool,
    ) {
        let (protocol, payload) = if is_tcp { (6, tcp(&data)) } else { (17, udp(&data)) };
        let frame = if is_ipv4 { ipv4(&[], protocol, 0, &payload) } else { ipv6(protocol, &payload) };
        let segment = Segment::locate(&frame).unwrap();
        let by_device = completed_by_device(frame.clone(), &segment);
        // A device may leave a UDP checksum of 0, which then says "none".
        let field = [by_device[segment.field], by_device[segment.field + 1]];
        if is_tcp || field != [0, 0] {
            prop_assert_eq!(&by_device, &completed(frame));
            prop_assert_eq!(verify(&by_device), Verdict::Good);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 0..160),
        kind in 0..4,
    ) {
        if frame.len() > 24 {
            match kind {
                0 => frame[12..15].copy_from_slice(&[8, 0, 0x45]),
                1 => frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
                2 => {
                    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                    frame[18] = 0;
                    frame[20] = [0, 43, 44, 51, 60][usize::from(frame[21]) % 5];
                }
                _ => {}
            }
        }
        let _ = verify(&frame);
        if let Ok(segment) = Segment::locate(&frame) {
            prop_assert!(segment.range.end <= frame.len());
            prop_assert!(segment.field.is_multiple_of(2));
            segment.checksum(&frame);
        }
    }
}
