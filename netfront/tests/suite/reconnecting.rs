use std::time::Duration;

use netfront::Offload;
use netfront::fake::{Options, Packet};
use netfront::wire::ReceiveFlags;
use xen_proto::hypervisor::DomainId;
use xen_proto::xenbus::State;

use crate::support::{Lab, MAC, errors, plain_frame};

/// Domains other than the usual one.
const OTHER: DomainId = DomainId(5);

#[test]
fn a_backend_that_closes_and_returns_is_connected_again() {
    let mut lab = Lab::connected();
    for _ in 0..3 {
        lab.drain_events();
        let wakes = lab.wakes();
        lab.backend.set_state(State::Closing);
        lab.bed.executor.run_until_stalled();
        assert!(!lab.device.link_is_up());
        assert!(lab.wakes() > wakes, "the device tells of it");
        assert!(lab.poll_event().is_ready());
        assert!(lab.poll_event().is_pending());
        assert_eq!(lab.backend.frontend_state(), State::Closed);
        // Dropped and counted while the link is down.
        assert_eq!(
            lab.device.transmit(&plain_frame(60, 1), Offload::None),
            Ok(())
        );
        lab.settle();
        lab.assert_working();
    }
    assert_eq!(lab.device.statistics().counters.transmit_drops.link_down, 3);
    assert_eq!(lab.device.statistics().counters.connections, 4);
    assert_eq!(errors(), Vec::<String>::new());
}

#[test]
fn a_backend_that_says_closed_at_once_is_no_different() {
    let mut lab = Lab::connected();
    lab.backend.unmap();
    lab.backend.set_state(State::Closed);
    lab.settle();
    lab.assert_working();
    assert_eq!(lab.backend.connections(), 2);
}

#[test]
fn frames_from_before_do_not_come_after() {
    let mut lab = Lab::connected();
    let packet = Packet::cut(&plain_frame(5000, 0x66), 4096, ReceiveFlags::empty());
    lab.backend.rings().send(packet);
    lab.settle();
    lab.device
        .transmit(&plain_frame(60, 0x77), Offload::None)
        .expect("there is room");
    lab.backend.set_state(State::Closing);
    lab.settle();
    assert_eq!(lab.receive(), None);
    lab.device.flush();
    lab.settle();
    assert!(lab.backend.rings().received.is_empty());
    lab.assert_working();
}

#[test]
fn a_backend_that_dies_and_is_started_again() {
    let mut lab = Lab::connected();
    for _ in 0..5 {
        lab.backend.die();
        lab.settle();
        assert!(!lab.device.link_is_up());
        lab.pass(Duration::from_secs(1));
        lab.backend.start();
        lab.settle();
        lab.assert_working();
    }
}

#[test]
fn a_backend_restarted_between_two_looks_is_noticed() {
    let mut lab = Lab::connected();
    lab.backend.die();
    lab.backend.start();
    lab.settle();
    lab.assert_working();
    assert_eq!(lab.backend.connections(), 2);
}

#[test]
fn a_backend_that_returned_too_soon_may_say_that_it_closed() {
    let mut lab = Lab::connected();
    lab.backend.die();
    lab.backend.start();
    // It may have seen our old state, and be mapping what we take back now.
    lab.bed.executor.run_for(Duration::from_millis(4900));
    assert_eq!(lab.backend.frontend_state(), State::Closed);
    lab.settle();
    lab.assert_working();
    assert_eq!(errors(), Vec::<String>::new());
}

#[test]
fn a_backend_that_does_not_say_that_it_closed_is_connected_all_the_same() {
    let mut lab = Lab::connected();
    lab.backend.die();
    lab.backend.start();
    // It does nothing meanwhile.
    lab.bed.executor.run_for(Duration::from_millis(5100));
    assert_eq!(lab.backend.state(), State::InitWait);
    assert_eq!(lab.backend.frontend_state(), State::Connected);
    lab.settle();
    lab.assert_working();
}

#[test]
fn a_backend_in_another_domain_gets_grants_of_its_own() {
    let mut lab = Lab::connected();
    lab.assert_working();
    let before = lab.bed.hypervisor.granted_pages().len();
    lab.backend.die();
    lab.backend.options_mut().domain = OTHER;
    lab.backend.options_mut().split_event_channels = false;
    lab.backend.start();
    lab.settle();
    // The fake maps as domain 5, which only works with grants and ports made for it.
    lab.assert_working();
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), before);
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
}

#[test]
fn a_backend_that_moves_before_it_connects() {
    let mut lab = Lab::connected_with(Options {
        ..Options::default()
    });
    lab.backend.options_mut().never_connects = true;
    lab.backend.set_state(State::Closing);
    lab.settle();
    assert_eq!(lab.backend.frontend_state(), State::Connected);
    // The rings are published for domain 0; now domain 5 is to take them up.
    lab.backend.die();
    lab.backend.options_mut().domain = OTHER;
    lab.backend.options_mut().never_connects = false;
    lab.backend.start();
    // Not connected before the rings are published anew.
    lab.bed.executor.run_until_stalled();
    lab.settle();
    lab.assert_working();
}

