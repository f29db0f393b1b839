//! Connections, from their SYN to their end.

use std::net::SocketAddr;

use embedded_io_async::{Read, Write};
use rekernel_core::executor::spawn;
use rekernel_core::net::device::ChecksumOffload;
use rekernel_core::net::{
    BindError, ConnectError, OwnedReadHalf, Stack, TcpError, TcpListener, TcpOptions, TcpStream,
};
use rekernel_core::time::{Duration, Instant, sleep, timeout};

use crate::support::{CLIENT, Pair, SERVER, at, pattern, run, settle};

async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        drop(spawn(async move {
            let mut buffer = [0; 1024];
            loop {
                match stream.read(&mut buffer).await {
                    // A dropped stream has a minute for what is on its way.
                    Ok(0) => {
                        let _ = stream.acknowledged().await;
                        return;
                    }
                    Err(_) => return,
                    Ok(length) => stream.write_all(&buffer[..length]).await.unwrap(),
                }
            }
        }));
    }
}

pub(crate) fn serve_echo(stack: &Stack, port: u16) {
    serve_echo_with(stack, port, TcpOptions::default());
}

pub(crate) fn serve_echo_with(stack: &Stack, port: u16, options: TcpOptions) {
    let any = at([0, 0, 0, 0], port);
    let listener = stack.listen(any, options).unwrap();
    drop(spawn(echo(listener)));
}

/// Sends and receives at the same time, and compares; then both sides end in order.
pub(crate) async fn exchange(stream: TcpStream, data: Vec<u8>) {
    let mut reader = exchange_data(stream, data).await;
    assert_eq!(reader.read(&mut [0; 8]).await, Ok(0));
}

/// Sends and receives at the same time, and compares.
pub(crate) async fn exchange_data(stream: TcpStream, data: Vec<u8>) -> OwnedReadHalf {
    let expected = data.clone();
    let (mut reader, mut writer) = stream.into_split();
    let writing = spawn(async move {
        writer.write_all(&data).await.unwrap();
    });
    let mut received = vec![0; expected.len()];
    reader.read_exact(&mut received).await.unwrap();
    assert!(received == expected, "the bytes differ");
    writing.await.unwrap();
    reader
}

#[test]
fn a_stream_is_readable_once_there_is_something_or_the_end() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        let nothing = timeout(Duration::from_secs(5), stream.readable()).await;
        assert!(nothing.is_err(), "nothing was sent");
        stream.write_all(b"hello").await.unwrap();
        // It takes nothing away, however often it is asked.
        stream.readable().await;
        stream.readable().await;
        let mut received = [0; 5];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hello");
        stream.shutdown();
        stream.readable().await;
        assert_eq!(stream.read(&mut received).await, Ok(0));
        stream.readable().await;
    });
}

#[test]
fn echo_and_addresses() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        assert_eq!(stream.peer_addr(), at(SERVER, 7));
        assert_eq!(stream.local_addr().ip(), at(CLIENT, 0).ip());
        assert!(stream.local_addr().port() >= 49152);
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
    });
}

#[test]
fn a_thousand_connections_at_once() {
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        settle().await;
        let mut streams = Vec::new();
        for _ in 0..1000 {
            streams.push(
                pair.client
                    .connect(at(SERVER, 7), TcpOptions::default())
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(pair.server.interfaces()[0].connections, 1000);
        let tasks: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| spawn(exchange(stream, pattern(number as u64, 3000))))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // All ended in order: nothing is left but what TIME-WAIT remembers.
        sleep(Duration::from_secs(20)).await;
        for stack in [&pair.server, &pair.client] {
            assert_eq!(stack.interfaces()[0].connections, 0);
            assert_eq!(stack.buffer_memory(), 0);
        }
    });
}

#[test]
fn many_short_connections_leave_no_memory_behind() {
    run(async {
        let pair = Pair::new();
        let elsewhere = pair.server.listen(at(CLIENT, 80), TcpOptions::default());
        assert!(matches!(elsewhere, Err(BindError::AddressNotAvailable(_))));
        // A static address can be listened on before the link is up.
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        // This server closes first, as HTTP servers do: it is the one in TIME-WAIT.
        drop(spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"goodbye").await.unwrap();
            }
        }));
        let begin = Instant::now();
        for _ in 0..5000 {
            let mut stream = pair
                .client
                .connect(at(SERVER, 80), TcpOptions::default())
                .await
                .unwrap();
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(stream.read(&mut answer).await, Ok(0));
            drop(stream);
            assert!(pair.server.buffer_memory() < 20 * 32 * 1024);
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{:?}",
            begin.elapsed()
        );
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pair.server.buffer_memory(), 0);
        assert_eq!(pair.server.interfaces()[0].connections, 0);
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let begin = Instant::now();
        let error = pair
            .client
            .connect(at(SERVER, 9), TcpOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error, ConnectError::Refused(at(SERVER, 9)));
        assert!(begin.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn nobody_is_there() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let begin = Instant::now();
        let options = TcpOptions {
            connect_timeout: Duration::from_secs(5),
            ..TcpOptions::default()
        };
        let error = pair.client.connect(at([10, 0, 0, 9], 9), options).await;
        assert_eq!(
            error.unwrap_err(),
            ConnectError::TimedOut(at([10, 0, 0, 9], 9))
        );
        assert_eq!(begin.elapsed().as_secs(), 5);
        // What was begun is taken back.
        sleep(Duration::from_secs(5)).await;
        assert_eq!(pair.client.interfaces()[0].connections, 0);
        assert_eq!(pair.client.buffer_memory(), 0);
    });
}

