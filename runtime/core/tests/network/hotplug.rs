//! Devices that are taken away and given back while the stack runs.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_io_async::{Read, Write};
use rekernel_core::executor::spawn;
use rekernel_core::net::{
    AddressConfig, ConnectError, SendError, Stack, TcpError, TcpOptions, TcpStream, UdpOptions,
};
use rekernel_core::time::{Duration, sleep, timeout};

use crate::dhcp::{Server, answer, by_dhcp};
use crate::support::{CLIENT, End, Pair, SERVER, Wire, at, pattern, run, settle, static_ipv4};
use crate::tcp::{exchange, serve_echo};

const ANOTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// A connection to port 7 of the server.
pub(crate) async fn connected(pair: &Pair) -> TcpStream {
    settle().await;
    let options = TcpOptions::default();
    pair.client.connect(at(SERVER, 7), options).await.unwrap()
}

async fn echo(stream: &mut TcpStream, text: &[u8; 5]) {
    stream.write_all(text).await.unwrap();
    let mut answer = [0; 5];
    timeout(Duration::from_secs(5), stream.read_exact(&mut answer))
        .await
        .expect("an answer within five seconds")
        .unwrap();
    assert_eq!(&answer, text);
}

#[test]
fn a_device_that_is_taken_away_takes_its_addresses_and_routes_with_it() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.client, 7);
        settle().await;
        let socket = pair
            .server
            .bind_udp(at([0; 4], 9), UdpOptions::default())
            .unwrap();
        socket.send_to(b"hello", at(CLIENT, 9)).await.unwrap();
        pair.wire.take_away();
        settle().await;
        assert!(pair.server.interfaces().is_empty());
        let error = pair
            .server
            .connect(at(CLIENT, 7), TcpOptions::default())
            .await;
        assert_eq!(
            error.unwrap_err(),
            ConnectError::NoRoute(at(CLIENT, 7).ip())
        );
        let error = socket.send_to(b"hello", at(CLIENT, 9)).await;
        assert_eq!(error, Err(SendError::NoRoute(at(CLIENT, 7).ip())));
        assert!(
            pair.server
                .listen(at(SERVER, 80), TcpOptions::default())
                .is_err()
        );
        assert_eq!(pair.server.first_address().await, None);
    });
}

#[test]
fn without_connections_it_is_dropped_and_another_takes_its_number() {
    run(async {
        let (wire, first, peer) = Wire::new();
        let (host, other) = (Stack::new(), Stack::new());
        other.add_interface(Box::new(peer), static_ipv4(CLIENT));
        // Higher numbers may come first.
        let dropped = Rc::new(());
        add(&host, 3, first, SERVER, dropped.clone());
        serve_echo(&host, 7);
        settle().await;
        let stream = other
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        exchange(stream, pattern(1, 1000)).await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(Rc::strong_count(&dropped), 2);
        wire.take_away();
        settle().await;
        assert_eq!(Rc::strong_count(&dropped), 1, "the device is gone");
        assert!(host.interfaces().is_empty());

        for number in [3, 0, 7] {
            let (_wire, first, peer) = Wire::new();
            add(&host, number, first, SERVER, dropped.clone());
            let other = Stack::new();
            other.add_interface(Box::new(peer), static_ipv4(CLIENT));
            settle().await;
            // The listener has been there all the time.
            let stream = other
                .connect(at(SERVER, 7), TcpOptions::default())
                .await
                .unwrap();
            drop(stream);
            _wire.take_away();
            sleep(Duration::from_secs(100)).await;
            assert_eq!(Rc::strong_count(&dropped), 1);
        }
    });
}

/// Adds an interface whose configuration holds `witness` for as long as the interface exists.
fn add(stack: &Stack, number: usize, device: End, address: [u8; 4], witness: Rc<()>) {
    stack.add_numbered_interface(number, Box::new(device), move |_| {
        let _ = &witness;
        static_ipv4(address)
    });
}

#[test]
fn connections_go_on_when_the_device_comes_back_in_time() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        let mut stream = connected(&pair).await;
        for absence in [0, 5, 55] {
            echo(&mut stream, b"first").await;
            pair.wire.take_away();
            settle().await;
            assert!(pair.server.interfaces().is_empty());
            sleep(Duration::from_secs(absence)).await;
            // The peer learns the new Ethernet address from the announcement.
            pair.wire.give_back([2, 0, 0, 0, 1, absence as u8]);
            sleep(Duration::from_millis(10)).await;
            assert_eq!(pair.server.interfaces()[0].mac[5], absence as u8);
            echo(&mut stream, b"again").await;
        }
        // New ones as well, by the listener that has been there all the time.
        let mut stream = connected(&pair).await;
        echo(&mut stream, b"third").await;
    });
}

