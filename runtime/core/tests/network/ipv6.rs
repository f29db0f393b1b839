//! IPv6: link-local, static and advertised addresses.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use rekernel_core::net::{
    AddressConfig, AddressSource, Ipv4Config, Ipv6Config, Stack, TcpOptions, UdpOptions,
};
use rekernel_core::time::{Duration, sleep, timeout};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv6Packet, Ipv6Repr, NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr,
    NdiscRouterFlags,
};

use crate::hostile::ethernet;
use crate::support::{End, Wire, alone, pattern, run, settle};
use crate::tcp::{exchange, serve_echo};

fn ipv6_only(ipv6: Ipv6Config) -> AddressConfig {
    AddressConfig {
        ipv4: Ipv4Config::Off,
        ipv6,
    }
}

fn fixed(address: &str) -> AddressConfig {
    ipv6_only(Ipv6Config::Static {
        address: address.parse().unwrap(),
        prefix_length: 64,
        gateway: None,
        source: AddressSource::CommandLine,
    })
}

fn pair(first: AddressConfig, second: AddressConfig) -> (Stack, Stack) {
    let (_wire, one, other) = Wire::new();
    let stacks = (Stack::new(), Stack::new());
    stacks.0.add_interface(Box::new(one), first);
    stacks.1.add_interface(Box::new(other), second);
    stacks
}

fn addresses(stack: &Stack) -> Vec<String> {
    stack.interfaces()[0]
        .addresses
        .iter()
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn connections_between_static_addresses() {
    run(async {
        let (server, client) = pair(fixed("2001:db8::1"), fixed("2001:db8::2"));
        serve_echo_on_all(&server);
        settle().await;
        let peer: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        let stream = client.connect(peer, TcpOptions::default()).await.unwrap();
        assert_eq!(
            stream.local_addr().ip(),
            "2001:db8::2".parse::<Ipv6Addr>().unwrap()
        );
        exchange(stream, pattern(6, 50_000)).await;
    });
}

fn serve_echo_on_all(stack: &Stack) {
    // An IPv4 listener does not answer for IPv6; one on `::` does.
    serve_echo(stack, 9);
    let any = "[::]:7".parse().unwrap();
    let listener = stack.listen(any, TcpOptions::default()).unwrap();
    drop(rekernel_core::executor::spawn(async move {
        use embedded_io_async::{Read, Write};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 2000];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..length]).await.unwrap();
            }
        }
    }));
}

#[test]
fn a_listener_for_ipv4_is_none_for_ipv6() {
    run(async {
        let (server, client) = pair(fixed("2001:db8::1"), fixed("2001:db8::2"));
        serve_echo_on_all(&server);
        settle().await;
        let peer = "[2001:db8::1]:9".parse().unwrap();
        assert!(client.connect(peer, TcpOptions::default()).await.is_err());
    });
}

#[test]
fn link_local_addresses_carry_their_interface() {
    run(async {
        let (server, client) = pair(ipv6_only(Ipv6Config::Auto), ipv6_only(Ipv6Config::Auto));
        settle().await;
        assert_eq!(addresses(&server), ["fe80::ff:fe00:1/64 (link-local)"]);
        let any = "[::]:9".parse().unwrap();
        let receiver = server.bind_udp(any, UdpOptions::default()).unwrap();
        let any = "[::]:0".parse().unwrap();
        let sender = client.bind_udp(any, UdpOptions::default()).unwrap();
        let server_address: Ipv6Addr = "fe80::ff:fe00:1".parse().unwrap();
        let peer = SocketAddrV6::new(server_address, 9, 0, 1);
        sender.send_to(b"hello", peer).await.unwrap();
        let mut buffer = [0; 8];
        let (length, peer) = timeout(Duration::from_secs(3), receiver.recv_from(&mut buffer))
            .await
            .unwrap();
        assert_eq!(&buffer[..length], b"hello");
        let SocketAddr::V6(v6) = peer else {
            panic!("{peer}");
        };
        assert_eq!(v6.scope_id(), 1);
        receiver.send_to(b"back", peer).await.unwrap();
        let answer = timeout(Duration::from_secs(3), sender.recv_from(&mut buffer)).await;
        assert_eq!(answer.unwrap().0, 4);
    });
}

