//! What a hostile backend does in the rings: each ends in a broken device, one line in the log
//! and, once the backend behaves, a new connection.

use std::time::Duration;

use netfront::Offload;
use netfront::fake::{Completion, Options};
use netfront::wire::{
    RECEIVE_SLOT_BYTES, ReceiveFlags, ReceiveRequest, ReceiveResponse, TransmitResponse,
    TransmitStatus,
};
use xen_proto::fake::{Random, TestBed};
use xen_proto::hypervisor::SharedPage;
use xen_proto::xenbus::State;

use crate::support::{Lab, errors, plain_frame};

/// The word of a ring with the backend's producer index.
const RESPONSE_PRODUCER: usize = 2;

/// `misbehave` must break the device, with a message that has `reason` in it.
fn breaks(reason: &str, misbehave: impl Fn(&mut Lab)) {
    let mut lab = Lab::connected_with(Options {
        completion: Completion::Never,
        ..Options::default()
    });
    for fill in 0..3 {
        let frame = plain_frame(60, fill);
        lab.device
            .transmit(&frame, Offload::None)
            .expect("there is room");
    }
    lab.device.flush();
    lab.settle();
    lab.drain_events();
    let errors_before = errors().len();
    let wakes = lab.wakes();

    misbehave(&mut lab);
    lab.backend.rings().notify_receive();
    lab.backend.rings().notify_transmit();
    assert!(lab.wakes() > wakes);
    // Something looks at each ring, until one of them notices.
    for _ in 0..4 {
        if lab.device.link_is_up() {
            let _ = lab.poll_event();
            lab.receive_all();
            let frame = plain_frame(60, 9);
            while lab.device.link_is_up() && lab.device.transmit(&frame, Offload::None).is_ok() {}
        }
    }
    assert!(
        !lab.device.link_is_up(),
        "{reason}: {}",
        lab.device.describe()
    );
    assert!(lab.poll_event().is_ready() || lab.poll_event().is_pending());
    assert_eq!(lab.receive(), None);
    assert_eq!(
        lab.device.transmit(&plain_frame(60, 1), Offload::None),
        Ok(())
    );
    lab.device.flush();
    let errors = &errors()[errors_before..];
    assert_eq!(errors.len(), 1, "one line: {errors:?}");
    assert!(
        errors[0].contains("vif0: backend broke the protocol"),
        "{errors:?}"
    );
    assert!(errors[0].contains(reason), "{errors:?}");
    assert_eq!(lab.device.statistics().counters.broken, 1);

    lab.backend.options_mut().completion = Completion::AtOnce;
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.device.statistics().counters.connections, 2);
    assert_eq!(lab.backend.connections(), 2);
    lab.assert_working();
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
}

/// Answers the next receive request with this response, made from what is right.
fn respond(lab: &mut Lab, change: impl Fn(ReceiveRequest, &mut ReceiveResponse)) {
    raw(lab, |request| {
        let mut response = ReceiveResponse {
            id: request.id,
            offset: 0,
            flags: ReceiveFlags::DATA_VALIDATED,
            status: 60,
        };
        change(request, &mut response);
        response.to_bytes()
    });
}

fn raw(lab: &mut Lab, slot: impl FnOnce(ReceiveRequest) -> [u8; RECEIVE_SLOT_BYTES]) {
    let rings = lab.backend.rings();
    rings.respond(slot);
    rings.publish();
}

/// Announces extra info, and sends these descriptors.
fn extras(lab: &mut Lab, descriptors: &[[u8; RECEIVE_SLOT_BYTES]]) {
    respond(lab, |_, response| {
        response.flags |= ReceiveFlags::EXTRA_INFO
    });
    for descriptor in descriptors {
        raw(lab, |_| *descriptor);
    }
}

