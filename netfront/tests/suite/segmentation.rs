//! Long packets of TCP: cut by the backend on the way out, taken whole on the way in.

use std::num::NonZeroU16;

use netfront::checksum::{IpVersion, Verdict, verify};
use netfront::fake::{Completion, Options, Packet, ReceivedFrame};
use netfront::wire::{
    ExtraInfo, ExtraKind, ReceiveFlags, ReceiveResponse, Segmentation, TransmitFlags,
};
use netfront::{Offload, QueueFull, SegmentationOffload};
use proptest::prelude::*;
use xen_proto::fake::Random;

use crate::checksums::{TCP, UDP, frame};
use crate::support::{Lab, plain_frame};

/// Bytes of a frame of these tests before its payload, over IPv4 and IPv6.
const HEADERS: [(u8, usize); 2] = [(4, 14 + 20 + 20), (6, 14 + 40 + 20)];

fn segments(payload: u16) -> Offload {
    Offload::Segments {
        payload: NonZeroU16::new(payload).expect("a payload"),
    }
}

fn segmentation(version: u8, payload: u16) -> Segmentation {
    Segmentation {
        ip_version: match version {
            4 => IpVersion::V4,
            _ => IpVersion::V6,
        },
        segment_bytes: NonZeroU16::new(payload).expect("a payload"),
    }
}

