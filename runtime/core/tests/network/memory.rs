//! Buffers that take memory only once they are used.

use embedded_io_async::{Read, Write};
use rekernel_core::executor::spawn;
use rekernel_core::net::{ConnectError, TcpOptions};
use rekernel_core::time::{Duration, sleep, timeout};

use crate::support::{Pair, SERVER, at, pattern, run_with_pages, settle};
use crate::tcp::{exchange, serve_echo};

#[test]
fn a_quiet_connection_gives_its_pages_back() {
    run_with_pages(|machine| async move {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        let talk = async |stream: &mut rekernel_core::net::TcpStream| {
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ping");
        };
        // Never quiet for long.
        for _ in 0..10 {
            talk(&mut stream).await;
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(machine.given_back.get(), 0);
        sleep(Duration::from_secs(3)).await;
        // Both send buffers, once.
        let both = machine.given_back.get();
        assert!(both >= 2 * 256 * 1024, "{both}");
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(machine.given_back.get(), both);
        // And again.
        talk(&mut stream).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(machine.given_back.get(), 2 * both);
        exchange(stream, pattern(1, 1 << 20)).await;
    });
}

#[test]
fn what_is_on_its_way_stays() {
    run_with_pages(|machine| async move {
        let pair = Pair::new();
        let listener = pair
            .server
            .listen(at(SERVER, 7), TcpOptions::default())
            .unwrap();
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        // The reader is slow: most of it waits in the buffer while the writer is quiet.
        let data = pattern(1, 200_000);
        stream.write_all(&data).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(machine.given_back.get(), 0);
        let mut received = vec![0; data.len()];
        accepted.read_exact(&mut received).await.unwrap();
        assert!(received == data);
    });
}

#[test]
fn without_memory_writers_wait_and_segments_are_dropped() {
    run_with_pages(|machine| async move {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        let transfer = spawn(exchange(stream, pattern(1, 8 << 20)));
        sleep(Duration::from_micros(100)).await;
        machine.is_short.set(true);
        sleep(Duration::from_secs(5)).await;
        assert!(!transfer.is_finished());
        let dropped = [&pair.server, &pair.client]
            .map(|stack| stack.interfaces()[0].counters.dropped_receives);
        assert!(dropped.iter().sum::<u64>() > 0, "{dropped:?}");
        machine.is_short.set(false);
        timeout(Duration::from_secs(60), transfer)
            .await
            .expect("everybody goes on")
            .unwrap();
    });
}

#[test]
fn without_headroom_connections_are_refused_and_those_there_are_go_on() {
    run_with_pages(|machine| async move {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let options = TcpOptions::default;
        let early = pair.client.connect(at(SERVER, 7), options()).await.unwrap();
        // Its SYN is on its way when memory runs short.
        let client = pair.client.clone();
        let late = spawn(async move { client.connect(at(SERVER, 7), options()).await });
        rekernel_core::executor::yield_now().await;
        machine.lacks_headroom.set(true);
        assert_eq!(
            pair.client.connect(at(SERVER, 7), options()).await.err(),
            Some(ConnectError::OutOfMemory)
        );
        exchange(early, pattern(1, 1 << 20)).await;
        assert!(!late.is_finished());
        let refused = pair.server.interfaces()[0].counters.refused_connections;
        assert!(refused > 0);
        machine.lacks_headroom.set(false);
        // The SYN is repeated.
        let late = timeout(Duration::from_secs(60), late).await.unwrap();
        exchange(late.unwrap().unwrap(), pattern(2, 1 << 20)).await;
    });
}