#[test]
fn impossible_producer_indices() {
    for ahead in [257, 64 * 1024, i32::MAX as u32, u32::MAX, 0x8000_0000] {
        breaks("receive ring: peer's rsp_prod", |lab| {
            let rings = lab.backend.rings();
            let value = rings.next_receive_response().value().wrapping_add(ahead);
            rings.receive_page().store(RESPONSE_PRODUCER, value);
        });
        breaks("transmit ring: peer's rsp_prod", |lab| {
            let rings = lab.backend.rings();
            let value = rings.next_transmit_response().value().wrapping_add(ahead);
            rings.transmit_page().store(RESPONSE_PRODUCER, value);
        });
    }
    // More than was asked for, though the ring would hold it.
    breaks("transmit ring: peer's rsp_prod", |lab| {
        let rings = lab.backend.rings();
        let value = rings.next_transmit_response().value().wrapping_add(4);
        rings.transmit_page().store(RESPONSE_PRODUCER, value);
    });
    breaks("receive ring: peer's rsp_prod", |lab| {
        let rings = lab.backend.rings();
        let value = rings.next_receive_response().value().wrapping_add(65);
        rings.receive_page().store(RESPONSE_PRODUCER, value);
    });
}

#[test]
fn transmit_responses_nobody_asked_for() {
    // Never used, out of range, beyond any page.
    for id in [200, 255, 256, 0x8000, 0xffff] {
        breaks(&format!("transmit response with id {id}, which"), |lab| {
            lab.backend.rings().answer(TransmitResponse {
                id,
                status: TransmitStatus::Okay,
            });
            lab.backend.rings().publish();
        });
    }
    breaks("which is not outstanding", |lab| {
        for _ in 0..2 {
            lab.backend.rings().answer(TransmitResponse {
                id: 0,
                status: TransmitStatus::Okay,
            });
        }
        lab.backend.rings().publish();
    });
}

#[test]
fn transmit_statuses_that_do_not_exist() {
    for status in [1, 2, 4097, -3, i16::MIN, i16::MAX] {
        breaks(&format!("has status {status}"), |lab| {
            let status = TransmitStatus::from_number(status);
            lab.backend.rings().complete(0, status);
            lab.backend.rings().publish();
        });
    }
}

#[test]
fn more_answers_to_descriptors_than_there_were() {
    let answer = |lab: &mut Lab, id| {
        lab.backend.rings().answer(TransmitResponse {
            id,
            status: TransmitStatus::Null,
        });
    };
    breaks("which is not outstanding", |lab| {
        send_segmented(lab);
        answer(lab, 0xffff);
        answer(lab, 0xffff);
        lab.backend.rings().publish();
    });
    // In place of the answer to a page, which one it is a "null" is none.
    breaks("has status 1", |lab| {
        send_segmented(lab);
        answer(lab, 0);
        answer(lab, 0);
        lab.backend.rings().publish();
    });
}

fn send_segmented(lab: &mut Lab) {
    let frame = crate::checksums::frame(4, crate::checksums::TCP, [0, 0], &[7; 3000]);
    let payload = std::num::NonZeroU16::new(1460).expect("it is not zero");
    lab.device
        .transmit(&frame, Offload::Segments { payload })
        .expect("there is room");
    lab.device.flush();
    lab.settle();
}

#[test]
fn receive_ids_of_other_slots() {
    for id in [256, 0x7fff, 0xffff] {
        breaks(&format!("receive response with id {id}"), |lab| {
            respond(lab, |_, response| response.id = id);
        });
    }
    breaks("in the slot of request", |lab| {
        respond(lab, |request, response| response.id = request.id ^ 1);
    });
    breaks("in the slot of request", |lab| {
        let mut first = None;
        for _ in 0..2 {
            raw(lab, |request| {
                let id = *first.get_or_insert(request.id);
                ReceiveResponse {
                    id,
                    offset: 0,
                    flags: ReceiveFlags::DATA_VALIDATED,
                    status: 60,
                }
                .to_bytes()
            });
        }
    });
}

#[test]
fn received_data_outside_its_page() {
    for (offset, status) in [
        (0, 4097),
        (1, 4096),
        (4096, 1),
        (4095, 2),
        (0xffff, 1),
        (0xffff, i16::MAX),
        (0, i16::MAX),
    ] {
        breaks("leaves its page", |lab| {
            respond(lab, |_, response| {
                response.offset = offset;
                response.status = status;
            });
        });
    }
}

