//! Frames that mean harm: nothing panics, nothing grows without bound, honest peers get through.

use std::net::Ipv4Addr;

use embedded_io_async::{Read, ReadReady, Write};
use proptest::prelude::*;
use rekernel_core::executor::{spawn, yield_now};
use rekernel_core::net::{AddressConfig, Ipv4Config, Ipv6Config, Stack, TcpOptions, UdpOptions};
use rekernel_core::time::{Duration, sleep, timeout};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

use crate::support::{CLIENT, End, SERVER, alone, alone_with, at, run, settle, static_ipv4};
use crate::tcp::serve_echo;

/// A host made of nothing but the frames that a test wants it to send.
pub(crate) struct Peer<'a> {
    raw: &'a End,
    own: Ipv4Addr,
    stack: Ipv4Addr,
}

pub(crate) const STACK_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

impl<'a> Peer<'a> {
    pub(crate) fn new(raw: &'a End, own: [u8; 4], stack: [u8; 4]) -> Self {
        Self {
            raw,
            own: own.into(),
            stack: stack.into(),
        }
    }

    /// Tells the stack our Ethernet address.
    pub(crate) fn announce(&self) {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.raw.mac),
            source_protocol_addr: self.own,
            target_hardware_addr: EthernetAddress::default(),
            target_protocol_addr: self.stack,
        };
        let mut payload = vec![0; arp.buffer_len()];
        arp.emit(&mut ArpPacket::new_unchecked(&mut payload));
        self.raw
            .send(&ethernet(self.raw.mac, EthernetProtocol::Arp, &payload));
    }

    /// Waits for the stack's next SYN: its source port and sequence number.
    pub(crate) async fn next_syn(&self) -> (u16, u32) {
        loop {
            if let Some((segment, _)) = parse_tcp(&self.raw.next().await)
                && segment.0.control == TcpControl::Syn
            {
                return (segment.0.src_port, segment.0.seq_number.0 as u32);
            }
        }
    }

    pub(crate) fn send_tcp(&self, segment: &TcpRepr<'_>) {
        self.raw
            .send(&tcp_frame(self.raw.mac, self.own, self.stack, segment));
    }
}

pub(crate) struct Segment(pub(crate) TcpRepr<'static>);

/// The headers and payload of a TCP segment in a frame.
pub(crate) fn parse_tcp(frame: &[u8]) -> Option<(Segment, Vec<u8>)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let packet = TcpPacket::new_checked(ip.payload()).ok()?;
    let segment = TcpRepr::parse(
        &packet,
        &ip.src_addr().into(),
        &ip.dst_addr().into(),
        &ChecksumCapabilities::default(),
    )
    .ok()?;
    let payload = segment.payload.to_vec();
    Some((
        Segment(TcpRepr {
            payload: &[],
            ..segment
        }),
        payload,
    ))
}

pub(crate) fn segment(source: u16, destination: u16, control: TcpControl) -> TcpRepr<'static> {
    TcpRepr {
        src_port: source,
        dst_port: destination,
        control,
        seq_number: TcpSeqNumber(1000),
        ack_number: None,
        window_len: 1024,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

pub(crate) fn tcp_frame(
    mac: [u8; 6],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    segment: &TcpRepr<'_>,
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let header = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Tcp,
        payload_len: segment.buffer_len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; header.buffer_len() + segment.buffer_len()];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
    segment.emit(
        &mut TcpPacket::new_unchecked(&mut packet[header.buffer_len()..]),
        &source.into(),
        &destination.into(),
        &checksums,
    );
    ethernet(mac, EthernetProtocol::Ipv4, &packet)
}