fn data(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// The frames that leave the host are whole segments of `payload`, and together `sent`.
fn assert_cut(received: &ReceivedFrame, sent: &[u8], headers: usize, payload: usize) {
    let cut = received.segments();
    assert_eq!(cut.len(), (sent.len() - headers).div_ceil(payload));
    let mut joined: Vec<u8> = Vec::new();
    for (index, frame) in cut.iter().enumerate() {
        assert_eq!(verify(frame), Verdict::Good, "segment {index}");
        let sequence = &frame[headers - 16..headers - 12];
        let expected = 1 + (index * payload) as u32;
        assert_eq!(sequence, expected.to_be_bytes(), "segment {index}");
        assert!(frame.len() <= headers + payload);
        joined.extend(&frame[headers..]);
    }
    assert!(joined == sent[headers..]);
}

fn transmit_segmented(lab: &mut Lab, version: u8, bytes: usize, payload: u16) {
    let (_, headers) = HEADERS[usize::from(version == 6)];
    let sent = frame(version, TCP, [0xab, 0xcd], &data(bytes));
    lab.device
        .transmit(&sent, segments(payload))
        .expect("there is room");
    lab.device.flush();
    lab.settle();
    let received = lab.backend.rings().received.pop_front();
    let received = received.expect("it arrived");
    assert_eq!(
        received.segmentation,
        Some(segmentation(version, payload)),
        "{bytes} bytes in segments of {payload}"
    );
    assert_eq!(received.slots, sent.len().div_ceil(4096));
    assert_cut(&received, &sent, headers, usize::from(payload));
}

#[test]
fn what_linux_offers_is_reported() {
    let offered = |options| Lab::connected_with(options).device.segmentation_offload();
    let both = |transmit_ipv4, transmit_ipv6| SegmentationOffload {
        transmit_ipv4,
        transmit_ipv6,
    };
    let linux = Options::default;
    assert_eq!(offered(linux()), both(true, true));
    for options in [
        Options {
            segmentation: false,
            ..linux()
        },
        Options {
            scatter_gather: false,
            ..linux()
        },
    ] {
        assert_eq!(offered(options), both(false, false));
    }
    let no_checksum_offload = true;
    assert_eq!(
        offered(Options {
            no_checksum_offload,
            ..linux()
        }),
        both(false, true)
    );
    let ipv6_checksum_offload = false;
    assert_eq!(
        offered(Options {
            ipv6_checksum_offload,
            ..linux()
        }),
        both(true, false)
    );
}

#[test]
fn long_packets_leave_the_host_as_segments() {
    for completion in [Completion::AtOnce, Completion::Reversed] {
        let mut lab = Lab::connected_with(Options {
            completion,
            ..Options::default()
        });
        let random = Random::new(11);
        let mut packets = 0;
        // Far beyond the wrap of the ring's positions, and of the ring.
        for _ in 0..150 {
            for (version, headers) in HEADERS {
                let most = 1514 - headers;
                let payload = 1 + random.below(most as u64) as u16;
                let room = 65535 - headers - usize::from(payload) - 1;
                let bytes = usize::from(payload) + 1 + random.below(room as u64 + 1) as usize;
                transmit_segmented(&mut lab, version, bytes, payload);
                packets += 1;
            }
        }
        for (version, headers) in HEADERS {
            transmit_segmented(&mut lab, version, 65535 - headers, (1514 - headers) as u16);
            transmit_segmented(&mut lab, version, 2, 1);
            packets += 2;
        }
        let statistics = lab.device.statistics();
        assert_eq!(statistics.counters.transmitted_segmented, packets);
        assert_eq!(statistics.counters.broken, 0);
        assert_eq!(statistics.transmit_pages, 16, "every page came back");
        assert!(lab.backend.rings().next_transmit_response().value() < 1 << 20);
    }
}

#[test]
fn what_fits_one_segment_is_not_cut() {
    let mut lab = Lab::connected();
    for (version, _) in HEADERS {
        for bytes in [0, 1, 1000] {
            let sent = frame(version, TCP, [0xab, 0xcd], &data(bytes));
            lab.device
                .transmit(&sent, segments(1000))
                .expect("there is room");
            lab.device.flush();
            lab.settle();
            let received = lab.backend.rings().received.pop_front();
            let received = received.expect("it arrived");
            assert_eq!(received.segmentation, None);
            assert!(received.flags.contains(TransmitFlags::CHECKSUM_BLANK));
            assert_eq!(verify(&received.bytes), Verdict::Good);
        }
    }
}

#[test]
fn what_cannot_be_cut_is_dropped_and_counted() {
    let mut lab = Lab::connected();
    let mut trailing = frame(4, TCP, [0, 0], &data(3000));
    trailing.push(0);
    let mut header_beyond_the_end = frame(4, TCP, [0, 0], &[]);
    header_beyond_the_end[34 + 12] = 0xf0;
    let unfit = [
        frame(4, UDP, [0, 0], &data(3000)),
        plain_frame(3000, 1),
        trailing,
        header_beyond_the_end,
    ];
    for frame in &unfit {
        assert_eq!(lab.device.transmit(frame, segments(1000)), Ok(()));
    }
    let unfit = unfit.len() as u64;
    // Segments that no MTU allows, and a whole that no request can name.
    for (version, headers) in HEADERS {
        let long = frame(version, TCP, [0, 0], &data(3000));
        let payload = (1515 - headers) as u16;
        assert_eq!(lab.device.transmit(&long, segments(payload)), Ok(()));
    }
    let longest = frame(4, TCP, [0, 0], &data(65536 - 54));
    assert_eq!(lab.device.transmit(&longest, segments(1000)), Ok(()));
    lab.device.flush();
    lab.settle();
    assert!(lab.backend.rings().received.is_empty());
    let drops = lab.device.statistics().counters.transmit_drops;
    assert_eq!((drops.segmentation, drops.size), (unfit, 3));
    lab.assert_working();
}

#[test]
fn nothing_is_cut_by_a_backend_that_does_not_offer_it() {
    let mut lab = Lab::connected_with(Options {
        segmentation: false,
        ..Options::default()
    });
    for (version, _) in HEADERS {
        let long = frame(version, TCP, [0, 0], &data(3000));
        assert_eq!(lab.device.transmit(&long, segments(1000)), Ok(()));
    }
    let drops = lab.device.statistics().counters.transmit_drops;
    assert_eq!(drops.segmentation, 2);
    lab.assert_working();
}

#[test]
fn descriptors_take_room_in_the_ring() {
    let mut lab = Lab::connected_with(Options {
        completion: Completion::Never,
        ..Options::default()
    });
    lab.drain_events();
    let sent = frame(4, TCP, [0, 0], &data(1001));
    for _ in 0..128 {
        lab.device
            .transmit(&sent, segments(1000))
            .expect("there is room");
    }
    assert_eq!(lab.device.transmit(&sent, segments(1000)), Err(QueueFull));
    lab.settle();
    assert_eq!(lab.backend.rings().outstanding(), 128);
    assert!(lab.poll_event().is_pending());
    let wakes = lab.wakes();
    for _ in 0..64 {
        let okay = netfront::wire::TransmitStatus::Okay;
        lab.backend.rings().complete(0, okay);
    }
    lab.backend.rings().publish();
    assert!(lab.wakes() > wakes);
    assert!(lab.poll_event().is_ready());
    for _ in 0..64 {
        lab.device
            .transmit(&sent, segments(1000))
            .expect("there is room");
    }
    assert_eq!(lab.device.transmit(&sent, segments(1000)), Err(QueueFull));
    // The backend may close before it answered any of it.
    lab.backend.unmap();
    lab.backend.set_state(xen_proto::xenbus::State::Closed);
    lab.pass(std::time::Duration::from_secs(3));
    lab.backend.options_mut().completion = Completion::AtOnce;
    lab.backend.set_state(xen_proto::xenbus::State::InitWait);
    lab.settle();
    lab.assert_working();
    transmit_segmented(&mut lab, 4, 60_000, 1460);
}

#[test]
fn packets_of_64_kib_are_taken_whole() {
    let mut lab = Lab::connected();
    for (version, headers) in HEADERS {
        // IP's own limit: its length field does not count the IPv6 header.
        let most = 14 + 65535 + if version == 6 { 40 } else { 0 };
        for bytes in [headers + 1, 1514, 1515, 4096, 4097, 64_000, 65_535, 65_549] {
            let sent = frame(version, TCP, [0x12, 0x34], &data(bytes - headers));
            assert!(sent.len() <= most);
            let packet = Packet::segmented(&sent, segmentation(version, 1448));
            assert_eq!(lab.deliver(packet), Some(sent), "{bytes} bytes");
        }
    }
    let counters = lab.device.statistics().counters;
    assert_eq!(counters.received_segmented, 16);
    assert_eq!(counters.blank, 16);
    lab.assert_working();
}

#[test]
fn the_host_may_have_verified_a_long_packet_and_if_nobody_did_the_driver_does() {
    let mut lab = Lab::connected();
    let sent = frame(4, TCP, [0x12, 0x34], &data(5000));
    let extras = Packet::segmented(&sent, segmentation(4, 1448)).extras;
    let validated = Packet {
        extras: extras.clone(),
        ..Packet::whole(&sent, ReceiveFlags::DATA_VALIDATED)
    };
    assert_eq!(lab.deliver(validated), Some(sent.clone()));
    let nobody = Packet {
        extras,
        ..Packet::whole(&sent, ReceiveFlags::empty())
    };
    assert_eq!(lab.deliver(nobody), None);
    let counters = lab.device.statistics().counters;
    assert_eq!(counters.receive_drops.checksum, 1);
    assert_eq!(counters.received_segmented, 1);
}

#[test]
fn what_cannot_be_segments_is_dropped_and_counted() {
    let mut lab = Lab::connected();
    let tcp = |version| frame(version, TCP, [0, 0], &data(3000));
    let mut trailing = tcp(4);
    trailing.push(0);
    let mut fragment = tcp(4);
    fragment[20] = 0x20;
    let mut longer_than_it_is = tcp(6);
    longer_than_it_is[18..20].copy_from_slice(&[0xff, 0xff]);
    let bad = [
        (frame(4, UDP, [0, 0], &data(3000)), 4),
        (frame(6, UDP, [0, 0], &data(3000)), 6),
        (plain_frame(3000, 1), 4),
        (plain_frame(14, 1), 6),
        (tcp(4), 6),
        (tcp(6), 4),
        (trailing, 4),
        (fragment, 4),
        (longer_than_it_is, 6),
    ];
    let count = bad.len() as u64;
    for (sent, version) in bad {
        let packet = Packet::segmented(&sent, segmentation(version, 1448));
        assert_eq!(lab.deliver(packet), None);
    }
    let counters = lab.device.statistics().counters;
    assert_eq!(counters.receive_drops.segmentation, count);
    assert_eq!((counters.broken, counters.received_segmented), (0, 0));
    lab.assert_working();
}

#[test]
fn longer_than_ip_is_dropped_and_counted() {
    let mut lab = Lab::connected();
    let sent = plain_frame(65_550, 1);
    let packet = Packet::segmented(&sent, segmentation(4, 1448));
    assert_eq!(lab.deliver(packet), None);
    assert_eq!(lab.device.statistics().counters.receive_drops.size, 1);
    lab.assert_working();
}

#[test]
fn a_descriptor_without_data_is_dropped_and_counted() {
    let mut lab = Lab::connected();
    let mut packet = Packet::segmented(&[1], segmentation(4, 1448));
    packet.fragments[0].bytes.clear();
    assert_eq!(lab.deliver(packet), None);
    assert_eq!(lab.device.statistics().counters.receive_drops.size, 1);
    lab.assert_working();
}

#[test]
fn a_descriptor_that_is_announced_is_awaited() {
    let mut lab = Lab::connected();
    let sent = frame(4, TCP, [0, 0], b"one slot");
    let peer = lab.bed.hypervisor.peer(xen_proto::fake::TestBed::PEER);
    let rings = lab.backend.rings();
    rings.respond(|request| {
        use xen_proto::hypervisor::SharedPage;
        peer.map(request.grant).write(0, &sent);
        ReceiveResponse {
            id: request.id,
            offset: 0,
            flags: ReceiveFlags::CHECKSUM_BLANK | ReceiveFlags::EXTRA_INFO,
            status: sent.len() as i16,
        }
        .to_bytes()
    });
    rings.publish();
    assert_eq!(lab.receive(), None);
    let rings = lab.backend.rings();
    rings.respond(|_| {
        ExtraInfo {
            kind: ExtraKind::Segmentation(segmentation(4, 1448)),
            more: false,
        }
        .to_bytes()
    });
    rings.publish();
    assert_eq!(lab.receive(), Some(sent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a backend spreads a long packet over its slots, and whatever other descriptors
    /// come along, it is put together.
    #[test]
    fn a_long_packet_in_any_pieces(
        version in prop_oneof![Just(4), Just(6)],
        pieces in prop::collection::vec((1..=3600_usize, 0..=496_u16), 1..=18),
        payload in 1..=u16::MAX,
        before in prop::collection::vec(2..=5_u8, 0..=2),
        after in prop::collection::vec(2..=5_u8, 0..=2),
    ) {
        let mut lab = Lab::connected();
        let (_, headers) = HEADERS[usize::from(version == 6)];
        let bytes: usize = pieces.iter().map(|(bytes, _)| bytes).sum();
        let sent = frame(version, TCP, [0, 0], &data(bytes.saturating_sub(headers)));
        let mut packet = Packet::segmented(&sent, segmentation(version, payload));
        packet.fragments.clear();
        let mut rest = &sent[..];
        for &(bytes, offset) in &pieces {
            let (piece, further) = rest.split_at(bytes.min(rest.len()));
            rest = further;
            packet.fragments.push(netfront::fake::Fragment {
                offset,
                bytes: piece.to_vec(),
                error: None,
            });
        }
        // Only packets shorter than their headers are longer than their pieces.
        prop_assume!(rest.is_empty());
        let ignored = |&number: &u8| ExtraInfo {
            kind: ExtraKind::Ignored(number),
            more: false,
        };
        let own = packet.extras.clone();
        packet.extras = before.iter().map(ignored).chain(own).collect();
        packet.extras.extend(after.iter().map(ignored));
        for _ in 0..3 {
            prop_assert_eq!(lab.deliver(packet.clone()), Some(sent.clone()));
        }
        lab.assert_working();
    }
}