#[test]
fn packets_without_end() {
    breaks("more than 18 slots", |lab| {
        for _ in 0..19 {
            respond(lab, |_, response| response.flags |= ReceiveFlags::MORE_DATA);
        }
    });
    // Nor does an empty fragment or an error hide the length.
    for status in [0, -1] {
        breaks("more than 18 slots", |lab| {
            for _ in 0..19 {
                respond(lab, |_, response| {
                    response.status = status;
                    response.flags |= ReceiveFlags::MORE_DATA;
                });
            }
        });
    }
    breaks("more than 5 extra-info slots", |lab| {
        extras(lab, &[[4, 1, 0, 0, 0, 0, 0, 0]; 6]);
    });
}

#[test]
fn extra_info_that_makes_no_sense() {
    breaks("unknown type 0", |lab| extras(lab, &[[0; 8]]));
    breaks("unknown type 6", |lab| {
        extras(lab, &[[6, 0, 0, 0, 0, 0, 0, 0]])
    });
    breaks("unknown type 255", |lab| extras(lab, &[[255; 8]]));
    breaks("segment size 0", |lab| {
        extras(lab, &[[1, 0, 0, 0, 1, 0, 0, 0]])
    });
    breaks("to be cut in two ways", |lab| {
        let segmentation = [1, 1, 0xb4, 5, 1, 0, 0, 0];
        extras(lab, &[segmentation, segmentation]);
    });
    breaks("unknown segmentation type 9", |lab| {
        extras(lab, &[[1, 0, 0xb4, 5, 9, 0, 0, 0]]);
    });
    breaks("announces segmentation by a prefix", |lab| {
        respond(lab, |_, response| {
            response.flags |= ReceiveFlags::SEGMENTATION_PREFIX
        });
    });
}

#[test]
fn a_broken_device_waits_longer_each_time() {
    let mut lab = Lab::connected();
    let mut connections = Vec::new();
    for _ in 0..600 {
        if lab.device.link_is_up() {
            connections.push(lab.bed.hypervisor.clone());
            respond(&mut lab, |_, response| response.id = 9999);
            lab.receive_all();
            assert!(!lab.device.link_is_up());
        }
        lab.pass(Duration::from_secs(1));
    }
    // 1, 2, 4, 8, 16, 32 and then every 60 seconds.
    let count = connections.len();
    assert!((14..=17).contains(&count), "{count} connections in 600 s");
    assert_eq!(lab.device.statistics().counters.broken as usize, count);
}

#[test]
fn a_backend_that_keeps_everything_mapped_costs_nothing_more() {
    let mut lab = Lab::connected();
    let peer = lab.bed.hypervisor.peer(TestBed::PEER);
    let mut kept = Vec::new();
    let mut granted = 0;
    for round in 0..20 {
        lab.assert_working();
        for grant in lab.backend.rings().grants_seen.clone() {
            kept.push(peer.map(grant));
        }
        respond(&mut lab, |_, response| response.offset = 0xffff);
        lab.receive_all();
        lab.pass(Duration::from_secs(120));
        let now = lab.bed.hypervisor.granted_pages().len();
        if round == 0 {
            granted = now;
        }
        assert_eq!(now, granted, "round {round}");
    }
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
}

#[test]
fn a_backend_that_does_not_let_go_is_reported_and_not_reused() {
    let mut lab = Lab::connected();
    respond(&mut lab, |_, response| response.offset = 0xffff);
    lab.receive_all();
    // It shows no reaction to the frontend's closing.
    for _ in 0..120 {
        lab.bed.executor.run_for(Duration::from_millis(100));
    }
    assert!(!lab.device.link_is_up());
    let message = errors().pop().expect("an error");
    assert!(
        message.contains("frontend is Closed, backend is Connected"),
        "{message}"
    );
    assert!(message.contains("does not let go"), "{message}");
    lab.pass(Duration::from_secs(2));
    lab.assert_working();
}

