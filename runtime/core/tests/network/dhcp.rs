//! Addresses from a DHCP server.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use rekernel_core::executor::{JoinHandle, spawn};
use rekernel_core::net::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config, Stack};
use rekernel_core::time::{Duration, sleep};
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    UdpPacket,
};

use crate::support::{End, SERVER, alone, run};
use crate::udp::udp_frame;

const LEASED: [u8; 4] = [10, 0, 0, 50];

pub(crate) fn by_dhcp() -> AddressConfig {
    AddressConfig {
        ipv4: Ipv4Config::Dhcp,
        ipv6: Ipv6Config::Off,
    }
}

/// What the server saw, and what it does about it.
#[derive(Default)]
pub(crate) struct Server {
    seen: Vec<DhcpMessageType>,
    pub(crate) is_silent: bool,
    pub(crate) lease: Option<[u8; 4]>,
}

pub(crate) fn serve(raw: End, server: Rc<RefCell<Server>>) -> JoinHandle<()> {
    spawn(async move {
        loop {
            let frame = raw.next().await;
            if let Some(answer) = answer(&raw, &frame, &server) {
                raw.send(&answer);
            }
        }
    })
}

pub(crate) fn answer(raw: &End, frame: &[u8], server: &RefCell<Server>) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let mut server = server.borrow_mut();
    server.seen.push(request.message_type);
    if server.is_silent {
        return None;
    }
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    let mut reply = request.clone();
    reply.message_type = message_type;
    reply.your_ip = Ipv4Addr::from(server.lease.unwrap_or(LEASED));
    reply.server_ip = SERVER.into();
    reply.server_identifier = Some(SERVER.into());
    reply.subnet_mask = Some([255, 255, 255, 0].into());
    reply.router = Some(SERVER.into());
    reply.lease_duration = Some(600);
    reply.requested_ip = None;
    reply.client_identifier = None;
    reply.parameter_request_list = None;
    let mut dns_servers = smoltcp::wire::DhcpRepr::parse(&packet).ok()?.dns_servers;
    if dns_servers.is_none() {
        dns_servers = Some(Default::default());
    }
    let _ = dns_servers
        .as_mut()
        .map(|servers| servers.push(Ipv4Addr::from([10, 0, 0, 3])));
    reply.dns_servers = dns_servers;
    let mut payload = vec![0; reply.buffer_len()];
    reply
        .emit(&mut DhcpPacket::new_unchecked(&mut payload))
        .ok()?;
    Some(udp_frame(raw, (SERVER, 67), ([255; 4], 68), &payload))
}

fn addresses(stack: &Stack) -> Vec<String> {
    stack.interfaces()[0]
        .addresses
        .iter()
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn a_lease_is_taken_renewed_and_lost() {
    run(async {
        let (_wire, stack, raw) = alone(by_dhcp());
        let server = Rc::new(RefCell::new(Server::default()));
        drop(serve(raw, server.clone()));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(addresses(&stack), ["10.0.0.50/24 (DHCP)"]);
        assert_eq!(
            stack.interfaces()[0].addresses[0].source,
            AddressSource::Dhcp
        );
        assert_eq!(stack.dns_servers(), [Ipv4Addr::from([10, 0, 0, 3])]);
        assert_eq!(
            server.borrow().seen,
            [DhcpMessageType::Discover, DhcpMessageType::Request]
        );
        // Renewed at half time, again and again.
        server.borrow_mut().seen.clear();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(addresses(&stack).len(), 1);
        assert!(!server.borrow().seen.is_empty());
        // Nobody renews it: it is gone when its time is over, and the search begins anew.
        server.borrow_mut().is_silent = true;
        sleep(Duration::from_secs(1300)).await;
        assert!(addresses(&stack).is_empty());
        assert!(stack.dns_servers().is_empty());
        assert_eq!(
            server.borrow().seen.last(),
            Some(&DhcpMessageType::Discover)
        );
        server.borrow_mut().is_silent = false;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(addresses(&stack).len(), 1);
    });
}

#[test]
fn it_keeps_trying() {
    run(async {
        let (_wire, stack, raw) = alone(by_dhcp());
        let server = Rc::new(RefCell::new(Server {
            is_silent: true,
            ..Server::default()
        }));
        drop(serve(raw, server.clone()));
        let waiting = spawn({
            let stack = stack.clone();
            async move { stack.first_address().await }
        });
        sleep(Duration::from_secs(120)).await;
        let tries = server.borrow().seen.len();
        assert!((20..=60).contains(&tries), "{tries}");
        assert!(addresses(&stack).is_empty());
        server.borrow_mut().is_silent = false;
        assert!(!waiting.is_finished());
        assert_eq!(waiting.await.unwrap(), Some(Ipv4Addr::from(LEASED).into()));
        assert_eq!(addresses(&stack), ["10.0.0.50/24 (DHCP)"]);
        assert_eq!(Stack::new().first_address().await, None);
    });
}

#[test]
fn leases_that_make_no_sense_are_not_taken() {
    for lease in [[224, 0, 0, 1], [255, 255, 255, 255], [0, 0, 0, 0]] {
        run(async move {
            let (_wire, stack, raw) = alone(by_dhcp());
            let server = Rc::new(RefCell::new(Server {
                lease: Some(lease),
                ..Server::default()
            }));
            drop(serve(raw, server));
            sleep(Duration::from_secs(60)).await;
            assert!(addresses(&stack).is_empty(), "{lease:?}");
        });
    }
}

#[test]
fn the_link_comes_back_on_another_network() {
    run(async {
        let (wire, stack, raw) = alone(by_dhcp());
        let server = Rc::new(RefCell::new(Server::default()));
        drop(serve(raw, server.clone()));
        sleep(Duration::from_secs(1)).await;
        wire.set_link(false);
        sleep(Duration::from_secs(1)).await;
        assert!(!stack.interfaces()[0].link_is_up);
        server.borrow_mut().lease = Some([10, 0, 0, 60]);
        wire.set_link(true);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(addresses(&stack), ["10.0.0.60/24 (DHCP)"]);
        // Nobody there any more: the old address is kept for a minute only.
        wire.set_link(false);
        sleep(Duration::from_secs(1)).await;
        server.borrow_mut().is_silent = true;
        wire.set_link(true);
        sleep(Duration::from_secs(50)).await;
        assert_eq!(addresses(&stack).len(), 1);
        sleep(Duration::from_secs(20)).await;
        assert!(addresses(&stack).is_empty());
    });
}
