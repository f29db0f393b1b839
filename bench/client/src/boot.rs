//! The time a guest takes from being let run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::xen::Domain;
use crate::{Result, http, print};

/// The shortest pause between two looks. Each look takes the guest's backend some time.
const LEAST_PAUSE: Duration = Duration::from_millis(4);

/// After so long it is worth asking whether the guest is still alive.
const OBITUARY: Duration = Duration::from_secs(1);

/// A look comes after a fiftieth of the time gone so far, so that the error is 2 % at most
/// and a slow guest is not disturbed more often than a fast one.
fn pause(gone: Duration) -> Duration {
    (gone / 50).max(LEAST_PAUSE)
}

/// Lets the guest run and prints `first_byte`: the time to the first byte of an answer.
///
/// A connection attempt that is not answered within a pause is given up and made anew: TCP
/// itself would wait a second before it repeats its question.
pub(crate) fn first_byte(
    domain: &Domain,
    server: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<()> {
    let request = http::request(path, "");
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
        let pause = pause(gone);
        if let Ok(mut stream) = TcpStream::connect_timeout(&server, pause) {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(&request)?;
            if stream.read(&mut [0; 1])? == 1 {
                print("first_byte", started.elapsed().as_nanos());
                return Ok(());
            }
        }
        // A refusal comes at once.
        sleep(pause.saturating_sub(started.elapsed() - gone));
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
