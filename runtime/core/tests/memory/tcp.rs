//! TCP connections while memory runs out.

use embedded_io_async::{Read, Write};
use failing_memory::{Trial, every_allocation, unharmed};
use rekernel_core::executor::{spawn, try_spawn};
use rekernel_core::net::{Stack, TcpOptions};
use rekernel_core::time::{Duration, timeout};

use crate::support::{Pair, SERVER, at, pattern, run, settle};

const LIMIT: Duration = Duration::from_secs(300);

/// Accepts for as long as the stack lives; each connection gets back what it sends.
pub(crate) fn serve(stack: &Stack) {
    let listener = stack.listen(at(SERVER, 7), TcpOptions::default()).unwrap();
    drop(spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let echo = async move {
                let mut buffer = [0; 1000];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            // Without memory for a task the connection ends here.
            drop(try_spawn(echo));
        }
    }));
}

/// Sends `data` and reads it back. Whether that went well.
async fn talk(stack: &Stack, data: &[u8]) -> bool {
    let Ok(mut stream) = stack.connect(at(SERVER, 7), TcpOptions::default()).await else {
        return false;
    };
    let (mut reader, mut writer) = stream.split();
    let mut received = unharmed(|| Vec::with_capacity(data.len()));
    let mut sent = 0;
    while received.len() < data.len() {
        if sent < data.len() {
            let most = data.len().min(sent + 4000);
            match writer.write(&data[sent..most]).await {
                Ok(count) => sent += count,
                Err(_) => return false,
            }
        }
        let mut buffer = [0; 4000];
        match reader.read(&mut buffer).await {
            Ok(count @ 1..) => received.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
    writer.shutdown();
    matches!(reader.read(&mut [0; 10]).await, Ok(0)) && received == data
}

fn check(test: &str, prepare: impl Fn(&Pair)) -> u64 {
    every_allocation(test, |trial: &mut Trial| {
        let data = pattern(1, 20_000);
        run(async {
            let pair = Pair::new();
            prepare(&pair);
            serve(&pair.server);
            settle().await;
            trial.begin();
            let _ = timeout(LIMIT, talk(&pair.client, &data)).await;
            trial.end();
            let after = timeout(LIMIT, talk(&pair.client, &data)).await;
            assert_eq!(after, Ok(true), "one failure did harm for good");
        });
    })
}

#[test]
fn a_connection() {
    let count = check("tcp::a_connection", |_| {});
    assert!(count > 10, "only {count}");
}

#[test]
fn a_connection_through_a_device_that_is_full() {
    check("tcp::a_connection_through_a_device_that_is_full", |pair| {
        pair.wire.set_room(1);
    });
}
