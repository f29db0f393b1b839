//! Transfers over wires that lose, repeat, shuffle and damage frames.

use rekernel_core::net::TcpOptions;
use rekernel_core::time::{Duration, timeout};

use crate::support::{Faults, Pair, SERVER, at, pattern, run, settle};
use crate::tcp::{exchange, serve_echo};

fn transfer(length: usize, faults: Faults, room: usize) {
    run(async move {
        let pair = Pair::new();
        pair.wire.set_room(room);
        serve_echo(&pair.server, 7);
        settle().await;
        let stream = pair
            .client
            .connect(at(SERVER, 7), TcpOptions::default())
            .await
            .unwrap();
        pair.wire.set_faults(faults);
        timeout(
            Duration::from_secs(3600),
            exchange(stream, pattern(1, length)),
        )
        .await
        .unwrap_or_else(|_| panic!("{faults:?}: not done within an hour of virtual time"));
    });
}

#[test]
fn a_mebibyte_over_a_good_wire() {
    transfer(1 << 20, Faults::default(), 256);
}

#[test]
fn a_mebibyte_with_loss() {
    transfer(
        1 << 20,
        Faults {
            drop: 20,
            ..Faults::default()
        },
        256,
    );
}

#[test]
fn a_mebibyte_with_everything() {
    transfer(
        1 << 20,
        Faults {
            drop: 10,
            duplicate: 20,
            reorder: 50,
            corrupt: 10,
        },
        256,
    );
}

#[test]
fn a_tenth_of_it_with_a_third_lost() {
    transfer(
        100 << 10,
        Faults {
            drop: 300,
            ..Faults::default()
        },
        256,
    );
}

#[test]
fn through_devices_with_room_for_one_frame() {
    transfer(1 << 20, Faults::default(), 1);
}