#[test]
fn addresses_that_cannot_be_reached() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let connect = |peer: SocketAddr| pair.client.connect(peer, TcpOptions::default());
        let far = at([192, 0, 2, 1], 80);
        assert_eq!(
            connect(far).await.unwrap_err(),
            ConnectError::NoRoute(far.ip())
        );
        for invalid in [at(SERVER, 0), at([10, 0, 0, 255], 80)] {
            assert_eq!(
                connect(invalid).await.unwrap_err(),
                ConnectError::InvalidAddress(invalid)
            );
        }
        let v6 = "[2001:db8::1]:80".parse().unwrap();
        assert!(matches!(
            connect(v6).await.unwrap_err(),
            ConnectError::NoRoute(_)
        ));
    });
}

#[test]
fn a_port_belongs_to_one_listener() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listen = |address| pair.server.listen(address, TcpOptions::default());
        let first = listen(at([0, 0, 0, 0], 80)).unwrap();
        assert_eq!(
            listen(at(SERVER, 80)).unwrap_err(),
            BindError::AddressInUse(at(SERVER, 80))
        );
        let any6 = "[::]:80".parse().unwrap();
        assert_eq!(listen(any6).unwrap_err(), BindError::AddressInUse(any6));
        drop(first);
        let second = listen(at(SERVER, 80)).unwrap();
        drop(second);
        let chosen = listen(at([0, 0, 0, 0], 0)).unwrap();
        assert!(chosen.local_addr().port() >= 49152);
    });
}

#[test]
fn a_full_backlog_drops_and_recovers() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let options = TcpOptions {
            backlog: 4,
            ..TcpOptions::default()
        };
        let listener = pair.server.listen(at(SERVER, 80), options).unwrap();
        let quick = TcpOptions {
            connect_timeout: Duration::from_millis(500),
            ..TcpOptions::default()
        };
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(pair.client.connect(at(SERVER, 80), quick).await.unwrap());
        }
        let error = pair.client.connect(at(SERVER, 80), quick).await;
        assert_eq!(error.unwrap_err(), ConnectError::TimedOut(at(SERVER, 80)));
        assert!(pair.server.interfaces()[0].counters.refused_connections >= 1);
        // One is accepted: the next SYN, which TCP repeats, gets through.
        let client = pair.client.clone();
        let waiting = spawn(async move {
            client
                .connect(at(SERVER, 80), TcpOptions::default())
                .await
                .unwrap()
        });
        sleep(Duration::from_millis(100)).await;
        let accepted = listener.accept().await.unwrap();
        let stream = timeout(Duration::from_secs(5), waiting).await.unwrap();
        drop((accepted, stream, streams));
    });
}

#[test]
fn dropping_the_listener_resets_what_was_not_accepted() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let mut stream = pair
            .client
            .connect(at(SERVER, 80), TcpOptions::default())
            .await
            .unwrap();
        drop(listener);
        assert_eq!(stream.read(&mut [0; 8]).await, Err(TcpError::Reset));
        assert_eq!(stream.write(b"x").await, Err(TcpError::Reset));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(pair.server.buffer_memory(), 0);
    });
}

#[test]
fn halves_close_one_after_the_other() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let client = pair.client.clone();
        let asking = spawn(async move {
            let mut stream = client
                .connect(at(SERVER, 80), TcpOptions::default())
                .await
                .unwrap();
            stream.write_all(b"question").await.unwrap();
            stream.shutdown();
            assert_eq!(stream.write(b"more").await, Err(TcpError::Closed));
            let mut answer = Vec::new();
            let mut buffer = [0; 3];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => return answer,
                    length => answer.extend_from_slice(&buffer[..length]),
                }
            }
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = [0; 8];
        stream.read_exact(&mut question).await.unwrap();
        assert_eq!(stream.read(&mut question).await, Ok(0));
        sleep(Duration::from_secs(30)).await;
        stream.write_all(b"answer").await.unwrap();
        drop(stream);
        assert_eq!(asking.await.unwrap(), b"answer");
    });
}

#[test]
fn what_was_written_goes_out_after_the_drop() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let client = pair.client.clone();
        let reading = spawn(async move {
            let mut stream = client
                .connect(at(SERVER, 80), TcpOptions::default())
                .await
                .unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 100];
            loop {
                sleep(Duration::from_millis(5)).await;
                match stream.read(&mut buffer).await.unwrap() {
                    0 => return all,
                    length => all.extend_from_slice(&buffer[..length]),
                }
            }
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let data = pattern(1, 16 * 1024);
        stream.write_all(&data).await.unwrap();
        drop(stream);
        assert!(reading.await.unwrap() == data);
        sleep(Duration::from_secs(15)).await;
        assert_eq!(pair.server.buffer_memory(), 0);
    });
}

