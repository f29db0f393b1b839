//! What many idle connections cost those that are not idle.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::{Result, print, requests};

/// The connections on which requests are made.
const BUSY: usize = 8;

/// Measures requests per second on eight connections, first alone (`alone`), then beside `count`
/// idle ones to `port` (`beside`), in thousandths; the guest's heap before and after they were
/// opened (`heap_before`, `heap_after`); how long that took (`opening`), and how many were still
/// open in the end (`held`).
pub(crate) fn compare(
    server: SocketAddr,
    path: &str,
    port: u16,
    count: usize,
    time: Duration,
) -> Result<()> {
    // For nothing: buffers are allocated, tables grow.
    requests::keep_alive(server, path, BUSY, time)?;
    print("alone", per_second(server, path, time)?);
    print("heap_before", heap(server)?);
    let started = Instant::now();
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(TcpStream::connect((server.ip(), port))?);
    }
    print("opening", started.elapsed().as_nanos());
    print("heap_after", heap(server)?);
    print("beside", per_second(server, path, time)?);
    // Those that the guest has ended meanwhile were not held.
    let held = idle.iter().filter(|stream| is_open(stream)).count();
    print("held", held);
    Ok(())
}

/// Requests per second in thousandths: the middle of three measurements.
fn per_second(server: SocketAddr, path: &str, time: Duration) -> Result<u64> {
    let mut rates = [0; 3];
    for rate in &mut rates {
        let answers = requests::keep_alive(server, path, BUSY, time)?;
        *rate = (answers.per_second() * 1000.0) as u64;
    }
    rates.sort_unstable();
    Ok(rates[1])
}

/// Bytes of the guest's heap in use, from the page about itself that the example `http` serves.
fn heap(server: SocketAddr) -> Result<u64> {
    let mut connection = Connection::open_for_one(server, "/")?;
    let page = String::from_utf8(connection.get()?.to_vec())?;
    let kibibytes: u64 = heap_of(&page).ok_or("the page has no heap")?.parse()?;
    Ok(kibibytes << 10)
}

/// `<th align=left>heap<td>132 of 14000 KiB in use`.
fn heap_of(page: &str) -> Option<&str> {
    let (_, row) = page.split_once(">heap<td>")?;
    let (used, rest) = row.split_once(' ')?;
    rest.contains("KiB in use").then_some(used)
}

fn is_open(stream: &TcpStream) -> bool {
    let would_block = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_ok()
        && stream
            .peek(&mut [0])
            .is_err_and(|error| would_block(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_found_in_the_page() {
        let page = "<tr><th align=left>heap<td>132 of 14000 KiB in use\n<tr>";
        assert_eq!(heap_of(page), Some("132"));
        assert_eq!(heap_of("<h1>403 Forbidden</h1>"), None);
    }
}
