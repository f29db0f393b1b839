use std::time::Duration;

use netfront::fake::{FakeBackend, Options};
use netfront::{ChecksumOffload, Offload, list_vifs};
use xen_proto::fake::{Misbehave, TestBed};
use xen_proto::hypervisor::DomainId;
use xen_proto::xenbus::State;

use crate::support::{Lab, MAC, errors, log_lines, start};

#[test]
fn it_connects_with_everything_linux_offers() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        backend.write_backend("ip", "10.0.0.2");
        backend.write_frontend("mtu", "9000");
    });
    lab.settle();
    assert!(lab.poll_event().is_ready());
    assert!(lab.device.link_is_up());
    assert_eq!(lab.device.name(), "vif0");
    assert_eq!(lab.device.mac(), [0x00, 0x16, 0x3e, 0x12, 0x34, 0x56]);
    assert_eq!(lab.device.mtu(), 9000);
    assert_eq!(lab.device.assigned_address(), Some("10.0.0.2"));
    let offload = ChecksumOffload {
        transmit_ipv4: true,
        transmit_ipv6: true,
        receive_verified: true,
    };
    assert_eq!(lab.device.checksum_offload(), offload);
    let statistics = lab.device.statistics();
    assert_eq!(statistics.frontend, State::Connected);
    assert_eq!(statistics.backend, State::Connected);
    assert_eq!(statistics.counters.connections, 1);
    for (key, value) in [
        ("request-rx-copy", "1"),
        ("feature-rx-notify", "1"),
        ("feature-sg", "1"),
        ("feature-ipv6-csum-offload", "1"),
        ("state", "4"),
    ] {
        assert_eq!(
            lab.backend.read_frontend(key).as_deref(),
            Some(value),
            "{key}"
        );
    }
    assert_eq!(lab.bed.hypervisor.open_ports(), 3, "two and xenstore's");
    assert_eq!(errors(), Vec::<String>::new());
    lab.assert_working();
}

/// On a real host each round trip is some scheduling of two domains, and each request some work
/// of xenstored.
#[test]
fn a_new_interface_connects_in_four_round_trips() {
    let lab = Lab::connected();
    // Who and where; what the backend offers; the rings; that it is connected, and the device the same.
    assert_eq!(lab.bed.xenstored.batches(), 4);
    let requests = lab.bed.xenstored.received();
    assert_eq!(requests.len(), 7 + 11 + 15 + 5, "{requests:?}");
}

/// The rings are written without a transaction: into a device that was taken away at any moment of
/// the start, they must not stay. Here the guest may create nodes under `device/vif`, which libxl
/// forbids.
#[test]
fn a_device_taken_away_while_its_rings_are_written_is_not_made_again() {
    // From the first request to the last of those that a start makes.
    for count in 0..=7 + 11 + 15 {
        let mut lab = Lab::plugged(Options {
            never_connects: true,
            ..Options::default()
        });
        let xenstored = lab.bed.xenstored.clone();
        xenstored.set_owner("device/vif", TestBed::GUEST, &[]);
        // One request at a time.
        xenstored.misbehave(Misbehave::Dribble(16));
        let removed = lab.bed.executor.spawn(async move {
            xenstored
                .wait_until(|xenstored| xenstored.received().len() >= count)
                .await;
            xenstored.remove("device/vif/0");
        });
        lab.settle();
        assert!(removed.take().is_some(), "there were {count} requests");
        let left = lab.bed.xenstored.directory("device/vif");
        assert_eq!(left, Vec::<String>::new(), "after {count} requests");
        assert_eq!(lab.bed.hypervisor.granted_pages(), []);
        assert_eq!(lab.bed.xenstored.open_transactions(), 0);

        lab.bed.xenstored.behave();
        lab.backend = FakeBackend::plug(&lab.bed, 0, MAC, Options::default());
        lab.settle();
        lab.assert_working();
    }
}

