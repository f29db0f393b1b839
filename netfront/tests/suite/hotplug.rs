//! `xl network-attach` and `network-detach`, in every state and order.

use std::task::Poll;
use std::time::Duration;

use netfront::fake::{FakeBackend, Options};
use xen_proto::fake::{Random, TestBed};
use xen_proto::hypervisor::DomainId;
use xen_proto::xenbus::State;

use crate::support::{Lab, MAC, clear_log, errors, log_lines, start};

/// What the guest holds when it has no network device: xenstore's port.
fn assert_nothing_is_left(bed: &TestBed) {
    assert_eq!(bed.hypervisor.granted_pages(), []);
    assert_eq!(bed.hypervisor.quarantined_pages(), []);
    assert_eq!(bed.hypervisor.open_ports(), 1, "xenstore's");
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn presence_follows_the_nodes() {
    let mut lab = Lab::plugged(Options::default());
    assert_eq!(
        lab.poll_identified(),
        Poll::Pending,
        "nobody has looked yet"
    );
    lab.settle();
    assert_eq!(lab.poll_identified(), Poll::Ready(true));
    assert!(lab.device.is_present());
    lab.drain_events();
    let wakes = lab.wakes();
    lab.backend.remove();
    lab.settle();
    assert!(lab.wakes() > wakes);
    assert!(lab.poll_event().is_ready(), "the device tells of it");
    assert!(!lab.device.is_present());
    assert!(!lab.device.link_is_up());
    assert_eq!(lab.poll_identified(), Poll::Ready(false));
    assert_eq!(lab.device.assigned_address(), None);
    assert_nothing_is_left(&lab.bed);

    // The next one of its name is another one.
    let mac = "00:16:3e:00:00:99";
    lab.backend = FakeBackend::plug(&lab.bed, 0, mac, Options::default());
    lab.backend.write_backend("ip", "10.0.0.9");
    lab.settle();
    assert!(lab.poll_event().is_ready());
    assert!(lab.device.is_present());
    assert_eq!(lab.device.mac()[5], 0x99);
    assert_eq!(lab.device.assigned_address(), Some("10.0.0.9"));
    assert_eq!(lab.device.connections(), 2);
    lab.assert_working();
}

#[test]
fn the_assigned_address_is_known_before_there_is_a_backend() {
    let mut lab = Lab::prepared(Options::default(), |backend| {
        backend.write_backend("ip", " 10.0.0.2 ");
    });
    lab.backend.set_state(State::Initialising);
    lab.settle();
    assert!(!lab.device.link_is_up());
    assert_eq!(lab.poll_identified(), Poll::Ready(true));
    assert_eq!(lab.device.assigned_address(), Some("10.0.0.2"));
}

#[test]
fn an_assigned_address_that_changes_while_the_link_is_down_is_told() {
    let mut lab = Lab::connected();
    lab.drain_events();
    lab.backend.set_state(State::Closing);
    lab.backend.write_backend("ip", "10.0.0.3");
    lab.settle();
    assert!(lab.poll_event().is_ready());
    assert_eq!(lab.device.assigned_address(), Some("10.0.0.3"));
    lab.assert_working();
}

#[test]
fn a_device_that_never_was_there_says_so() {
    let mut lab = Lab::plugged(Options::default());
    lab.backend.remove();
    lab.settle();
    assert_eq!(lab.poll_identified(), Poll::Ready(false));
}

#[test]
fn dropping_a_device_ends_everything_in_order() {
    let mut lab = Lab::connected();
    lab.assert_working();
    let (bed, mut backend) = lab.drop_device();
    bed.executor.run_until_stalled();
    assert_eq!(backend.frontend_state(), State::Closed);
    backend.service();
    assert_nothing_is_left(&bed);
    assert_eq!(bed.xenstored.watches(), 0);
    // Nobody is left who would answer.
    bed.executor.run_for(Duration::from_secs(100));
    assert_eq!(backend.frontend_state(), State::Closed);
    assert_eq!(bed.xenstored.watches(), 0);
}

#[test]
fn dropping_a_device_that_was_taken_away_leaves_no_trace() {
    let mut lab = Lab::connected();
    lab.backend.remove();
    lab.settle();
    let (bed, backend) = lab.drop_device();
    bed.executor.run_until_stalled();
    assert_eq!(backend.read_frontend("state"), None);
    assert_eq!(bed.xenstored.watches(), 0);
    assert_nothing_is_left(&bed);
}

/// Brings a connection into `state`, as seen by the backend, and no further.
fn reach(lab: &mut Lab, state: State) {
    match state {
        State::Connected => lab.settle(),
        state => {
            lab.backend.unmap();
            lab.backend.set_state(state);
            lab.bed.executor.run_until_stalled();
        }
    }
}

#[test]
fn a_detach_in_each_state_gives_everything_back() {
    // As xl does it, with the backend going first; and by force, when the guest did not answer.
    for by_force in [false, true] {
        for state in State::ALL {
            let mut lab = Lab::connected();
            reach(&mut lab, state);
            if !by_force {
                lab.backend.detach();
                lab.settle();
            }
            lab.backend.remove();
            lab.settle();
            assert_nothing_is_left(&lab.bed);
            assert_eq!(lab.backend.read_frontend("state"), None, "in {state}");
            lab.backend = FakeBackend::plug(&lab.bed, 0, MAC, Options::default());
            lab.settle();
            lab.assert_working();
        }
    }
}

#[test]
fn attaching_and_detaching_without_a_pause() {
    let random = Random::new(11);
    let mut lab = Lab::connected();
    for round in 0..200 {
        // Perhaps the frontend gets to see some of it.
        for _ in 0..random.below(3) {
            lab.bed.executor.run_until_stalled();
            lab.backend.service();
        }
        if random.below(2) == 0 {
            lab.backend.detach();
        }
        lab.backend.remove();
        if random.below(2) == 0 {
            lab.bed.executor.run_until_stalled();
        }
        let options = Options {
            split_event_channels: round % 2 == 0,
            ..Options::default()
        };
        lab.backend = FakeBackend::plug(&lab.bed, 0, MAC, options);
    }
    lab.pass(Duration::from_secs(2));
    lab.assert_working();
    lab.backend.remove();
    lab.settle();
    assert_nothing_is_left(&lab.bed);
    assert_eq!(errors(), [""; 0]);
}

#[test]
fn a_device_that_is_exchanged_between_two_looks_is_another_one() {
    let mac = "00:16:3e:00:00:99";
    for connects in [true, false] {
        let mut lab = Lab::plugged(Options {
            never_connects: !connects,
            ..Options::default()
        });
        lab.settle();
        assert_eq!(lab.device.link_is_up(), connects);
        lab.drain_events();
        clear_log();
        lab.backend.remove();
        lab.backend = FakeBackend::plug(&lab.bed, 0, mac, Options::default());
        lab.settle();
        let taken_away = |line: &String| line.contains("the device was taken away");
        assert_eq!(
            log_lines().iter().filter(|line| taken_away(line)).count(),
            1
        );
        assert!(lab.poll_event().is_ready());
        assert!(lab.device.is_present());
        assert_eq!(lab.device.mac()[5], 0x99);
        assert_eq!(lab.backend.connections(), 1);
        lab.assert_working();
        assert_eq!(errors(), [] as [&str; 0]);
    }
}

#[test]
fn a_senseless_state_is_said_once() {
    let mut lab = Lab::connected();
    clear_log();
    for nonsense in ["four", "four", "99"] {
        lab.backend.write_backend("state", nonsense);
        lab.settle();
        // Something else changes there: looked at again.
        lab.backend.write_backend("state", nonsense);
        lab.settle();
    }
    let said = |value: &str| {
        let lines = log_lines();
        let named = format!("state is {value:?}, which is no state");
        lines.iter().filter(|line| line.contains(&named)).count()
    };
    assert_eq!((said("four"), said("99")), (1, 1), "{:?}", log_lines());
}

#[test]
fn the_second_interface_may_come_before_the_first() {
    let bed = TestBed::new();
    let one = FakeBackend::plug(&bed, 1, "00:16:3e:00:00:01", Options::default());
    let mut lab = Lab::around(bed, one, 1);
    lab.settle();
    lab.assert_working();
    let mut zero = FakeBackend::plug(&lab.bed, 0, MAC, Options::default());
    let device = start(&lab.bed, 0);
    for _ in 0..20 {
        lab.settle();
        zero.service();
    }
    assert!(device.link_is_up());
    assert_eq!((lab.device.name(), device.name()), ("vif1", "vif0"));
    lab.backend.remove();
    lab.settle();
    assert!(device.link_is_up(), "one does not concern the other");
    assert!(!lab.device.is_present());
}

#[test]
fn features_that_are_not_numbers_are_named_and_done_without() {
    const FEATURES: [&str; 6] = [
        "feature-sg",
        "feature-split-event-channels",
        "feature-no-csum-offload",
        "feature-ipv6-csum-offload",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
    ];
    for value in ["", "-1", "yes", "18446744073709551616", "0x1"] {
        let mut lab = Lab::prepared(Options::default(), |backend| {
            for feature in FEATURES {
                backend.write_backend(feature, value);
            }
            backend.write_backend("multi-queue-max-queues", "4294967296");
        });
        // The backend is told what to expect of a frontend that believes none of it.
        lab.backend.options_mut().split_event_channels = false;
        clear_log();
        lab.settle();
        for feature in FEATURES {
            let line = format!("ERROR vif0: {feature} = {value:?} is not a number");
            assert!(errors().contains(&line), "{line}: {:?}", errors());
        }
        lab.assert_working();
    }
}

#[test]
fn a_backend_id_that_changes_under_way_moves_the_connection() {
    let mut lab = Lab::connected();
    for domain in [5, 0, 9, 0] {
        // Only the number, while the backend still says Connected.
        lab.backend.write_frontend("backend-id", "77");
        lab.backend.set_state(State::Connected);
        lab.bed.executor.run_until_stalled();
        assert!(
            !lab.device.link_is_up(),
            "what was granted to another is of no use"
        );
        lab.backend.die();
        lab.backend.options_mut().domain = DomainId(domain);
        lab.backend.start();
        lab.pass(Duration::from_secs(2));
        lab.assert_working();
    }
    assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
    assert_eq!(lab.bed.hypervisor.granted_pages().len(), 82);
}

#[test]
fn a_backend_that_toggles_for_ever_is_outlasted() {
    let mut lab = Lab::connected();
    let pages = lab.bed.hypervisor.granted_pages();
    for round in 0..2000 {
        lab.backend.unmap();
        let state = State::ALL[round % 9];
        lab.backend.set_state(state);
        lab.bed.executor.run_until_stalled();
        assert!(errors().len() < 10, "{:?}", errors());
    }
    lab.backend.set_state(State::Closing);
    lab.pass(Duration::from_secs(2));
    lab.assert_working();
    assert_eq!(lab.bed.hypervisor.granted_pages(), pages);
    assert_eq!(lab.bed.hypervisor.open_ports(), 3);
}
