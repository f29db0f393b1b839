//! A network that is silent is explained: once, and to who asks.

use std::net::Ipv4Addr;

use rekernel_core::net::{AddressConfig, Ipv4Config, Ipv6Config, Stack};
use rekernel_core::time::{Duration, sleep};
use smoltcp::wire::ArpOperation;

use crate::announcements::claim;
use crate::support::{SERVER, alone, capture_log, log_lines, run, static_ipv4};

const GATEWAY: [u8; 4] = [10, 0, 0, 254];

fn with_gateway() -> AddressConfig {
    let mut config = static_ipv4(SERVER);
    if let Ipv4Config::Static { gateway, .. } = &mut config.ipv4 {
        *gateway = Some(Ipv4Addr::from(GATEWAY));
    }
    config
}

fn verdict(stack: &Stack) -> &'static str {
    let found = stack.diagnoses();
    assert_eq!(found.len(), 1);
    found[0].1.word()
}

/// What was said of silence.
fn said() -> Vec<String> {
    let mut lines = log_lines();
    lines.retain(|line| line.contains("silent for"));
    lines
}

#[test]
fn a_gateway_that_does_not_answer_is_told_once_for_each_link() {
    capture_log();
    run(async {
        let (wire, stack, _raw) = alone(with_gateway());
        sleep(Duration::from_secs(5)).await;
        assert_eq!((verdict(&stack), said().len()), ("nobody_answers", 0));
        sleep(Duration::from_secs(300)).await;
        let [line] = &*said() else {
            panic!("{:?}", said());
        };
        let words = "wire0: silent for 10 s: the gateway 10.0.0.254 does not answer ARP";
        assert!(line.contains(words), "{line}");
        // Whoever asks may be answered later.
        wire.set_link(false);
        sleep(Duration::from_secs(1)).await;
        wire.set_link(true);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(said().len(), 2);
    });
}

#[test]
fn a_gateway_that_answers_is_no_news() {
    capture_log();
    run(async {
        let (_wire, stack, raw) = alone(with_gateway());
        sleep(Duration::from_secs(9)).await;
        raw.send(&claim(&raw, ArpOperation::Reply, raw.mac, GATEWAY));
        sleep(Duration::from_secs(60)).await;
        assert_eq!((verdict(&stack), said().len()), ("works", 0));
        // It is gone later, which shows to who looks.
        stack.look_closely();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((verdict(&stack), said().len()), ("nobody_answers", 0));
    });
}

#[test]
fn a_dhcp_server_that_does_not_answer_is_told_with_what_is_heard() {
    capture_log();
    run(async {
        let config = AddressConfig {
            ipv4: Ipv4Config::Dhcp,
            ipv6: Ipv6Config::Off,
        };
        let (_wire, stack, raw) = alone(config);
        sleep(Duration::from_secs(1)).await;
        raw.send(&claim(&raw, ArpOperation::Reply, raw.mac, GATEWAY));
        sleep(Duration::from_secs(60)).await;
        assert_eq!((verdict(&stack), said().len()), ("no_dhcp_answer", 1));
        assert!(said()[0].contains("no DHCP server answers, though 1 frames"));
    });
}

#[test]
fn a_link_that_does_not_come_up_is_told_once() {
    capture_log();
    run(async {
        let (wire, stack, _raw) = alone(static_ipv4(SERVER));
        wire.set_link(false);
        sleep(Duration::from_secs(300)).await;
        assert_eq!((verdict(&stack), said().len()), ("not_connected", 1));
    });
}

#[test]
fn a_guest_without_an_interface_is_told_so() {
    run(async {
        assert_eq!(verdict(&Stack::new()), "no_interface");
    });
}

#[test]
fn an_address_of_two_is_the_verdict_at_once() {
    run(async {
        let (_wire, stack, raw) = alone(with_gateway());
        sleep(Duration::from_millis(10)).await;
        raw.send(&claim(&raw, ArpOperation::Reply, raw.mac, SERVER));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(verdict(&stack), "address_clash");
    });
}
