//! Frames longer than the link carries: cut by the device, by the stack, or received whole.

use embedded_io_async::{Read, Write};
use rekernel_core::net::device::{ChecksumOffload, SegmentationOffload};
use rekernel_core::net::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config, Stack, TcpOptions};
use rekernel_core::time::{Duration, Instant, sleep};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::support::{CLIENT, End, Faults, Pair, SERVER, Wire, at, pattern, run, settle};
use crate::tcp::{exchange, serve_echo};

const ALL: SegmentationOffload = SegmentationOffload {
    transmit_ipv4: true,
    transmit_ipv6: true,
};

fn offload_all(end: &mut End) {
    end.offload = ChecksumOffload {
        transmit_ipv4: true,
        transmit_ipv6: true,
        receive_verified: false,
    };
    end.segmentation = ALL;
}

const LARGE: TcpOptions = TcpOptions {
    receive_buffer: Some(256 * 1024),
    send_buffer: Some(256 * 1024),
    connect_timeout: Duration::from_secs(30),
    user_timeout: Duration::from_secs(120),
    keep_alive: None,
    backlog: 16,
};

/// Sends `data` from a client to a server, and returns what arrived and the frames it took from
/// the client.
async fn upload(server: &Stack, client: &Stack, address: SocketAddr, data: Vec<u8>) -> Vec<u8> {
    let listener = server.listen(address, LARGE).unwrap();
    let mut stream = client.connect(address, LARGE).await.unwrap();
    let received = rekernel_core::executor::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => return received,
                length => received.extend_from_slice(&buffer[..length]),
            }
        }
    });
    stream.write_all(&data).await.unwrap();
    drop(stream);
    received.await.unwrap()
}

/// Two stacks with IPv6 addresses only.
fn pair_ipv6(prepare: impl FnOnce(&mut End, &mut End)) -> (Wire, Stack, Stack) {
    let (wire, mut first, mut second) = Wire::new();
    prepare(&mut first, &mut second);
    let stack = |end: End, host: u16| {
        let stack = Stack::new();
        let config = AddressConfig {
            ipv4: Ipv4Config::Off,
            ipv6: Ipv6Config::Static {
                address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host),
                prefix_length: 64,
                gateway: None,
                source: AddressSource::CommandLine,
            },
        };
        stack.add_interface(Box::new(end), config);
        stack
    };
    let stacks = (stack(first, 1), stack(second, 2));
    (wire, stacks.0, stacks.1)
}

fn at_ipv6(port: u16) -> SocketAddr {
    (
        IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        port,
    )
        .into()
}

#[test]
fn the_device_cuts_ipv4() {
    run(async {
        let pair = Pair::with(|_, client| offload_all(client));
        settle().await;
        let data = pattern(1, 3_000_000);
        let received = upload(&pair.server, &pair.client, at(SERVER, 7), data.clone()).await;
        assert!(received == data);
        let counters = pair.client.interfaces()[0].counters;
        assert!(pair.wire.cut() > 2000, "{}", pair.wire.cut());
        assert!(counters.sent_frames < 120, "{counters:?}");
    });
}

#[test]
fn the_device_cuts_ipv6() {
    run(async {
        let (wire, server, client) = pair_ipv6(|_, client| offload_all(client));
        settle().await;
        sleep(Duration::from_secs(3)).await;
        let data = pattern(2, 3_000_000);
        assert!(upload(&server, &client, at_ipv6(7), data.clone()).await == data);
        let counters = client.interfaces()[0].counters;
        assert!(wire.cut() > 2000, "{}", wire.cut());
        assert!(counters.sent_frames < 120, "{counters:?}");
    });
}

#[test]
fn the_device_cuts_one_version_only() {
    for is_ipv6 in [false, true] {
        run(async {
            let one = |_: &mut End, client: &mut End| {
                offload_all(client);
                client.offload.transmit_ipv4 = !is_ipv6;
                client.offload.transmit_ipv6 = is_ipv6;
            };
            // The device asserts that it is only asked for what it offers.
            let pair = Pair::with(one);
            settle().await;
            let data = pattern(3, 300_000);
            let received = upload(&pair.server, &pair.client, at(SERVER, 7), data.clone()).await;
            assert!(received == data);
            assert_eq!(pair.wire.cut() == 0, is_ipv6);

            let (wire, server, client) = pair_ipv6(one);
            settle().await;
            sleep(Duration::from_secs(3)).await;
            assert!(upload(&server, &client, at_ipv6(7), data.clone()).await == data);
            assert_eq!(wire.cut() == 0, !is_ipv6);
        });
    }
}

#[test]
fn a_peer_with_a_larger_link_gets_what_fits_ours() {
    // The test device refuses frames above its MTU.
    for offloads in [false, true] {
        run(async move {
            let pair = Pair::with(|server, client| {
                server.mtu = 9000;
                if offloads {
                    offload_all(client);
                }
            });
            settle().await;
            let data = pattern(4, 300_000);
            let received = upload(&pair.server, &pair.client, at(SERVER, 7), data.clone()).await;
            assert!(received == data);
            // And the other way: what we offered is what we take.
            let data = pattern(5, 300_000);
            let received = upload(&pair.client, &pair.server, at(CLIENT, 7), data.clone()).await;
            assert!(received == data);
        });
    }
}

#[test]
fn a_peer_with_a_smaller_link_gets_what_fits_its() {
    run(async {
        let pair = Pair::with(|server, client| {
            server.mtu = 1280;
            offload_all(client);
        });
        settle().await;
        let data = pattern(6, 300_000);
        let received = upload(&pair.server, &pair.client, at(SERVER, 7), data.clone()).await;
        assert!(received == data);
        let least = 300_000 / (1280 - 40);
        assert!(pair.wire.cut() > least * 9 / 10, "{}", pair.wire.cut());
    });
}

#[test]
fn cut_frames_survive_loss_and_disorder() {
    for seed in 0..5 {
        run(async move {
            let pair = Pair::with(|server, client| {
                offload_all(server);
                offload_all(client);
            });
            pair.wire.set_seed(seed);
            serve_echo(&pair.server, 7);
            settle().await;
            let stream = pair.client.connect(at(SERVER, 7), LARGE).await.unwrap();
            pair.wire.set_faults(Faults {
                drop: 10,
                duplicate: 10,
                reorder: 20,
                corrupt: 10,
            });
            exchange(stream, pattern(seed, 500_000)).await;
        });
    }
}

#[test]
fn long_frames_are_received_whole() {
    run(async {
        let pair = Pair::with(|server, client| {
            for end in [server, client] {
                offload_all(end);
                end.delivers_whole = true;
            }
        });
        settle().await;
        let data = pattern(7, 3_000_000);
        let before = Instant::now();
        let received = upload(&pair.server, &pair.client, at(SERVER, 7), data.clone()).await;
        assert!(received == data);
        let [server, client] = [&pair.server, &pair.client].map(|stack| {
            let counters = stack.interfaces()[0].counters;
            (counters.received_frames, counters.sent_frames)
        });
        // One acknowledgement for each long frame, and a few around them.
        assert!(server.0 < 80, "{server:?}");
        assert!(server.1 <= server.0 + 5, "{server:?}");
        assert_eq!(server.1, client.0);
        // None of them waited for the timer of delayed acknowledgements.
        let elapsed = before.elapsed();
        assert!(elapsed < Duration::from_millis(100), "{elapsed:?}");
    });
}
