//! Memory and ports that run out, and what a peer gets to see.

use std::time::Duration;

use netfront::Offload;
use netfront::fake::{Completion, Options, Packet};
use netfront::wire::ReceiveFlags;

use crate::support::{Lab, clear_log, errors, log_lines, plain_frame};

/// Pages and ports of one connection: two rings, 64 pages to receive into, 16 to
/// transmit from, two ports.
const ALLOCATIONS: u64 = 84;

#[test]
fn whichever_allocation_fails_it_connects_in_the_end() {
    for number in 0..ALLOCATIONS {
        let mut lab = Lab::plugged(Options::default());
        lab.bed.hypervisor.refuse_allocation(number);
        lab.settle();
        // Two rings, 18 pages to receive into, one to transmit from and both ports are needed.
        let needed = number < 2 + 18 || number == 2 + 64 || number >= 2 + 64 + 16;
        assert_eq!(lab.device.link_is_up(), !needed, "allocation {number}");
        assert_eq!(errors().len(), usize::from(needed), "{:?}", errors());
        clear_log();
        lab.pass(Duration::from_secs(3));
        lab.assert_working();
        lab.backend.remove();
        lab.settle();
        assert_eq!(
            lab.bed.hypervisor.granted_pages(),
            [],
            "allocation {number}"
        );
        assert_eq!(lab.bed.hypervisor.open_ports(), 1, "allocation {number}");
    }
}

#[test]
fn with_too_few_pages_it_says_so_and_goes_on_trying() {
    let mut lab = Lab::plugged(Options::default());
    lab.bed.hypervisor.limit_pages(10);
    lab.pass(Duration::from_secs(5));
    assert_eq!(
        errors(),
        ["ERROR vif0: cannot connect to domain 0: no page left to grant"]
    );
    assert_eq!(lab.bed.hypervisor.granted_pages(), []);
    lab.bed.hypervisor.limit_pages(100);
    lab.pass(Duration::from_secs(20));
    lab.assert_working();
}

#[test]
fn two_interfaces_begin_with_164_pages() {
    let lab = Lab::connected();
    // Two thirds of a MiB for two, of a guest with 8.
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), 82);
    assert_eq!(lab.bed.hypervisor.allocations(), ALLOCATIONS);
}

#[test]
fn receiving_grows_under_load_and_no_packet_grants_anything() {
    let mut lab = Lab::connected();
    let frame = plain_frame(1514, 1);
    for _ in 0..100 {
        lab.deliver(Packet::whole(&frame, ReceiveFlags::empty()));
        lab.poll_event().is_ready();
    }
    assert_eq!(
        lab.device.statistics().receive_pages,
        64,
        "without load it stays"
    );
    for _ in 0..20 {
        flood(&mut lab, 300);
    }
    assert_eq!(lab.device.statistics().receive_pages, 256);
    let allocations = lab.bed.hypervisor.allocations();
    for _ in 0..1000 {
        lab.assert_working();
    }
    assert_eq!(lab.bed.hypervisor.allocations(), allocations);
    assert_eq!(lab.backend.rings().grants_seen.len(), 256 + 16);
}

/// Sends frames faster than the guest offers pages, and waits for them all.
fn flood(lab: &mut Lab, frames: usize) {
    for _ in 0..frames {
        let packet = Packet::whole(&plain_frame(1514, 1), ReceiveFlags::empty());
        lab.backend.rings().send(packet);
    }
    let mut received = 0;
    while received < frames {
        lab.settle();
        let _ = lab.poll_event();
        let before = received;
        received += lab.receive_all().len();
        assert!(received > before, "it stands still after {received} frames");
    }
}

#[test]
fn after_load_pages_are_given_back() {
    let mut lab = Lab::connected();
    for _ in 0..20 {
        flood(&mut lab, 300);
    }
    // A burst out, too.
    lab.backend.options_mut().completion = Completion::Never;
    let frame = plain_frame(1514, 1);
    while lab.device.transmit(&frame, Offload::None).is_ok() {}
    lab.settle();
    while lab.backend.rings().outstanding() > 0 {
        lab.backend
            .rings()
            .complete(0, netfront::wire::TransmitStatus::Okay);
    }
    lab.backend.rings().publish();
    lab.backend.options_mut().completion = Completion::AtOnce;
    lab.drain_events();
    let pages = |lab: &Lab| {
        let statistics = lab.device.statistics();
        (statistics.receive_pages, statistics.transmit_pages)
    };
    assert_eq!(pages(&lab), (256, 256));
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), 2 + 512);

    // The load was in the first ten seconds. After it, a little traffic goes on, without which
    // the backend would keep what it was offered.
    let mut seen = vec![pages(&lab)];
    for _ in 0..100 {
        lab.pass(Duration::from_secs(1));
        for _ in 0..20 {
            lab.deliver(Packet::whole(&frame, ReceiveFlags::empty()));
            lab.drain_events();
        }
        lab.transmit(&frame, Offload::None);
        if seen.last() != Some(&pages(&lab)) {
            seen.push(pages(&lab));
        }
    }
    assert_eq!(pages(&lab), (64, 16), "{seen:?}");
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), 82);
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
    assert!(
        seen.windows(2)
            .all(|pair| pair[1].0 <= pair[0].0 && pair[1].1 <= pair[0].1)
    );
    // And load that comes again finds them again.
    for _ in 0..20 {
        flood(&mut lab, 300);
    }
    assert_eq!(pages(&lab).0, 256);
}