#[test]
fn mac_and_mtu_may_change_in_between() {
    let mut lab = Lab::connected();
    lab.backend.set_state(State::Closing);
    lab.backend.write_frontend("mac", "02:00:00:00:00:09");
    lab.backend.write_frontend("mtu", "4000");
    lab.settle();
    assert_eq!(lab.device.mac(), [2, 0, 0, 0, 0, 9]);
    assert_eq!(lab.device.mtu(), 4000);
    lab.assert_working();
}

#[test]
fn a_device_that_is_detached_gives_everything_back_and_can_be_attached_again() {
    let mut lab = Lab::connected();
    for _ in 0..3 {
        lab.assert_working();
        lab.backend.detach();
        lab.settle();
        assert!(!lab.device.link_is_up());
        assert_eq!(lab.backend.frontend_state(), State::Closed);
        assert_eq!(lab.backend.state(), State::Closed);
        lab.backend.remove();
        lab.settle();
        assert_eq!(lab.bed.hypervisor.granted_pages(), []);
        assert_eq!(lab.bed.hypervisor.open_ports(), 1, "xenstore's");
        assert_eq!(
            lab.bed.xenstored.read("device/vif/0/state"),
            None,
            "the frontend does not write where nothing is"
        );

        lab.backend = netfront::fake::FakeBackend::plug(&lab.bed, 0, MAC, Options::default());
        lab.settle();
    }
    lab.assert_working();
}

#[test]
fn a_device_taken_away_while_connecting_gives_everything_back() {
    let mut lab = Lab::plugged(Options {
        never_connects: true,
        ..Options::default()
    });
    lab.settle();
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), 82);
    lab.backend.remove();
    lab.settle();
    assert_eq!(lab.bed.hypervisor.granted_pages(), []);
    assert_eq!(lab.bed.hypervisor.open_ports(), 1, "xenstore's");
}

#[test]
fn nodes_that_vanish_without_a_word_are_survived() {
    let mut lab = Lab::connected();
    lab.backend.remove();
    lab.settle();
    assert!(!lab.device.link_is_up());
    assert_eq!(lab.bed.hypervisor.granted_pages(), []);
    lab.pass(Duration::from_secs(30));
    assert_eq!(lab.bed.xenstored.read("device/vif/0/state"), None);
    assert_eq!(errors(), Vec::<String>::new(), "nobody misses it");
    // Once it is there again, it is.
    let options = Options {
        never_connects: true,
        ..Options::default()
    };
    lab.backend = netfront::fake::FakeBackend::plug(&lab.bed, 0, MAC, options);
    lab.pass(Duration::from_secs(11));
    assert_eq!(errors().len(), 1);
}

#[test]
fn a_hundred_reconnects_leave_grants_and_ports_as_they_were() {
    let mut lab = Lab::connected();
    lab.assert_working();
    let pages = lab.bed.hypervisor.granted_pages();
    let ports = lab.bed.hypervisor.open_ports();
    let watches = lab.bed.xenstored.watches();
    for round in 0..100 {
        match round % 3 {
            0 => lab.backend.set_state(State::Closing),
            1 => {
                lab.backend.unmap();
                lab.backend.set_state(State::Closed);
            }
            _ => {
                lab.backend.die();
                lab.backend.start();
            }
        }
        lab.settle();
        lab.assert_working();
    }
    assert_eq!(lab.backend.connections(), 101);
    assert_eq!(lab.bed.hypervisor.granted_pages(), pages);
    assert_eq!(lab.bed.hypervisor.open_ports(), ports);
    assert_eq!(lab.bed.xenstored.watches(), watches);
    assert_eq!(lab.bed.xenstored.open_transactions(), 0);
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
}

#[test]
fn every_order_of_states_ends_in_a_connection() {
    let random = xen_proto::fake::Random::new(3);
    let mut lab = Lab::connected();
    for _ in 0..300 {
        for _ in 0..random.below(4) {
            let state = State::ALL[random.below(9) as usize];
            lab.backend.unmap();
            lab.backend.set_state(state);
            if random.below(2) == 0 {
                lab.bed.executor.run_until_stalled();
            }
        }
        lab.backend.unmap();
        lab.backend.set_state(State::Closing);
        lab.pass(Duration::from_millis(200));
        lab.pass(Duration::from_secs(1));
        lab.assert_working();
    }
}

#[test]
fn an_action_that_xenstore_refuses_is_done_later() {
    let mut lab = Lab::connected();
    for _ in 0..3 {
        // More than a transaction is tried: closing fails at first, then publishing.
        lab.bed.xenstored.refuse_commits(20);
        lab.backend.set_state(State::Closing);
        lab.settle();
        assert!(!lab.device.link_is_up());
        lab.pass(Duration::from_secs(3));
        lab.bed.xenstored.refuse_commits(20);
        lab.pass(Duration::from_secs(3));
        lab.assert_working();
    }
    let mut other = Lab::plugged(Options::default());
    other.bed.xenstored.refuse_commits(1 + 20);
    other.pass(Duration::from_secs(5));
    other.assert_working();
}
