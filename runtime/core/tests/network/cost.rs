//! The work per packet does not depend on the number of connections.

use embedded_io_async::{Read, Write};
use rekernel_core::net::TcpOptions;
use rekernel_core::time::{Duration, sleep};

use crate::support::{Pair, SERVER, at, run, settle};
use crate::tcp::serve_echo;

/// Sockets looked at, on both sides, for 100 exchanges next to `idle` other connections.
fn polls_with(idle: usize) -> u64 {
    run(async move {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let connect = async || {
            pair.client
                .connect(at(SERVER, 7), TcpOptions::default())
                .await
                .unwrap()
        };
        let mut others = Vec::new();
        for _ in 0..idle {
            others.push(connect().await);
        }
        let mut stream = connect().await;
        sleep(Duration::from_secs(5)).await;
        let polls = || {
            [&pair.server, &pair.client]
                .map(|stack| stack.interfaces()[0].counters.socket_sets_polled)
                .iter()
                .sum::<u64>()
        };
        let before = polls();
        for _ in 0..100 {
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
        }
        sleep(Duration::from_secs(5)).await;
        polls() - before
    })
}

#[test]
fn polls_do_not_grow_with_connections() {
    let alone = polls_with(0);
    assert_eq!(alone, polls_with(100));
    assert_eq!(alone, polls_with(2000));
    // A few per packet: received, sent, and found to have nothing more.
    assert!(alone <= 100 * 12, "{alone}");
}

#[test]
fn an_exchange_takes_one_segment_each_way() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        let mut exchange = async || {
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
        };
        exchange().await;
        // Until the addresses have been announced for the last time.
        sleep(Duration::from_secs(5)).await;
        let before = pair.wire.carried();
        for _ in 0..100 {
            exchange().await;
        }
        // Acknowledgements ride along.
        assert_eq!(pair.wire.carried() - before, 200);
        // But for that of the last answer.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pair.wire.carried() - before, 201);
    });
}

#[test]
fn an_idle_network_does_nothing() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(
                pair.client
                    .connect(at(SERVER, 7), TcpOptions::default())
                    .await
                    .unwrap(),
            );
        }
        sleep(Duration::from_secs(60)).await;
        let frames = pair.wire.carried();
        let polls = pair.server.interfaces()[0].counters.socket_sets_polled;
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(pair.wire.carried(), frames);
        assert_eq!(
            pair.server.interfaces()[0].counters.socket_sets_polled,
            polls
        );
    });
}