#[test]
fn a_backend_that_offers_nothing_is_enough() {
    let mut lab = Lab::connected_with(Options {
        scatter_gather: false,
        split_event_channels: false,
        no_checksum_offload: true,
        ipv6_checksum_offload: false,
        ..Options::default()
    });
    let offload = ChecksumOffload {
        transmit_ipv4: false,
        transmit_ipv6: false,
        receive_verified: true,
    };
    assert_eq!(lab.device.checksum_offload(), offload);
    assert_eq!(lab.device.mtu(), 1500);
    assert_eq!(lab.bed.hypervisor.open_ports(), 2, "one and xenstore's");
    lab.assert_working();
}

#[test]
fn keys_left_by_a_boot_loader_are_removed() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        for key in [
            "event-channel",
            "multi-queue-num-queues",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
            "feature-no-csum-offload",
        ] {
            backend.write_frontend(key, "1");
        }
    });
    lab.settle();
    lab.assert_working();
}

#[test]
fn an_interface_left_connected_is_connected_anew() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        backend.write_frontend("state", "4");
    });
    lab.backend.set_state(State::Connected);
    lab.settle();
    assert_eq!(lab.backend.connections(), 1);
    lab.assert_working();
}

#[test]
fn several_interfaces_do_not_mix() {
    let bed = TestBed::new();
    let options = Options::default;
    let mut other = FakeBackend::plug(&bed, 3, "00:16:3e:00:00:03", options());
    let backend = FakeBackend::plug(&bed, 0, MAC, options());
    let store = bed.store.clone();
    let found = bed
        .executor
        .block_on(async move { list_vifs(&store).await });
    assert_eq!(found, Ok(vec![0, 3]));

    let mut second = start(&bed, 3);
    let mut lab = Lab::around(bed, backend, 0);
    for _ in 0..20 {
        lab.settle();
        other.service();
    }
    assert!(second.link_is_up());
    assert_eq!(second.name(), "vif3");
    assert_eq!(second.mac(), [0x00, 0x16, 0x3e, 0, 0, 3]);
    lab.assert_working();
    let frame = crate::support::plain_frame(100, 3);
    second
        .transmit(&frame, Offload::None)
        .expect("there is room");
    second.flush();
    other.service();
    assert_eq!(
        other.rings().received.pop_front().map(|sent| sent.bytes),
        Some(frame)
    );
    assert!(lab.backend.rings().received.is_empty());
}

#[test]
fn a_guest_without_interfaces_has_an_empty_list() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let found = bed
        .executor
        .block_on(async move { list_vifs(&store).await });
    assert_eq!(found, Ok(vec![]));
}

#[test]
fn the_address_is_known_before_there_is_a_backend() {
    let mut lab = Lab::plugged(Options::default());
    lab.backend.set_state(State::Initialising);
    lab.settle();
    assert!(!lab.device.link_is_up());
    assert_eq!(lab.device.mac(), [0x00, 0x16, 0x3e, 0x12, 0x34, 0x56]);
}

#[test]
fn a_backend_that_never_connects_is_reported_with_both_states() {
    let mut lab = Lab::plugged(Options {
        never_connects: true,
        ..Options::default()
    });
    lab.backend.write_backend("hotplug-status", "error");
    lab.backend.write_backend("hotplug-error", "no bridge");
    lab.pass(Duration::from_secs(9));
    assert_eq!(errors(), Vec::<String>::new());
    lab.pass(Duration::from_secs(2));
    assert_eq!(
        errors(),
        [
            "ERROR vif0: no connection for 10 s: frontend is Connected, backend is InitWait: \
             /local/domain/0/backend/vif/7/0: it has not taken up the rings, \
             hotplug-status = \"error\", hotplug-error = \"no bridge\"; still trying"
        ]
    );
    // More rarely from then on, and it does go on trying.
    lab.pass(Duration::from_secs(300));
    assert_eq!(errors().len(), 5, "{:?}", errors());
    lab.backend.options_mut().never_connects = false;
    lab.settle();
    lab.assert_working();
}

