//! Datagrams.

use rekernel_core::executor::spawn;
use rekernel_core::net::{BindError, SendError, UdpOptions, UdpSocket};
use rekernel_core::time::{Duration, sleep, timeout};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

use crate::hostile::ethernet;
use crate::support::{CLIENT, End, Pair, SERVER, at, pattern, run, settle};

/// A UDP datagram over IPv4 from a raw end.
pub(crate) fn udp_frame(
    raw: &End,
    source: ([u8; 4], u16),
    destination: ([u8; 4], u16),
    payload: &[u8],
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let datagram = UdpRepr {
        src_port: source.1,
        dst_port: destination.1,
    };
    let header = Ipv4Repr {
        src_addr: source.0.into(),
        dst_addr: destination.0.into(),
        next_header: IpProtocol::Udp,
        payload_len: datagram.header_len() + payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; header.buffer_len() + header.payload_len];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
    datagram.emit(
        &mut UdpPacket::new_unchecked(&mut packet[header.buffer_len()..]),
        &header.src_addr.into(),
        &header.dst_addr.into(),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums,
    );
    ethernet(raw.mac, EthernetProtocol::Ipv4, &packet)
}

fn echo(socket: UdpSocket) {
    drop(spawn(async move {
        let mut buffer = vec![0; 5000];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await;
            socket.send_to(&buffer[..length], peer).await.unwrap();
        }
    }));
}

fn bind(stack: &rekernel_core::net::Stack, address: [u8; 4], port: u16) -> UdpSocket {
    stack
        .bind_udp(at(address, port), UdpOptions::default())
        .unwrap()
}

#[test]
fn echo_of_all_sizes() {
    run(async {
        let pair = Pair::new();
        settle().await;
        echo(bind(&pair.server, [0; 4], 7));
        let socket = bind(&pair.client, [0; 4], 0);
        let mut buffer = vec![0; 5000];
        // 1472 bytes fill a frame; beyond, the packet goes in fragments.
        for length in [0, 1, 1471, 1472, 1473, 2960, 2961, 4068] {
            let datagram = pattern(length as u64, length);
            socket.send_to(&datagram, at(SERVER, 7)).await.unwrap();
            let answer = timeout(Duration::from_secs(2), socket.recv_from(&mut buffer)).await;
            let (received, peer) = answer.unwrap_or_else(|_| panic!("{length} bytes are lost"));
            assert_eq!(peer, at(SERVER, 7));
            assert!(buffer[..received] == datagram, "{length} bytes");
        }
        assert_eq!(
            socket.send_to(&[0; 4069], at(SERVER, 7)).await,
            Err(SendError::TooLong {
                length: 4069,
                longest: 4068
            })
        );
    });
}

#[test]
fn many_datagrams_at_once_through_a_small_device() {
    run(async {
        let pair = Pair::new();
        pair.wire.set_room(2);
        settle().await;
        let receiver = bind(&pair.server, [0; 4], 9);
        let sender = bind(&pair.client, [0; 4], 0);
        let sending = spawn(async move {
            for number in 0..500u16 {
                let datagram = [number.to_be_bytes().as_slice(), &[7; 1600]].concat();
                sender.send_to(&datagram, at(SERVER, 9)).await.unwrap();
            }
        });
        let mut buffer = [0; 2000];
        for number in 0..500u16 {
            let (length, _) = timeout(Duration::from_secs(2), receiver.recv_from(&mut buffer))
                .await
                .unwrap();
            assert_eq!(length, 1602);
            assert_eq!(buffer[..2], number.to_be_bytes());
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_silent_neighbour_holds_up_no_one_else() {
    run(async {
        let pair = Pair::new();
        settle().await;
        echo(bind(&pair.server, [0; 4], 7));
        let socket = bind(&pair.client, [0; 4], 0);
        let mut buffer = [0; 10];
        socket.send_to(b"known", at(SERVER, 7)).await.unwrap();
        socket.recv_from(&mut buffer).await;
        for _ in 0..100 {
            socket
                .send_to(b"nobody", at([10, 0, 0, 77], 7))
                .await
                .unwrap();
        }
        socket.send_to(b"someone", at(SERVER, 7)).await.unwrap();
        let answer = timeout(Duration::from_millis(100), socket.recv_from(&mut buffer)).await;
        assert_eq!(answer.unwrap().0, 7);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(pair.client.interfaces()[0].counters.dropped_sends, 100);
    });
}

#[test]
fn a_socket_nobody_reads_is_bounded() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let lazy = bind(&pair.server, [0; 4], 9);
        let sender = bind(&pair.client, [0; 4], 0);
        for _ in 0..1000 {
            sender.send_to(&[1; 1000], at(SERVER, 9)).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        assert!(pair.server.buffer_memory() <= 64 * 1024);
        assert!(lazy.dropped() > 900);
        let mut buffer = [0; 1000];
        for _ in 0..60 {
            assert_eq!(lazy.recv_from(&mut buffer).await.0, 1000);
        }
        drop(lazy);
        assert_eq!(pair.server.buffer_memory(), 0);
    });
}

#[test]
fn ports_and_addresses() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let first = bind(&pair.server, SERVER, 53);
        assert_eq!(
            pair.server
                .bind_udp(at([0; 4], 53), UdpOptions::default())
                .unwrap_err(),
            BindError::AddressInUse(at([0; 4], 53))
        );
        assert_eq!(
            pair.server
                .bind_udp(at(CLIENT, 53), UdpOptions::default())
                .unwrap_err(),
            BindError::AddressNotAvailable(at(CLIENT, 0).ip())
        );
        drop(first);
        let socket = bind(&pair.server, [0; 4], 53);
        assert_eq!(
            socket.send_to(b"x", at([192, 0, 2, 1], 53)).await,
            Err(SendError::NoRoute(at([192, 0, 2, 1], 0).ip()))
        );
        assert_eq!(
            socket.send_to(b"x", at(CLIENT, 0)).await,
            Err(SendError::InvalidAddress(at(CLIENT, 0)))
        );
    });
}

#[test]
fn pings_are_answered() {
    run(async {
        use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr};
        let (_wire, _stack, raw) = crate::support::alone(crate::support::static_ipv4(SERVER));
        settle().await;
        let peer = crate::hostile::Peer::new(&raw, CLIENT, SERVER);
        peer.announce();
        let checksums = ChecksumCapabilities::default();
        let request = Icmpv4Repr::EchoRequest {
            ident: 7,
            seq_no: 1,
            data: b"are you there?",
        };
        let header = Ipv4Repr {
            src_addr: CLIENT.into(),
            dst_addr: SERVER.into(),
            next_header: IpProtocol::Icmp,
            payload_len: request.buffer_len(),
            hop_limit: 64,
        };
        let mut packet = vec![0; header.buffer_len() + request.buffer_len()];
        header.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
        request.emit(
            &mut Icmpv4Packet::new_unchecked(&mut packet[header.buffer_len()..]),
            &checksums,
        );
        raw.send(&ethernet(raw.mac, EthernetProtocol::Ipv4, &packet));
        let reply = timeout(Duration::from_secs(1), async {
            loop {
                let frame = raw.next().await;
                if frame[12..14] == [8, 0] {
                    return frame;
                }
            }
        })
        .await
        .unwrap();
        assert_eq!(reply[14 + 20], 0, "echo reply");
        assert!(reply.ends_with(b"are you there?"));
    });
}
