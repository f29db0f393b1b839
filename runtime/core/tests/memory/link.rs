//! Links and devices that go and come back while memory runs out.

use embedded_io_async::{Read, Write};
use failing_memory::{Trial, every_allocation};
use rekernel_core::net::{TcpOptions, TcpStream};
use rekernel_core::time::{Duration, sleep, timeout};

use crate::support::{Pair, SERVER, at, run, settle};
use crate::tcp::serve;

async fn ping(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut answer).await.is_ok()
}

#[test]
fn connections_outlive_an_interruption() {
    every_allocation(
        "link::connections_outlive_an_interruption",
        |trial: &mut Trial| {
            run(async {
                let pair = Pair::new();
                serve(&pair.server);
                settle().await;
                let connect = pair.client.connect(at(SERVER, 7), TcpOptions::default());
                let mut stream = connect.await.unwrap();
                assert!(ping(&mut stream).await);
                trial.begin();
                pair.wire.set_link(false);
                sleep(Duration::from_secs(1)).await;
                pair.wire.set_link(true);
                sleep(Duration::from_secs(5)).await;
                pair.wire.take_away();
                sleep(Duration::from_secs(1)).await;
                pair.wire.give_back([2, 0, 0, 0, 0, 9]);
                sleep(Duration::from_secs(5)).await;
                trial.end();
                let after = timeout(Duration::from_secs(120), ping(&mut stream)).await;
                assert_eq!(after, Ok(true), "one failure did harm for good");
            });
        },
    );
}