#[test]
fn pages_that_are_needed_stay() {
    let mut lab = Lab::connected();
    for _ in 0..10 {
        for _ in 0..5 {
            flood(&mut lab, 300);
        }
        lab.pass(Duration::from_secs(5));
        assert_eq!(lab.device.statistics().receive_pages, 256);
    }
}

#[test]
fn an_interface_without_load_wakes_nobody() {
    let mut lab = Lab::connected();
    for _ in 0..20 {
        flood(&mut lab, 300);
    }
    lab.drain_events();
    lab.settle();
    assert!(lab.bed.hypervisor.next_deadline().is_some());
    lab.pass(Duration::from_secs(60));
    assert_eq!(lab.bed.hypervisor.next_deadline(), None);
}

#[test]
fn receiving_that_cannot_grow_goes_on_as_it_is() {
    let mut lab = Lab::connected();
    lab.bed.hypervisor.limit_pages(5);
    for _ in 0..10 {
        flood(&mut lab, 200);
    }
    assert_eq!(lab.device.statistics().receive_pages, 69);
    let lines = log_lines();
    let lines = lines
        .iter()
        .filter(|line| line.contains("stays at 69 pages"));
    assert_eq!(lines.count(), 1);
}

/// Connected, with so many pages to transmit from and none to be had.
fn with_transmit_pages(pages: usize, completion: Completion) -> Lab {
    let options = Options {
        completion,
        ..Options::default()
    };
    let mut lab = Lab::prepared(options, |backend| backend.write_frontend("mtu", "9000"));
    lab.bed.hypervisor.limit_pages(2 + 64 + pages);
    lab.settle();
    assert_eq!(lab.device.statistics().transmit_pages, pages);
    lab
}

#[test]
fn frames_without_a_page_are_dropped_rather_than_stuck() {
    let mut lab = with_transmit_pages(2, Completion::AtOnce);
    let large = plain_frame(9000, 1);
    assert_eq!(lab.device.transmit(&large, Offload::None), Ok(()));
    assert_eq!(lab.device.statistics().counters.transmit_drops.memory, 1);
    for bytes in [100, 4096, 4097, 8192] {
        let frame = plain_frame(bytes, 1);
        assert_eq!(lab.transmit(&frame, Offload::None), frame);
    }
    // Once there is memory, it is taken.
    lab.bed.hypervisor.limit_pages(10);
    assert_eq!(lab.transmit(&large, Offload::None), large);
    assert_eq!(lab.device.statistics().transmit_pages, 3);
}

#[test]
fn the_largest_frame_can_be_sent_though_all_memory_is_taken() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        backend.write_frontend("mtu", "65521");
    });
    lab.settle();
    lab.bed.hypervisor.limit_pages(0);
    let frame = plain_frame(65535, 7);
    assert_eq!(lab.transmit(&frame, Offload::None), frame);
}

#[test]
fn pages_in_flight_are_waited_for_rather_than_dropped() {
    let mut lab = with_transmit_pages(2, Completion::Never);
    let frame = plain_frame(100, 1);
    assert_eq!(lab.device.transmit(&frame, Offload::None), Ok(()));
    assert_eq!(lab.device.transmit(&frame, Offload::None), Ok(()));
    assert!(lab.device.transmit(&frame, Offload::None).is_err());
    lab.settle();
    lab.drain_events();
    let wakes = lab.wakes();
    lab.backend
        .rings()
        .complete(1, netfront::wire::TransmitStatus::Okay);
    lab.backend.rings().publish();
    assert!(lab.wakes() > wakes);
    assert!(lab.poll_event().is_ready());
    assert_eq!(lab.device.transmit(&frame, Offload::None), Ok(()));
}

/// A peer sees frames and nothing else, whatever lies about in our memory.
#[test]
fn no_granted_page_holds_what_is_not_a_frame() {
    const CANARY: u8 = 0xc5;
    let canaries: Vec<Vec<u8>> = (0..500).map(|_| vec![CANARY; 4096]).collect();
    drop(canaries);
    let stack = std::hint::black_box([CANARY; 16384]);
    let mut lab = Lab::connected();
    for _ in 0..200 {
        lab.assert_working();
        let frame = plain_frame(777, 0x11);
        lab.transmit(&frame, Offload::Checksum);
    }
    let mut pages = 0;
    lab.bed
        .hypervisor
        .for_each_granted_page(|reference, bytes| {
            pages += 1;
            let run = bytes.windows(8).any(|window| window == [CANARY; 8]);
            assert!(!run, "grant {reference} shows foreign memory");
        });
    assert!(pages >= 82);
    assert_eq!(stack[0], CANARY);
}
