use netfront::fake::{Completion, Options, Packet};
use netfront::wire::{ExtraInfo, ExtraKind, ReceiveFlags, ReceiveResponse, TransmitStatus};
use netfront::{Offload, QueueFull};
use xen_proto::fake::Random;

use crate::support::{Lab, plain_frame};

fn random_frame(random: &Random, largest: usize) -> Vec<u8> {
    let bytes = 14 + random.below(largest as u64 - 13) as usize;
    let mut frame: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn jumbo(options: Options) -> Lab {
    let mut lab = Lab::prepared(options, |backend| backend.write_frontend("mtu", "65521"));
    lab.settle();
    lab
}

#[test]
fn many_frames_of_all_sizes_arrive_whole_and_in_order() {
    for completion in [Completion::AtOnce, Completion::Reversed] {
        let random = Random::new(7);
        let mut lab = jumbo(Options {
            completion,
            ..Options::default()
        });
        for round in 0..200 {
            let largest = if round % 10 == 0 { 65535 } else { 1514 };
            let frames: Vec<_> = (0..random.below(40))
                .map(|_| random_frame(&random, largest))
                .collect();
            let mut sent = Vec::new();
            for frame in &frames {
                let mut attempts = 0;
                while lab.device.transmit(frame, Offload::None) == Err(QueueFull) {
                    lab.settle();
                    sent.extend(lab.backend.rings().received.drain(..));
                    attempts += 1;
                    assert!(attempts < 10, "round {round}: room never appears");
                }
            }
            lab.device.flush();
            lab.settle();
            sent.extend(lab.backend.rings().received.drain(..));
            let sent: Vec<_> = sent.into_iter().map(|frame| frame.bytes).collect();
            assert!(sent == frames, "round {round}: guest to backend");

            for frame in &frames {
                let piece = 1 + random.below(4096) as usize;
                let piece = piece.max(frame.len().div_ceil(18));
                let packet = Packet::cut(frame, piece, ReceiveFlags::DATA_VALIDATED);
                lab.backend.rings().send(packet);
            }
            let mut received = Vec::new();
            while received.len() < frames.len() {
                lab.settle();
                let before = received.len();
                received.extend(lab.receive_all());
                assert!(received.len() > before, "round {round}: it stands still");
            }
            assert!(received == frames, "round {round}: backend to guest");
        }
        // Ring positions began 256 before the wrap and are far beyond it.
        assert!(lab.backend.rings().next_receive_response().value() < 1 << 20);
        assert!(lab.backend.rings().next_transmit_response().value() < 1 << 20);
        assert_eq!(lab.bed.hypervisor.double_reads(), 0);
    }
}

#[test]
fn a_frame_takes_as_many_slots_as_pages() {
    let mut lab = jumbo(Options::default());
    for (bytes, slots) in [(14, 1), (4096, 1), (4097, 2), (9014, 3), (65535, 16)] {
        let frame = plain_frame(bytes, 0x11);
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
        lab.device.flush();
        lab.settle();
        let sent = lab
            .backend
            .rings()
            .received
            .pop_front()
            .expect("it arrived");
        assert_eq!(sent.bytes, frame);
        assert_eq!(sent.slots, slots);
    }
}

#[test]
fn frames_that_no_mtu_allows_are_dropped_and_counted() {
    let mut lab = Lab::connected();
    for bytes in [0, 13, 1515, 65536, 100_000] {
        let frame = vec![0; bytes];
        assert_eq!(lab.device.transmit(&frame, Offload::Checksum), Ok(()));
    }
    lab.device.flush();
    lab.settle();
    assert!(lab.backend.rings().received.is_empty());
    assert_eq!(lab.device.statistics().counters.transmit_drops.size, 5);
    lab.assert_working();
}

#[test]
fn fragments_are_put_together() {
    let mut lab = Lab::connected();
    let frame: Vec<u8> = (0..5000u32).map(|at| (at % 251) as u8).collect();
    for piece in [278, 1000, 4096] {
        let mut packet = Packet::cut(&frame, piece, ReceiveFlags::DATA_VALIDATED);
        for (index, fragment) in packet.fragments.iter_mut().enumerate() {
            // As far back in its page as it fits.
            if index % 2 == 1 {
                fragment.offset = (4096 - fragment.bytes.len()) as u16;
            }
        }
        assert_eq!(
            lab.deliver(packet),
            Some(frame.clone()),
            "pieces of {piece}"
        );
    }
}

#[test]
fn a_packet_of_18_slots_is_the_largest() {
    let mut lab = Lab::connected();
    let frame = plain_frame(18 * 3640, 9);
    let packet = Packet::cut(&frame, 3640, ReceiveFlags::DATA_VALIDATED);
    assert_eq!(packet.fragments.len(), 18);
    assert_eq!(lab.deliver(packet), Some(frame));
    // 18 full pages are more than any frame.
    let frame = plain_frame(18 * 4096 - 1, 9);
    assert_eq!(
        lab.deliver(Packet::whole(&frame, ReceiveFlags::DATA_VALIDATED)),
        None
    );
    assert_eq!(lab.device.statistics().counters.receive_drops.size, 1);
    lab.assert_working();
}

#[test]
fn extra_info_is_skipped_and_its_pages_offered_again() {
    let mut lab = Lab::connected();
    let frame = plain_frame(6000, 0x42);
    let pages = lab.backend.rings().offered();
    let ignored = |number| ExtraInfo {
        kind: ExtraKind::Ignored(number),
        more: false,
    };
    for _ in 0..300 {
        let mut packet = Packet::whole(&frame, ReceiveFlags::DATA_VALIDATED);
        packet.extras = vec![ignored(4), ignored(5), ignored(2)];
        assert_eq!(lab.deliver(packet), Some(frame.clone()));
    }
    lab.settle();
    assert_eq!(lab.backend.rings().offered(), pages);
}

#[test]
fn an_error_in_any_fragment_drops_the_packet() {
    let mut lab = Lab::connected();
    for status in [-1, -2, -14, i16::MIN] {
        for at in 0..3 {
            let mut packet = Packet::cut(&plain_frame(3000, 1), 1000, ReceiveFlags::empty());
            packet.fragments[at].error = Some(status);
            assert_eq!(lab.deliver(packet), None);
        }
    }
    assert_eq!(lab.device.statistics().counters.receive_drops.error, 12);
    assert_eq!(lab.device.statistics().counters.broken, 0);
    lab.assert_working();
}

#[test]
fn runts_and_empty_fragments() {
    let mut lab = Lab::connected();
    for bytes in [0, 1, 13] {
        let mut packet = Packet::whole(&[7], ReceiveFlags::empty());
        packet.fragments[0].bytes = vec![7; bytes];
        assert_eq!(lab.deliver(packet), None);
    }
    assert_eq!(lab.device.statistics().counters.receive_drops.size, 3);
    let mut packet = Packet::cut(&plain_frame(100, 1), 50, ReceiveFlags::empty());
    packet.fragments[1].bytes.clear();
    assert_eq!(lab.deliver(packet), Some(plain_frame(50, 1)));
}

#[test]
fn a_packet_shown_slot_by_slot_is_awaited() {
    let mut lab = Lab::connected();
    let frame = plain_frame(30, 3);
    for (index, half) in frame.chunks(15).enumerate() {
        assert_eq!(lab.receive(), None);
        let mut flags = ReceiveFlags::DATA_VALIDATED;
        flags.set(ReceiveFlags::MORE_DATA, index == 0);
        let peer = lab.bed.hypervisor.peer(xen_proto::fake::TestBed::PEER);
        let rings = lab.backend.rings();
        rings.respond(|request| {
            use xen_proto::hypervisor::SharedPage;
            peer.map(request.grant).write(0, half);
            ReceiveResponse {
                id: request.id,
                offset: 0,
                flags,
                status: half.len() as i16,
            }
            .to_bytes()
        });
        rings.publish();
    }
    assert_eq!(lab.receive(), Some(frame));
}

#[test]
fn a_full_queue_says_so_and_tells_when_there_is_room() {
    let mut lab = Lab::connected_with(Options {
        completion: Completion::Never,
        ..Options::default()
    });
    let frame = plain_frame(100, 8);
    for _ in 0..256 {
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    lab.device.flush();
    lab.settle();
    // Uses up the event that every ring begins with.
    for _ in 0..256 {
        lab.backend.rings().complete(0, TransmitStatus::Okay);
    }
    lab.backend.rings().publish();
    lab.drain_events();
    for _ in 0..256 {
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    assert_eq!(lab.device.transmit(&frame, Offload::None), Err(QueueFull));
    assert_eq!(lab.device.transmit(&frame, Offload::None), Err(QueueFull));
    assert!(lab.poll_event().is_pending());
    lab.settle();
    assert_eq!(
        lab.backend.rings().outstanding(),
        256,
        "a full queue is published"
    );

    let wakes = lab.wakes();
    for _ in 0..100 {
        lab.backend.rings().complete(0, TransmitStatus::Okay);
    }
    lab.backend.rings().publish();
    assert!(lab.wakes() > wakes, "the backend was asked for an event");
    assert!(lab.poll_event().is_ready());
    for _ in 0..100 {
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    assert_eq!(lab.device.transmit(&frame, Offload::None), Err(QueueFull));
    assert_eq!(lab.device.statistics().transmit_pages, 256);
}

#[test]
fn room_for_a_large_frame_is_awaited_in_full() {
    let mut lab = jumbo(Options {
        completion: Completion::Never,
        ..Options::default()
    });
    lab.drain_events();
    while lab
        .device
        .transmit(&plain_frame(64, 1), Offload::None)
        .is_ok()
    {}
    let large = plain_frame(65535, 2);
    assert_eq!(lab.device.transmit(&large, Offload::None), Err(QueueFull));
    lab.settle();
    for completed in 1..=16 {
        assert!(
            lab.poll_event().is_pending(),
            "after {completed} completions"
        );
        lab.backend.rings().complete(0, TransmitStatus::Okay);
        lab.backend.rings().publish();
    }
    assert!(lab.poll_event().is_ready());
    assert_eq!(lab.device.transmit(&large, Offload::None), Ok(()));
}

#[test]
fn refused_slots_are_counted() {
    let mut lab = Lab::connected_with(Options {
        completion: Completion::Never,
        ..Options::default()
    });
    let frame = plain_frame(100, 8);
    for _ in 0..256 {
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    lab.device.flush();
    lab.settle();
    lab.backend.rings().complete(0, TransmitStatus::Error);
    lab.backend.rings().complete(7, TransmitStatus::Dropped);
    lab.backend.rings().publish();
    for _ in 0..2 {
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    assert_eq!(lab.device.statistics().counters.transmit_drops.refused, 2);
    assert_eq!(lab.device.statistics().counters.broken, 0);
}

#[test]
fn an_event_wakes_and_nothing_is_lost() {
    let mut lab = Lab::connected();
    lab.drain_events();
    for round in 0..600 {
        let wakes = lab.wakes();
        let frame = plain_frame(60, round as u8);
        let packet = Packet::whole(&frame, ReceiveFlags::empty());
        lab.backend.rings().send(packet);
        lab.settle();
        assert_eq!(lab.wakes(), wakes + 1, "round {round}");
        assert!(lab.poll_event().is_ready());
        assert_eq!(lab.receive(), Some(frame));
        assert_eq!(lab.receive(), None);
        assert!(lab.poll_event().is_pending());
    }
    assert_eq!(lab.device.statistics().counters.spurious_events, 0);
}

#[test]
fn frames_left_in_the_queue_make_it_ready_again() {
    let mut lab = Lab::connected();
    lab.drain_events();
    for fill in 0..2 {
        let packet = Packet::whole(&plain_frame(60, fill), ReceiveFlags::empty());
        lab.backend.rings().send(packet);
    }
    lab.settle();
    assert!(lab.poll_event().is_ready());
    assert!(lab.receive().is_some());
    assert!(lab.poll_event().is_ready());
    assert!(lab.receive().is_some());
    assert!(lab.poll_event().is_pending());
}

#[test]
fn events_that_announce_nothing_are_counted_and_cost_nothing() {
    for split_event_channels in [true, false] {
        let mut lab = Lab::connected_with(Options {
            split_event_channels,
            ..Options::default()
        });
        lab.drain_events();
        let before = lab.device.statistics().counters;
        for _ in 0..1000 {
            lab.backend.rings().notify_receive();
            lab.backend.rings().notify_transmit();
            assert!(lab.poll_event().is_pending());
        }
        let after = lab.device.statistics().counters;
        assert!(after.spurious_events - before.spurious_events >= 1000);
        // And the event that matters still wakes.
        let wakes = lab.wakes();
        let packet = Packet::whole(&plain_frame(60, 1), ReceiveFlags::empty());
        lab.backend.rings().send(packet);
        lab.settle();
        assert!(lab.wakes() > wakes);
        assert!(lab.receive().is_some());
        lab.assert_working();
    }
}

#[test]
fn the_backend_is_notified_only_when_it_asked() {
    let mut lab = Lab::connected();
    let before = lab.device.statistics().counters.notifications;
    for _ in 0..100 {
        lab.device
            .transmit(&plain_frame(60, 1), Offload::None)
            .expect("there is room");
        lab.device.flush();
    }
    let after = lab.device.statistics().counters.notifications;
    assert_eq!(after - before, 1, "it has not looked since the first");
}

#[test]
fn pages_are_offered_again_while_the_queue_is_being_drained() {
    let mut lab = Lab::connected();
    for _ in 0..100 {
        let packet = Packet::whole(&plain_frame(60, 1), ReceiveFlags::empty());
        lab.backend.rings().send(packet);
    }
    lab.settle();
    assert_eq!(lab.backend.rings().backlog(), 36);
    for _ in 0..20 {
        assert!(lab.receive().is_some());
    }
    lab.settle();
    // A batch is as many as the largest packet takes.
    assert_eq!(lab.backend.rings().backlog(), 36 - 18);
}