pub(crate) fn ethernet(source: [u8; 6], ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_dst_addr(EthernetAddress(STACK_MAC));
    frame.set_src_addr(EthernetAddress(source));
    frame.set_ethertype(ethertype);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

#[test]
fn a_flood_of_forged_syns_leaves_honest_peers_their_place() {
    flood_and_ask(|_| {}, 100);
}

#[test]
fn a_flood_leaves_honest_peers_their_memory() {
    // Eight connections fit.
    flood_and_ask(|stack| stack.set_buffer_limit(32 * 1024), 5);
}

/// Floods a stack, and opens a connection in the middle of it, with `between` more forged SYNs
/// while the handshake is under way.
fn flood_and_ask(prepare: impl FnOnce(&Stack), between: u32) {
    run(async {
        let (_wire, stack, raw) = alone(static_ipv4(SERVER));
        prepare(&stack);
        settle().await;
        serve_echo(&stack, 80);
        let forged = |number: u32| {
            let source =
                Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) | (3 + number % 250));
            let port = 1024 + (number / 250) as u16;
            tcp_frame(
                raw.mac,
                source,
                SERVER.into(),
                &segment(port, 80, TcpControl::Syn),
            )
        };
        let mut number = 0;
        let mut flood = |frames: u32| {
            for _ in 0..frames {
                raw.send(&forged(number));
                number += 1;
            }
        };
        flood(50_000);
        yield_now().await;
        sleep(Duration::from_millis(10)).await;
        let information = &stack.interfaces()[0];
        assert!(
            information.connections <= 128,
            "{}",
            information.connections
        );
        assert!(stack.buffer_memory() <= 128 * 32 * 1024);

        // An honest peer, in the middle of it.
        while raw.try_next().is_some() {}
        let peer = Peer::new(&raw, CLIENT, SERVER);
        peer.announce();
        peer.send_tcp(&segment(5000, 80, TcpControl::Syn));
        let answer = timeout(Duration::from_secs(2), async {
            loop {
                match parse_tcp(&raw.next().await) {
                    Some((Segment(answer), _)) if answer.dst_port == 5000 => return answer,
                    _ => {}
                }
            }
        })
        .await
        .unwrap();
        flood(between);
        peer.send_tcp(&TcpRepr {
            seq_number: TcpSeqNumber(1001),
            ack_number: Some(answer.seq_number + 1),
            payload: b"hello",
            ..segment(5000, 80, TcpControl::Psh)
        });
        let echoed = timeout(Duration::from_secs(2), async {
            loop {
                match parse_tcp(&raw.next().await) {
                    Some((Segment(answer), payload))
                        if answer.dst_port == 5000 && !payload.is_empty() =>
                    {
                        return payload;
                    }
                    _ => {}
                }
            }
        })
        .await
        .unwrap();
        assert_eq!(echoed, b"hello");

        // The forged ones are forgotten after a while.
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stack.interfaces()[0].connections, 1);
    });
}

#[test]
fn syns_that_cannot_be_meant() {
    run(async {
        let (_wire, stack, raw) = alone(static_ipv4(SERVER));
        settle().await;
        serve_echo(&stack, 80);
        let syn = segment(5000, 80, TcpControl::Syn);
        let sources = [
            [10, 0, 0, 255],
            [255, 255, 255, 255],
            [224, 0, 0, 1],
            [0, 0, 0, 0],
        ];
        for source in sources {
            raw.send(&tcp_frame(raw.mac, source.into(), SERVER.into(), &syn));
        }
        // Not for us.
        raw.send(&tcp_frame(
            raw.mac,
            CLIENT.into(),
            [10, 0, 0, 77].into(),
            &syn,
        ));
        // To all.
        raw.send(&tcp_frame(
            raw.mac,
            CLIENT.into(),
            [10, 0, 0, 255].into(),
            &syn,
        ));
        // A wrong checksum.
        let mut broken = tcp_frame(raw.mac, CLIENT.into(), SERVER.into(), &syn);
        let last = broken.len() - 1;
        broken[last] ^= 1;
        raw.send(&broken);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(stack.interfaces()[0].connections, 0);
        assert_eq!(stack.buffer_memory(), 0);
    });
}

