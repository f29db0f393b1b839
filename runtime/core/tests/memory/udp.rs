//! Datagrams while memory runs out.

use failing_memory::{Trial, every_allocation};
use rekernel_core::executor::spawn;
use rekernel_core::net::{Stack, UdpOptions};
use rekernel_core::time::{Duration, timeout};

use crate::support::{CLIENT, Pair, SERVER, at, pattern, run, settle};

fn serve(stack: &Stack) {
    let socket = stack
        .bind_udp(at(SERVER, 7), UdpOptions::default())
        .unwrap();
    drop(spawn(async move {
        let mut buffer = [0; 4000];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await;
            let _ = socket.send_to(&buffer[..length], peer).await;
        }
    }));
}

/// Sends a datagram of so many bytes, and waits for it to come back: ten times at most.
async fn talk(stack: &Stack, data: &[u8]) -> bool {
    let Ok(socket) = stack.bind_udp(at(CLIENT, 0), UdpOptions::default()) else {
        return false;
    };
    let mut buffer = [0; 4000];
    for _ in 0..10 {
        if socket.send_to(data, at(SERVER, 7)).await.is_err() {
            continue;
        }
        let answer = socket.recv_from(&mut buffer);
        if let Ok((length, _)) = timeout(Duration::from_secs(10), answer).await {
            return buffer[..length] == *data;
        }
    }
    false
}

fn check(test: &str, length: usize) -> u64 {
    every_allocation(test, |trial: &mut Trial| {
        let data = pattern(1, length);
        run(async {
            let pair = Pair::new();
            serve(&pair.server);
            settle().await;
            trial.begin();
            let _ = talk(&pair.client, &data).await;
            trial.end();
            assert!(
                talk(&pair.client, &data).await,
                "one failure did harm for good"
            );
        });
    })
}

#[test]
fn a_datagram() {
    let count = check("udp::a_datagram", 100);
    assert!(count > 10, "only {count}");
}

#[test]
fn a_datagram_in_fragments() {
    check("udp::a_datagram_in_fragments", 3000);
}
