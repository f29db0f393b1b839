//! The time a guest takes from being let run.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::xen::Domain;
use crate::{Result, http, print};

/// The shortest pause between two attempts. Each takes dom0 and the guest's backend some time.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// After so long it is worth asking whether the guest is still alive.
const OBITUARY: Duration = Duration::from_secs(1);

/// An attempt comes after a hundredth of the time gone so far: the error is 1 % at most, and a
/// slow guest is not disturbed more often than a fast one.
fn pause(gone: Duration) -> Duration {
    (gone / 100).max(LEAST_PAUSE)
}

/// How long an attempt waits for its answer: longer than an answer takes, and less than the second
/// after which TCP would repeat a question that was lost.
const PATIENCE: Duration = Duration::from_millis(250);

/// Lets the guest run and prints `first_byte`: the time to the first byte of an answer.
///
/// Nothing can be answered before the guest has connected to its backend, which shows in the
/// carrier of the backend's interface: until then only that is looked at, since anything more
/// would take processor time from the backend. Then a new attempt to connect is made after each
/// pause, while those before wait for their answers.
pub(crate) fn first_byte(
    domain: &Domain,
    server: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<()> {
    let request = http::request(path, "");
    let carrier = format!("/sys/class/net/vif{}.0/carrier", domain.number());
    let mut is_connected = false;
    let (connected, connections) = channel();
    let started = Instant::now();
    domain.unpause()?;
    loop {
        let gone = started.elapsed();
        if gone > limit {
            return Err(format!("no answer within {limit:?}").into());
        }
        if gone > OBITUARY && domain.has_shut_down()? {
            return Err(format!("the guest ended after {gone:?}").into());
        }
        // The file cannot be read while the interface is down.
        is_connected |= fs::read(&carrier).is_ok_and(|text| text == b"1\n");
        if !is_connected {
            sleep(pause(gone));
            continue;
        }
        let connected = connected.clone();
        thread::spawn(move || {
            if let Ok(stream) = TcpStream::connect_timeout(&server, PATIENCE) {
                // Nobody waits any more for the second.
                let _ = connected.send(stream);
            }
        });
        let Ok(mut stream) = connections.recv_timeout(pause(gone)) else {
            continue;
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(&request)?;
        if stream.read(&mut [0; 1])? == 1 {
            print("first_byte", started.elapsed().as_nanos());
            return Ok(());
        }
    }
}

/// Lets the guest run and prints `shutdown`: the time until it has ended.
pub(crate) fn until_shut_down(domain: &Domain, limit: Duration) -> Result<()> {
    let started = Instant::now();
    domain.unpause()?;
    while !domain.has_shut_down()? {
        if started.elapsed() > limit {
            return Err(format!("the guest did not end within {limit:?}").into());
        }
        sleep(Duration::from_millis(1));
    }
    print("shutdown", started.elapsed().as_nanos());
    Ok(())
}