#[test]
fn a_late_fin_is_acknowledged_in_time_wait() {
    run(async {
        let (_wire, stack, raw) = alone(static_ipv4(SERVER));
        settle().await;
        let listener = stack.listen(at(SERVER, 80), TcpOptions::default()).unwrap();
        let peer = Peer::new(&raw, CLIENT, SERVER);
        peer.announce();
        while raw.try_next().is_some() {}
        peer.send_tcp(&segment(5000, 80, TcpControl::Syn));
        let next = async || loop {
            if let Some((Segment(segment), _)) = parse_tcp(&raw.next().await) {
                return segment;
            }
        };
        let syn = next().await;
        let ours = |control, sequence: i32, acknowledged| TcpRepr {
            seq_number: TcpSeqNumber(sequence),
            ack_number: Some(acknowledged),
            ..segment(5000, 80, control)
        };
        peer.send_tcp(&ours(TcpControl::None, 1001, syn.seq_number + 1));
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
        let fin = next().await;
        assert_eq!(fin.control, TcpControl::Fin);
        let their_fin = ours(TcpControl::Fin, 1001, fin.seq_number + 1);
        peer.send_tcp(&their_fin);
        let first = next().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stack.interfaces()[0].connections, 0, "retired");
        assert_eq!(stack.buffer_memory(), 0);
        // Its acknowledgement was lost: it asks again.
        peer.send_tcp(&their_fin);
        let second = next().await;
        assert_eq!(second.control, TcpControl::None);
        assert_eq!(first.ack_number, Some(TcpSeqNumber(1002)));
        assert_eq!(second.ack_number, first.ack_number);
        assert_eq!(second.seq_number, fin.seq_number + 1);
        // A new connection from the same port is welcome.
        peer.send_tcp(&segment(5000, 80, TcpControl::Syn));
        let syn = next().await;
        assert_eq!(syn.control, TcpControl::Syn);
        peer.send_tcp(&ours(TcpControl::None, 1001, syn.seq_number + 1));
        listener.accept().await.unwrap();
    });
}

#[test]
fn acknowledgements_count_behind_a_closed_window() {
    const ROOM: usize = 1000;
    run(async {
        let (_wire, stack, raw) = alone(static_ipv4(SERVER));
        settle().await;
        let options = TcpOptions {
            receive_buffer: Some(ROOM),
            ..TcpOptions::default()
        };
        let listener = stack.listen(at(SERVER, 80), options).unwrap();
        let peer = Peer::new(&raw, CLIENT, SERVER);
        peer.announce();
        while raw.try_next().is_some() {}
        peer.send_tcp(&segment(5000, 80, TcpControl::Syn));
        let next = async || loop {
            if let Some((Segment(segment), _)) = parse_tcp(&raw.next().await) {
                return segment;
            }
        };
        let syn = next().await;
        let mut ours = TcpRepr {
            seq_number: TcpSeqNumber(1001),
            ack_number: Some(syn.seq_number + 1),
            ..segment(5000, 80, TcpControl::None)
        };
        peer.send_tcp(&ours);
        let (mut stream, _) = listener.accept().await.unwrap();
        // Nobody reads it.
        let room = vec![0; ROOM];
        peer.send_tcp(&TcpRepr {
            payload: &room,
            ..ours
        });
        loop {
            if next().await.window_len == 0 {
                break;
            }
        }
        // One byte that an earlier window offered is on its way when it closes: all that the peer
        // says from now on stands behind it.
        stream.write_all(b"x").await.unwrap();
        let theirs = next().await;
        ours.seq_number += ROOM + 1;
        ours.ack_number = Some(theirs.seq_number + 1);
        peer.send_tcp(&ours);
        let acknowledged = timeout(Duration::from_millis(100), stream.acknowledged()).await;
        acknowledged.unwrap().unwrap();
    });
}

#[test]
fn router_advertisements_with_impossible_prefixes() {
    for prefix in ["ff02::", "fe80::", "::", "ff0e:1::"] {
        crate::ipv6::advertise_to_a_stack(prefix.parse().unwrap(), 64, 1800, |addresses| {
            assert_eq!(
                addresses.len(),
                1,
                "{prefix}: only link-local: {addresses:?}"
            );
        });
    }
}

/// A stack with all kinds of sockets, and a client in the middle of a connection to it.
async fn busy(stack: &Stack, raw: &End) -> TcpRepr<'static> {
    serve_echo(stack, 80);
    let socket = stack
        .bind_udp(at([0, 0, 0, 0], 53), UdpOptions::default())
        .unwrap();
    drop(spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await;
            let _ = socket.send_to(&buffer[..length], peer).await;
        }
    }));
    let peer = Peer::new(raw, CLIENT, SERVER);
    peer.announce();
    peer.send_tcp(&segment(5000, 80, TcpControl::Syn));
    let answer = loop {
        if let Some((Segment(answer), _)) = parse_tcp(&raw.next().await) {
            break answer;
        }
    };
    let established = TcpRepr {
        seq_number: TcpSeqNumber(1001),
        ack_number: Some(answer.seq_number + 1),
        ..segment(5000, 80, TcpControl::None)
    };
    peer.send_tcp(&established);
    sleep(Duration::from_millis(20)).await;
    established
}

