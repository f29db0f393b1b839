//! Ethernet addresses of neighbours: asked for, learnt, forgotten.

use std::net::Ipv4Addr;

use rekernel_core::executor::spawn;
use rekernel_core::net::{AddressConfig, Ipv6Config, TcpOptions};
use rekernel_core::time::{Duration, timeout};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
};

use crate::hostile::ethernet;
use crate::ipv6::advertisement;
use crate::support::{CLIENT, End, SERVER, alone, at, run, settle, static_ipv4};

/// Answers the next question for the Ethernet address of `CLIENT`.
async fn answer_a_question(raw: &End) {
    loop {
        let frame = raw.next().await;
        let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
        if frame.ethertype() != EthernetProtocol::Arp {
            continue;
        }
        let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = arp
        else {
            continue;
        };
        if target_protocol_addr != Ipv4Addr::from(CLIENT) {
            continue;
        }
        let answer = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let mut payload = vec![0; answer.buffer_len()];
        answer.emit(&mut ArpPacket::new_unchecked(&mut payload));
        raw.send(&ethernet(raw.mac, EthernetProtocol::Arp, &payload));
        return;
    }
}

async fn next_packet(raw: &End) {
    loop {
        let frame = raw.next().await;
        let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
        if frame.ethertype() == EthernetProtocol::Ipv4 {
            return;
        }
    }
}

/// New addresses make the stack forget its neighbours. It must not also remember that it asked
/// for one a moment ago: the question would be withheld for a second, and with it all that waits.
#[test]
fn a_new_address_does_not_silence_questions_for_neighbours() {
    run(async {
        let config = AddressConfig {
            ipv6: Ipv6Config::Auto,
            ..static_ipv4(SERVER)
        };
        let (_wire, stack, raw) = alone(config);
        settle().await;
        for port in [7, 8] {
            let stack = stack.clone();
            spawn(async move {
                // Nobody ever answers the SYN.
                let _ = stack.connect(at(CLIENT, port), TcpOptions::default()).await;
            });
            let asked_and_sent = async {
                answer_a_question(&raw).await;
                next_packet(&raw).await;
            };
            let outcome = timeout(Duration::from_millis(500), asked_and_sent).await;
            assert!(
                outcome.is_ok(),
                "no SYN to port {port} within half a second"
            );
            let prefix = "2001:db8::".parse().unwrap();
            raw.send(&advertisement(&raw, prefix, 64, 1800));
            settle().await;
        }
        assert_eq!(stack.interfaces()[0].addresses.len(), 3);
    });
}
