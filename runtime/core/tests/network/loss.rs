//! Transfers over wires that lose, repeat, shuffle and damage frames.

use rekernel_core::net::TcpOptions;
use rekernel_core::time::{Duration, Instant, timeout};

use crate::support::{Faults, Pair, SERVER, at, pattern, run, settle};
use crate::tcp::{exchange, exchange_data, serve_echo, serve_echo_with};

/// Sends `length` bytes there and back, and returns the virtual time it took. How the connection
/// ends is not looked at: its FIN has a minute to get through, and then it is reset.
fn transfer(length: usize, faults: Faults, seed: u64) -> Duration {
    run(async move {
        let pair = Pair::new();
        pair.wire.set_seed(seed);
        // smoltcp waits up to a minute before it sends again; two losses in a row are not the
        // end here.
        let options = TcpOptions {
            user_timeout: Duration::from_secs(1200),
            ..TcpOptions::default()
        };
        serve_echo_with(&pair.server, 7, options);
        settle().await;
        let stream = pair.client.connect(at(SERVER, 7), options).await.unwrap();
        pair.wire.set_faults(faults);
        let begin = Instant::now();
        let limit = Duration::from_secs(3600);
        timeout(limit, exchange_data(stream, pattern(1, length)))
            .await
            .map(drop)
            .unwrap_or_else(|_| panic!("{faults:?} {seed}: not done within {limit:?}"));
        begin.elapsed()
    })
}

#[test]
fn a_mebibyte_over_a_good_wire() {
    let elapsed = transfer(1 << 20, Faults::default(), 1);
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}

#[test]
fn a_mebibyte_with_loss() {
    let faults = Faults {
        drop: 20,
        ..Faults::default()
    };
    transfer(1 << 20, faults, 1);
}

#[test]
fn a_mebibyte_with_everything() {
    let faults = Faults {
        drop: 10,
        duplicate: 20,
        reorder: 50,
        corrupt: 10,
    };
    transfer(1 << 20, faults, 1);
}

#[test]
fn a_tenth_of_it_with_heavy_loss_in_many_ways() {
    let faults = Faults {
        drop: 150,
        ..Faults::default()
    };
    for seed in 0..60 {
        transfer(100 << 10, faults, seed);
    }
}

#[test]
fn through_devices_with_room_for_one_frame() {
    run(async {
        let pair = Pair::new();
        pair.wire.set_room(1);
        serve_echo(&pair.server, 7);
        settle().await;
        let stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        exchange(stream, pattern(1, 1 << 20)).await;
    });
}
