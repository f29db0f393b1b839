//! Frames are recorded while somebody wants that.

use embedded_io_async::{Read, Write};
use rekernel_core::executor::spawn;
use rekernel_core::net::TcpOptions;
use rekernel_core::time::{Duration, sleep};

use crate::hotplug::connected;
use crate::support::{Pair, SERVER, at, run};
use crate::tcp::serve_echo;

/// Frames in a recording: blocks of type 6.
fn frames(recording: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| {
        let bytes = recording[at..at + 4].try_into().unwrap();
        u32::from_le_bytes(bytes) as usize
    };
    let (mut at, mut frames) = (0, Vec::new());
    while at < recording.len() {
        if word(at) == 6 {
            let length = word(at + 20);
            frames.push(recording[at + 28..at + 28 + length].to_vec());
        }
        at += word(at + 4);
    }
    frames
}

#[test]
fn a_recording_has_both_directions_and_ends_with_its_owner() {
    const SECRET: &[u8] = b"what goes over the wire";
    run(async {
        let pair = Pair::new();
        serve_echo(&pair.server, 7);
        let mut capture = pair.server.capture(5555).unwrap();
        assert!(pair.server.capture(5555).is_err(), "one at a time");
        let mut stream = connected(&pair).await;
        stream.write_all(SECRET).await.unwrap();
        let mut buffer = [0; 64];
        stream.read(&mut buffer).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let recording = capture.fetch().await;
        let carried = frames(&recording);
        let with_secret = carried
            .iter()
            .filter(|frame| frame.ends_with(SECRET))
            .count();
        assert_eq!(with_secret, 2, "there and back");
        drop(capture);
        assert!(pair.server.capture(5555).is_ok());
    });
}

#[test]
fn nobody_waits_for_a_reader_who_does_not_read() {
    const BYTES: usize = 2_000_000;
    run(async {
        let pair = Pair::new();
        let options = TcpOptions::default();
        let listener = pair.server.listen(at(SERVER, 7), options).unwrap();
        spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&vec![7; BYTES]).await.unwrap();
        });
        let mut capture = pair.server.capture(5555).unwrap();
        let mut stream = connected(&pair).await;
        let (mut buffer, mut total) = (vec![0; 65_536], 0);
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            total += count;
        }
        assert_eq!(total, BYTES);
        assert!(capture.fetch().await.len() <= 256 * 1024);
    });
}