fn open_to_all() -> AddressConfig {
    AddressConfig {
        ipv6: Ipv6Config::Auto,
        ..static_ipv4(SERVER)
    }
}

/// A frame that gets past the Ethernet header, and sometimes past more.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let destination = prop_oneof![
        Just(STACK_MAC),
        Just([0xff; 6]),
        Just([0x33, 0x33, 0, 0, 0, 1]),
    ];
    let ethertype = prop_oneof![Just(0x0800u16), Just(0x0806), Just(0x86dd), any::<u16>()];
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (destination, ethertype, payload, any::<u8>()).prop_map(
        |(destination, ethertype, mut payload, shape)| {
            shape_payload(ethertype, shape, &mut payload);
            let mut frame = destination.to_vec();
            frame.extend([0x02, 0, 0, 0, 0, 2]);
            frame.extend(ethertype.to_be_bytes());
            frame.extend(payload);
            frame
        },
    )
}

/// Makes random bytes look like a packet for us up to the transport header.
fn shape_payload(ethertype: u16, shape: u8, payload: &mut [u8]) {
    let length = payload.len();
    match ethertype {
        0x0800 if length >= 20 && shape & 1 == 0 => {
            payload[0] = 0x45;
            payload[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            if shape & 2 == 0 {
                payload[6..8].copy_from_slice(&[0, 0]);
            }
            payload[9] = [6, 17, 1, 2][usize::from(shape >> 2) % 4];
            payload[12..16].copy_from_slice(&CLIENT);
            payload[16..20].copy_from_slice(&SERVER);
            Ipv4Packet::new_unchecked(&mut *payload).fill_checksum();
        }
        0x86dd if length >= 40 && shape & 1 == 0 => {
            payload[0] = 0x60;
            payload[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
            payload[6] = [6, 17, 58, 0][usize::from(shape >> 2) % 4];
            payload[7] = 255;
            payload[8] = 0xfe;
            payload[9] = 0x80;
            payload[24..40].copy_from_slice(match shape & 32 {
                0 => &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                _ => &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1],
            });
            if payload[6] == 58 && length >= 48 {
                if shape & 64 == 0 {
                    // Router and neighbour discovery, and echo.
                    payload[40] = [133, 134, 135, 136, 137, 128][usize::from(payload[40]) % 6];
                    payload[41] = 0;
                }
                shape_discovery(&mut payload[40..]);
                let addresses = Ipv6Packet::new_unchecked(&payload[..]);
                let (source, destination) = (addresses.src_addr(), addresses.dst_addr());
                Icmpv6Packet::new_unchecked(&mut payload[40..])
                    .fill_checksum(&source, &destination);
            }
        }
        _ => {}
    }
}

/// Makes the options of a discovery message likely to be parsed: a known type, a length that
/// fits.
fn shape_discovery(message: &mut [u8]) {
    let start = match message[0] {
        133 => 8,
        134 => 16,
        135 | 136 => 24,
        _ => return,
    };
    if let Some([kind, length, ..]) = message.get_mut(start..) {
        *kind = *kind % 5 + 1;
        *length = [1, 1, 1, 4, 1, 1][usize::from(*kind)];
    }
}

/// `HOSTILE_CASES` of each kind, for a long run; a few otherwise.
fn cases() -> u32 {
    std::env::var("HOSTILE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn random_frames(frames in proptest::collection::vec(frame(), 1..60), pause in 0u64..2000) {
        run(async {
            // A device that vouches for checksums lets the random bytes further in.
            let (_wire, stack, raw) = alone_with(open_to_all(), |device| {
                device.offload.receive_verified = true;
            });
            settle().await;
            busy(&stack, &raw).await;
            for frame in &frames {
                raw.send(frame);
            }
            sleep(Duration::from_millis(pause)).await;
            sleep(Duration::from_secs(100)).await;
        });
    }

    #[test]
    fn random_segments_of_a_connection(
        segments in proptest::collection::vec(any::<(u16, i32, i32, u8, u16, Vec<u8>, bool)>(), 1..40),
    ) {
        run(async {
            let (_wire, stack, raw) = alone(open_to_all());
            settle().await;
            let established = busy(&stack, &raw).await;
            let peer = Peer::new(&raw, CLIENT, SERVER);
            for (near, sequence, acknowledged, control, window, payload, is_near) in segments {
                let control = [
                    TcpControl::None,
                    TcpControl::Psh,
                    TcpControl::Fin,
                    TcpControl::Syn,
                    TcpControl::Rst,
                ][usize::from(control) % 5];
                // Half of them close to what is expected, where the interesting states are.
                let (sequence, acknowledged) = match is_near {
                    true => (
                        TcpSeqNumber(1001i32.wrapping_add((near % 64) as i32 - 16)),
                        established.ack_number.unwrap() + usize::from(near >> 10),
                    ),
                    false => (TcpSeqNumber(sequence), TcpSeqNumber(acknowledged)),
                };
                let payload = &payload[..payload.len().min(1000)];
                peer.send_tcp(&TcpRepr {
                    control,
                    seq_number: sequence,
                    ack_number: (control != TcpControl::Syn || is_near).then_some(acknowledged),
                    window_len: window,
                    payload: if control == TcpControl::Syn { &[] } else { payload },
                    ..established
                });
                yield_now().await;
            }
            sleep(Duration::from_secs(300)).await;
        });
    }

    #[test]
    fn long_segments_in_any_order(
        segments in proptest::collection::vec(
            any::<(u32, u16, u16, u8)>(),
            1..30,
        ),
        vouches in any::<bool>(),
    ) {
        run(async {
            let (_wire, stack, raw) = alone_with(static_ipv4(SERVER), |device| {
                device.offload.receive_verified = vouches;
            });
            settle().await;
            let listener = stack.listen(at(SERVER, 80), TcpOptions {
                receive_buffer: Some(100_000),
                ..TcpOptions::default()
            }).unwrap();
            let sent = crate::support::pattern(1, 1 << 18);
            let peer = Peer::new(&raw, CLIENT, SERVER);
            peer.announce();
            peer.send_tcp(&TcpRepr {
                window_scale: Some(7),
                ..segment(5000, 80, TcpControl::Syn)
            });
            let answer = loop {
                if let Some((segment, _)) = parse_tcp(&raw.next().await) {
                    break segment.0;
                }
            };
            let established = TcpRepr {
                seq_number: TcpSeqNumber(1001),
                ack_number: Some(answer.seq_number + 1),
                ..segment(5000, 80, TcpControl::None)
            };
            peer.send_tcp(&established);
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            let mut buffer = vec![0; 200_000];
            for (start, length, lie, kind) in segments {
                // Anywhere up to a window beyond what was received, and a little before.
                let start = (received.len() + start as usize % 120_000).saturating_sub(10_000);
                let start = start.min(sent.len());
                let length = usize::from(length).min(65_535 - 40).min(sent.len() - start);
                let mut frame = tcp_frame(raw.mac, CLIENT.into(), SERVER.into(), &TcpRepr {
                    seq_number: TcpSeqNumber(1001) + start,
                    payload: &sent[start..start + length],
                    ..established
                });
                if kind < 64 {
                    // A length that is not the frame's.
                    frame[16..18].copy_from_slice(&lie.to_be_bytes());
                    Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
                }
                raw.send(&frame);
                yield_now().await;
                if kind % 4 == 0 && stream.read_ready().unwrap() {
                    let length = stream.read(&mut buffer).await.unwrap();
                    received.extend_from_slice(&buffer[..length]);
                }
                while let Some(frame) = raw.try_next() {
                    assert!(frame.len() <= 14 + 1500);
                }
            }
            assert!(received == sent[..received.len()], "other bytes than were sent");
        });
    }

    #[test]
    fn random_answers_to_dhcp(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..20),
    ) {
        run(async {
            let config = AddressConfig { ipv4: Ipv4Config::Dhcp, ipv6: Ipv6Config::Off };
            let (_wire, _stack, raw) = alone(config);
            settle().await;
            for packet in &packets {
                raw.send(&crate::udp::udp_frame(&raw, (SERVER, 67), ([255; 4], 68), packet));
            }
            sleep(Duration::from_secs(30)).await;
        });
    }
}

#[test]
fn an_established_connection_survives_what_is_not_its_own() {
    run(async {
        let pair = crate::support::Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        pair.wire.set_faults(crate::support::Faults {
            corrupt: 100,
            ..Default::default()
        });
        for number in 0..50u8 {
            stream.write_all(&[number; 100]).await.unwrap();
            let mut answer = [0; 100];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [number; 100]);
        }
    });
}