#[test]
fn no_byte_is_read_twice() {
    let mut lab = Lab::connected();
    lab.bed.hypervisor.lie_at_second_read(true);
    for _ in 0..300 {
        lab.assert_working();
    }
    let large = plain_frame(9000, 5);
    let packet = netfront::fake::Packet::cut(&large, 1000, ReceiveFlags::DATA_VALIDATED);
    assert_eq!(lab.deliver(packet), Some(large));
    let large = crate::checksums::frame(6, crate::checksums::TCP, [0, 0], &[7; 65_000]);
    let segmentation = netfront::wire::Segmentation {
        ip_version: netfront::checksum::IpVersion::V6,
        segment_bytes: std::num::NonZeroU16::MAX,
    };
    let packet = netfront::fake::Packet::segmented(&large, segmentation);
    assert_eq!(lab.deliver(packet), Some(large));
    assert_eq!(lab.bed.hypervisor.double_reads(), 0);
}

/// Random bytes all over both rings, events at random, for many rounds: nothing panics, memory
/// stays bounded, and an honest backend gets a connection afterwards.
#[test]
fn scribbling_over_the_rings_does_no_harm() {
    let random = Random::new(0x5eed);
    let mut lab = Lab::connected();
    let frame = plain_frame(1514, 1);
    let long = crate::checksums::frame(4, crate::checksums::TCP, [0, 0], &[7; 9000]);
    let payload = std::num::NonZeroU16::new(1460).expect("it is not zero");
    let mut broken = 0;
    for round in 0..4000 {
        if lab.backend.is_connected() {
            for _ in 0..1 + random.below(6) {
                scribble(&mut lab, &random);
            }
            if random.below(2) == 0 {
                lab.backend.rings().notify_receive();
                lab.backend.rings().notify_transmit();
            }
        }
        match random.below(3) {
            0 => {
                let _ = lab.poll_event();
            }
            1 => {
                lab.receive_all();
            }
            _ => {
                for _ in 0..random.below(300) {
                    let _ = match random.below(4) {
                        0 => lab.device.transmit(&long, Offload::Segments { payload }),
                        _ => lab.device.transmit(&frame, Offload::Checksum),
                    };
                }
                lab.device.flush();
            }
        }
        let statistics = lab.device.statistics();
        assert!(statistics.receive_pages <= 256 && statistics.transmit_pages <= 256);
        if !statistics.link_is_up && lab.backend.is_connected() {
            // The frontend noticed. Give it a fresh backend, without losing time.
            broken += 1;
            lab.backend.unmap();
            lab.backend.set_state(State::Closed);
            for _ in 0..700 {
                lab.bed.executor.run_for(Duration::from_millis(100));
                if lab.backend.frontend_state() == State::Initialising {
                    break;
                }
            }
            lab.backend.set_state(State::InitWait);
            lab.settle();
            assert!(
                lab.device.link_is_up(),
                "round {round}: {}",
                lab.device.describe()
            );
        }
    }
    assert!(broken > 100, "only {broken} of the rounds did harm");
    assert!(lab.bed.hypervisor.granted_pages().len() <= 2 + 256 + 256);
}

fn scribble(lab: &mut Lab, random: &Random) {
    let rings = lab.backend.rings();
    let (page, next) = match random.below(2) {
        0 => (rings.transmit_page(), rings.next_transmit_response()),
        _ => (rings.receive_page(), rings.next_receive_response()),
    };
    match random.below(8) {
        0 => page.store(RESPONSE_PRODUCER, random.next() as u32),
        1 | 2 => page.store(
            RESPONSE_PRODUCER,
            next.value().wrapping_add(random.below(300) as u32),
        ),
        3 => page.store(random.below(16) as usize, random.next() as u32),
        // Small values are plausible ids, lengths and flags.
        4 | 5 => page.store(
            16 + random.below(1008) as usize,
            (random.below(256) as u32) << (8 * random.below(4)),
        ),
        _ => page.store(16 + random.below(1008) as usize, random.next() as u32),
    }
}