#[test]
fn an_abort_is_seen_at_once() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let mut stream = pair
            .client
            .connect(at(SERVER, 80), TcpOptions::default())
            .await
            .unwrap();
        let (other, _) = listener.accept().await.unwrap();
        other.abort();
        assert_eq!(stream.read(&mut [0; 8]).await, Err(TcpError::Reset));
        drop((stream, other));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(pair.server.buffer_memory(), 0);
        assert_eq!(pair.client.buffer_memory(), 0);
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let options = TcpOptions {
            user_timeout: Duration::from_secs(20),
            ..TcpOptions::default()
        };
        let mut stream = pair.client.connect(at(SERVER, 80), options).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        // An idle connection lives, however long.
        sleep(Duration::from_secs(600)).await;
        pair.wire.set_faults(crate::support::Faults {
            drop: 1000,
            ..Default::default()
        });
        let begin = Instant::now();
        stream.write_all(b"anyone?").await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await, Err(TcpError::TimedOut));
        let elapsed = begin.elapsed();
        assert!(
            (Duration::from_secs(20)..Duration::from_secs(30)).contains(&elapsed),
            "{elapsed:?}"
        );
        // An orphan whose peer is silent goes, too; it is the one that gets no answer.
        drop(accepted);
        sleep(Duration::from_secs(70)).await;
        assert_eq!(pair.server.buffer_memory(), 0);
    });
}

#[test]
fn keep_alive_notices_a_dead_peer() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        let options = TcpOptions {
            keep_alive: Some(Duration::from_secs(10)),
            user_timeout: Duration::from_secs(60),
            ..TcpOptions::default()
        };
        let mut stream = pair.client.connect(at(SERVER, 80), options).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let silent = timeout(Duration::from_secs(300), stream.read(&mut [0; 8])).await;
        assert!(silent.is_err(), "a peer that answers probes is alive");
        pair.wire.set_faults(crate::support::Faults {
            drop: 1000,
            ..Default::default()
        });
        assert_eq!(stream.read(&mut [0; 8]).await, Err(TcpError::TimedOut));
        drop(accepted);
    });
}

#[test]
fn memory_limit_refuses_instead_of_failing() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let listener = pair
            .server
            .listen(at(SERVER, 80), TcpOptions::default())
            .unwrap();
        pair.server.set_buffer_limit(3 * 2 * 2048);
        let quick = TcpOptions {
            connect_timeout: Duration::from_secs(2),
            ..TcpOptions::default()
        };
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(pair.client.connect(at(SERVER, 80), quick).await.unwrap());
        }
        let error = pair.client.connect(at(SERVER, 80), quick).await;
        assert_eq!(error.unwrap_err(), ConnectError::TimedOut(at(SERVER, 80)));
        assert!(pair.server.interfaces()[0].counters.refused_connections >= 1);
        pair.client.set_buffer_limit(0);
        let error = pair.client.connect(at(SERVER, 80), quick).await;
        assert_eq!(error.unwrap_err(), ConnectError::OutOfMemory);
        drop(listener);
    });
}

#[test]
fn checksums_left_to_the_devices() {
    for (first, second) in [(true, false), (true, true), (false, true)] {
        run(async move {
            let pair = Pair::with(|server, client| {
                server.offload = ChecksumOffload {
                    transmit_ipv4: first,
                    transmit_ipv6: true,
                    receive_verified: false,
                };
                client.offload = ChecksumOffload {
                    transmit_ipv4: second,
                    transmit_ipv6: false,
                    receive_verified: true,
                };
            });
            serve_echo(&pair.server, 7);
            settle().await;
            let stream = pair
                .client
                .connect(at(SERVER, 7), TcpOptions::default())
                .await
                .unwrap();
            exchange(stream, pattern(3, 20_000)).await;
        });
    }
}

#[test]
fn initial_sequence_numbers_and_ports_do_not_repeat() {
    run(async {
        let (_wire, stack, raw) = crate::support::alone(crate::support::static_ipv4(CLIENT));
        settle().await;
        let mut seen = std::collections::HashSet::new();
        let mut ports = std::collections::HashSet::new();
        let mut begun = Vec::new();
        let peer = crate::hostile::Peer::new(&raw, SERVER, CLIENT);
        peer.announce();
        for _ in 0..64 {
            let stack = stack.clone();
            begun.push(spawn(async move {
                stack
                    .connect(at(SERVER, 80), TcpOptions::default())
                    .await
                    .map(|_| ())
            }));
            let (port, sequence) = peer.next_syn().await;
            seen.insert(sequence);
            ports.insert(port);
        }
        assert_eq!(seen.len(), 64);
        assert!(ports.len() > 60);
        // Consecutive numbers of the one generator that smoltcp has would show its constants.
        let numbers: Vec<u32> = seen.into_iter().collect();
        assert!(numbers.iter().any(|number| number >> 31 == 1));
        assert!(numbers.iter().any(|number| number >> 31 == 0));
        for task in begun {
            task.abort();
        }
    });
}
