//! Links that go down, hosts with several interfaces, runtimes that end.

use embedded_io_async::{Read, Write};
use rekernel_core::config::Settings;
use rekernel_core::executor::spawn;
use rekernel_core::net::{Stack, TcpError, TcpListener, TcpOptions, TcpStream, interfaces};
use rekernel_core::time::{Duration, sleep, timeout};

use crate::support::{CLIENT, Pair, SERVER, Wire, at, run, settle, static_ipv4};
use crate::tcp::serve_echo;

#[test]
fn a_connection_outlives_a_link_that_comes_back() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        pair.wire.set_link(false);
        sleep(Duration::from_millis(10)).await;
        assert!(!pair.client.interfaces()[0].link_is_up);
        stream.write_all(b"hello").await.unwrap();
        sleep(Duration::from_secs(50)).await;
        pair.wire.set_link(true);
        // At once: no timer has backed off, as nothing was sent meanwhile.
        let mut answer = [0; 5];
        timeout(Duration::from_millis(100), stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"hello");
    });
}

#[test]
fn a_connection_without_a_link_ends_by_its_own_limit() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        pair.wire.set_link(false);
        stream.write_all(b"hello").await.unwrap();
        let error = timeout(Duration::from_secs(300), stream.read(&mut [0; 5]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error, TcpError::TimedOut);
    });
}

#[test]
fn several_interfaces() {
    run(async {
        let (_first_wire, first, other_first) = Wire::new();
        let (_second_wire, second, other_second) = Wire::new();
        let host = Stack::new();
        host.add_interface(Box::new(first), static_ipv4(SERVER));
        host.add_interface(Box::new(second), static_ipv4([10, 1, 0, 1]));
        let (one, two) = (Stack::new(), Stack::new());
        one.add_interface(Box::new(other_first), static_ipv4(CLIENT));
        two.add_interface(Box::new(other_second), static_ipv4([10, 1, 0, 2]));
        serve_echo(&host, 7);
        serve_echo(&one, 7);
        serve_echo(&two, 7);
        settle().await;
        // In through either, out through the right one.
        let peers = [
            (&one, at(SERVER, 7)),
            (&two, at([10, 1, 0, 1], 7)),
            (&host, at(CLIENT, 7)),
            (&host, at([10, 1, 0, 2], 7)),
        ];
        for (from, to) in peers {
            let mut stream = from.connect(to, TcpOptions::default()).await.unwrap();
            stream.write_all(b"hi").await.unwrap();
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.unwrap();
        }
        // An address belongs to its interface.
        assert!(
            one.connect(at([10, 1, 0, 1], 7), TcpOptions::default())
                .await
                .is_err()
        );
    });
}

#[test]
fn the_runtime_has_a_stack() {
    run(async {
        assert!(interfaces().is_empty());
        let (_wire, one, other) = Wire::new();
        let peer = Stack::new();
        peer.add_interface(Box::new(other), static_ipv4(CLIENT));
        Stack::current().add_interface(Box::new(one), static_ipv4(SERVER));
        settle().await;
        assert_eq!(interfaces()[0].name, "wire0");
        assert_eq!(interfaces()[0].mtu, 1500);
        let listener = TcpListener::bind(at([0; 4], 80)).await.unwrap();
        let client =
            spawn(async move { peer.connect(at(SERVER, 80), TcpOptions::default()).await });
        let (_accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), at(CLIENT, 0).ip());
        client.await.unwrap().unwrap();
        assert!(TcpStream::connect(at(CLIENT, 80)).await.is_err());
        let (settings, _) = Settings::parse(b"net1.ip=dhcp", &[]);
        Stack::current().report_missing_interfaces(&settings);
    });
}

#[test]
fn everything_can_be_dropped_in_any_order() {
    let left_over = run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let stream = pair
            .client
            .connect(at(SERVER, 80), TcpOptions::default())
            .await
            .unwrap();
        drop(spawn(async move {
            let _accepted = listener.accept().await;
            std::future::pending::<()>().await;
        }));
        settle().await;
        (stream, pair)
    });
    drop(left_over);
}