#[test]
fn a_missing_driver_is_told_from_a_slow_one() {
    let mut lab = Lab::plugged(Options::default());
    lab.backend.die();
    lab.pass(Duration::from_secs(11));
    let message = errors().pop().expect("an error");
    assert!(
        message.contains("frontend is Initialising, backend is Unknown"),
        "{message}"
    );
    assert!(message.contains("is its driver loaded?"), "{message}");
    lab.backend.start();
    lab.settle();
    lab.assert_working();
}

#[test]
fn a_device_without_nodes_is_reported() {
    let mut lab = Lab::plugged(Options::default());
    lab.backend.remove();
    lab.pass(Duration::from_secs(11));
    let message = errors().pop().expect("an error");
    assert!(
        message.contains("device/vif/0 names no backend"),
        "{message}"
    );
}

#[test]
fn a_malformed_mac_is_named_and_tried_again() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        backend.write_frontend("mac", "00:16:3e:zz:34:56");
    });
    lab.pass(Duration::from_secs(8));
    assert!(!lab.device.link_is_up());
    let expected = "ERROR vif0: cannot connect: mac = \"00:16:3e:zz:34:56\" is not of the form \
                    00:16:3e:12:34:56";
    assert_eq!(errors(), [expected], "once, however often it is tried");
    assert!(lab.device.statistics().counters.failed_attempts > 1);
    lab.backend.write_frontend("mac", MAC);
    lab.pass(Duration::from_secs(60));
    lab.assert_working();
}

#[test]
fn an_impossible_mtu_is_named_and_1500_used() {
    for mtu in ["0", "65536"] {
        let mut lab = Lab::prepared(Options::default(), |backend| {
            backend.write_frontend("mtu", mtu);
        });
        lab.settle();
        assert_eq!(lab.device.mtu(), 1500);
        let message = errors().pop().expect("an error");
        assert!(message.contains(&format!("mtu = {mtu:?}")), "{message}");
        lab.assert_working();
    }
}

#[test]
fn states_that_make_no_sense_are_survived() {
    for state in ["", "-1", "7", "999", "\u{fffd}"] {
        let mut lab = Lab::connected();
        lab.backend.write_backend("state", state);
        lab.settle();
        lab.backend.unmap();
        lab.backend.set_state(State::InitWait);
        lab.settle();
        lab.pass(Duration::from_secs(2));
        lab.assert_working();
    }
}

#[test]
fn a_bad_backend_id_is_waited_out() {
    for id in ["", "-1", "65536", "zero"] {
        let mut lab = Lab::prepared(Options::default(), |backend| {
            backend.write_frontend("backend-id", id);
        });
        lab.pass(Duration::from_secs(11));
        assert!(!lab.device.link_is_up());
        lab.backend.write_frontend("backend-id", "0");
        lab.backend
            .write_frontend("backend", "/local/domain/0/backend/vif/7/0");
        lab.settle();
        lab.assert_working();
    }
}

#[test]
fn a_slow_xenstored_delays_and_is_not_given_up() {
    let mut lab = Lab::plugged(Options::default());
    lab.bed.xenstored.misbehave(Misbehave::Frozen);
    lab.pass(Duration::from_secs(60));
    assert!(!lab.device.link_is_up());
    lab.bed.xenstored.behave();
    lab.pass(Duration::from_secs(15));
    lab.assert_working();
}

#[test]
fn frames_flow_on_while_xenstored_stands_still() {
    let mut lab = Lab::connected();
    lab.bed.xenstored.misbehave(Misbehave::Frozen);
    lab.pass(Duration::from_secs(60));
    lab.assert_working();
}

#[test]
fn a_broken_xenstored_leaves_the_connection_alone() {
    let mut lab = Lab::connected();
    lab.bed.xenstored.send_raw(&[0xff; 16]);
    lab.pass(Duration::from_secs(5));
    assert!(log_lines().iter().any(|line| line.contains("xenstore")));
    lab.assert_working();
}

#[test]
fn a_backend_in_a_driver_domain_works() {
    let mut lab = Lab::connected_with(Options {
        domain: DomainId(3),
        ..Options::default()
    });
    lab.assert_working();
}