/// A router advertisement.
pub(crate) fn advertisement(
    raw: &End,
    prefix: Ipv6Addr,
    prefix_length: u8,
    lifetime: u64,
) -> Vec<u8> {
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let destination = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let message = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: smoltcp::time::Duration::from_secs(lifetime),
        reachable_time: smoltcp::time::Duration::ZERO,
        retrans_time: smoltcp::time::Duration::ZERO,
        lladdr: None,
        mtu: None,
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: prefix_length,
            flags: NdiscPrefixInfoFlags::ADDRCONF | NdiscPrefixInfoFlags::ON_LINK,
            valid_lifetime: smoltcp::time::Duration::from_secs(lifetime),
            preferred_lifetime: smoltcp::time::Duration::from_secs(lifetime),
            prefix,
        }),
    });
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let mut packet = vec![0; header.buffer_len() + message.buffer_len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet));
    message.emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(&mut packet[header.buffer_len()..]),
        &ChecksumCapabilities::default(),
    );
    ethernet(raw.mac, EthernetProtocol::Ipv6, &packet)
}

/// Sends one advertisement to a stack and lets `check` look at the addresses it has then.
pub(crate) fn advertise_to_a_stack(
    prefix: Ipv6Addr,
    prefix_length: u8,
    lifetime: u64,
    check: impl Fn(Vec<String>),
) {
    run(async {
        let (_wire, stack, raw) = alone(ipv6_only(Ipv6Config::Auto));
        settle().await;
        raw.send(&advertisement(&raw, prefix, prefix_length, lifetime));
        sleep(Duration::from_secs(1)).await;
        check(addresses(&stack));
        sleep(Duration::from_secs(100)).await;
    });
}

#[test]
fn advertised_addresses_come_and_expire() {
    run(async {
        let (_wire, stack, raw) = alone(ipv6_only(Ipv6Config::Auto));
        // It asks for routers, three times.
        let mut solicitations = 0;
        while let Ok(frame) = timeout(Duration::from_secs(30), raw.next()).await {
            let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
            if ethernet.ethertype() != EthernetProtocol::Ipv6 {
                continue;
            }
            let packet = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            if packet.next_header() == IpProtocol::Icmpv6 {
                let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
                solicitations += u32::from(message.msg_type() == Icmpv6Message::RouterSolicit);
            }
        }
        assert_eq!(solicitations, 3);
        let prefix = "2001:db8:1::".parse().unwrap();
        raw.send(&advertisement(&raw, prefix, 64, 1800));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            addresses(&stack),
            [
                "fe80::ff:fe00:1/64 (link-local)",
                "2001:db8:1::ff:fe00:1/64 (router advertisement)"
            ]
        );
        // A second advertisement cannot cut the lifetime short.
        raw.send(&advertisement(&raw, prefix, 64, 1));
        sleep(Duration::from_secs(1000)).await;
        assert_eq!(addresses(&stack).len(), 2);
        sleep(Duration::from_secs(1000)).await;
        assert_eq!(addresses(&stack).len(), 1);
    });
}

#[test]
fn other_prefix_lengths_give_no_address() {
    advertise_to_a_stack("2001:db8::".parse().unwrap(), 48, 1800, |addresses| {
        assert_eq!(addresses.len(), 1);
    });
}

#[test]
fn prefixes_without_end_are_bounded() {
    run(async {
        let (_wire, stack, raw) = alone(ipv6_only(Ipv6Config::Auto));
        settle().await;
        for number in 0..1000 {
            let prefix = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
            raw.send(&advertisement(&raw, prefix, 64, u64::from(u32::MAX)));
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(addresses(&stack).len(), 5);
    });
}