#[test]
fn connections_end_when_the_device_stays_away() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.client, 7);
        settle().await;
        let mut idle = pair
            .server
            .connect(at(CLIENT, 7), TcpOptions::default())
            .await
            .unwrap();
        let mut busy = pair
            .server
            .connect(at(CLIENT, 7), TcpOptions::default())
            .await
            .unwrap();
        pair.wire.take_away();
        busy.write_all(b"hello").await.unwrap();
        let reading = spawn(async move { idle.read(&mut [0; 5]).await });
        sleep(Duration::from_secs(50)).await;
        assert!(!reading.is_finished());
        sleep(Duration::from_secs(20)).await;
        assert_eq!(reading.await.unwrap(), Err(TcpError::TimedOut));
        assert_eq!(busy.read(&mut [0; 5]).await, Err(TcpError::TimedOut));
        assert_eq!(busy.write(b"more").await, Err(TcpError::TimedOut));
        // Nothing is left that would wait for the device.
        let before = pair.server.interfaces().len();
        pair.wire.give_back(ANOTHER_MAC);
        settle().await;
        assert_eq!((before, pair.server.interfaces().len()), (0, 0));
    });
}

#[test]
fn connections_wait_for_the_lease_that_brings_their_address_back() {
    run(async {
        let (wire, first, raw) = Wire::new();
        let stack = Stack::new();
        stack.add_interface(Box::new(first), by_dhcp());
        let server = Rc::new(RefCell::new(Server::default()));
        let bridge = Bridge::start(raw, server.clone());
        sleep(Duration::from_secs(5)).await;
        serve_echo(&bridge.peer, 7);
        let options = TcpOptions::default();
        let mut stream = stack.connect(at(CLIENT, 7), options).await.unwrap();
        echo(&mut stream, b"first").await;
        wire.take_away();
        sleep(Duration::from_secs(5)).await;
        server.borrow_mut().is_silent = true;
        wire.give_back([2, 0, 0, 0, 0, 1]);
        sleep(Duration::from_secs(10)).await;
        assert!(stack.interfaces()[0].addresses.is_empty());
        stream.write_all(b"again").await.unwrap();
        server.borrow_mut().is_silent = false;
        let mut answer = [0; 5];
        timeout(Duration::from_secs(15), stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"again");

        // On another network it does not come back.
        wire.take_away();
        sleep(Duration::from_secs(5)).await;
        server.borrow_mut().lease = Some([10, 0, 0, 99]);
        wire.give_back([2, 0, 0, 0, 0, 1]);
        let ended = timeout(Duration::from_secs(60), stream.read(&mut answer)).await;
        assert_eq!(ended.expect("an end"), Err(TcpError::TimedOut));
        assert_eq!(
            stack.interfaces()[0].addresses[0].address,
            at([10, 0, 0, 99], 0).ip()
        );
    });
}

/// Behind the wire: a DHCP server, and a stack for everything else.
struct Bridge {
    peer: Stack,
}

impl Bridge {
    fn start(raw: End, server: Rc<RefCell<Server>>) -> Self {
        let (_wire, far, near) = Wire::new();
        let peer = Stack::new();
        peer.add_interface(Box::new(far), static_ipv4(CLIENT));
        drop(spawn(async move {
            let _wire = _wire;
            loop {
                while let Some(frame) = near.try_next() {
                    raw.send(&frame);
                }
                while let Some(frame) = raw.try_next() {
                    match answer(&raw, &frame, &server) {
                        Some(answer) => raw.send(&answer),
                        None => near.send(&frame),
                    }
                }
                sleep(Duration::from_millis(1)).await;
            }
        }));
        Self { peer }
    }
}

#[test]
fn an_address_that_the_host_assigns_anew_is_taken_up() {
    run(async {
        let (wire, first, _peer) = Wire::new();
        let stack = Stack::new();
        wire.assign("10.0.0.5");
        stack.add_numbered_interface(0, Box::new(first), |assigned| {
            assigned.map_or(AddressConfig::OFF, |text| {
                static_ipv4(text.parse::<std::net::Ipv4Addr>().unwrap().octets())
            })
        });
        let address = || stack.interfaces()[0].addresses[0].address.to_string();
        settle().await;
        assert_eq!(address(), "10.0.0.5");
        wire.set_link(false);
        wire.assign("10.0.0.6");
        settle().await;
        assert_eq!(address(), "10.0.0.5", "the link is down");
        wire.set_link(true);
        settle().await;
        assert_eq!(address(), "10.0.0.6");
        wire.take_away();
        settle().await;
    });
}

#[test]
fn programs_are_told_of_every_change() {
    run(async {
        let (wire, first, _peer) = Wire::new();
        let stack = Stack::new();
        let mut watch = stack.watch_interfaces();
        let mut changed = async || {
            timeout(Duration::from_secs(1), watch.changed())
                .await
                .is_ok()
        };
        assert!(!changed().await);
        stack.add_interface(Box::new(first), static_ipv4(SERVER));
        assert!(changed().await, "a new interface");
        settle().await;
        while changed().await {}
        wire.set_link(false);
        assert!(changed().await);
        assert!(!stack.interfaces()[0].link_is_up);
        wire.set_link(true);
        assert!(changed().await);
        assert!(stack.interfaces()[0].link_is_up);
        while changed().await {}
        wire.take_away();
        assert!(changed().await);
        assert!(stack.interfaces().is_empty());
        while changed().await {}
        sleep(Duration::from_secs(600)).await;
        assert!(!changed().await, "nothing has happened since");
    });
}
