//! Requests, one after another on each connection, and connections, one after another.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::{Result, print};

/// The answered requests of one load.
pub(crate) struct Answers {
    /// How long each took.
    times: Vec<Duration>,
    /// How long all took.
    elapsed: Duration,
}

impl Answers {
    /// Prints `requests`, `elapsed`, `median` and `p99`.
    pub(crate) fn print(mut self) {
        self.times.sort();
        print("requests", self.times.len());
        print("elapsed", self.elapsed.as_nanos());
        for (name, percent) in [("median", 50), ("p99", 99)] {
            print(name, percentile(&self.times, percent).as_nanos());
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// The smallest time that is not exceeded by `percent` of them; zero where there is none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Keeps `connections` open and asks on each, as soon as the answer before is there, for `time`.
pub(crate) fn keep_alive(
    server: SocketAddr,
    path: &str,
    connections: usize,
    time: Duration,
) -> Result<Answers> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(server, path)?;
        // The first is not counted: what a server does once for a connection is not a request.
        connection.get()?;
        open.push(connection);
    }
    let started = Instant::now();
    let workers: Vec<_> = open
        .into_iter()
        .map(|connection| thread::spawn(move || ask(connection, started + time)))
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        let outcome = worker.join().map_err(|_| "a thread panicked")?;
        times.extend(outcome?);
    }
    Ok(Answers {
        times,
        elapsed: started.elapsed(),
    })
}

fn ask(mut connection: Connection, until: Instant) -> std::result::Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    let mut now = Instant::now();
    while now < until {
        connection.get().map_err(|error| error.to_string())?;
        let then = Instant::now();
        times.push(then - now);
        now = then;
    }
    Ok(times)
}

/// Opens a connection, asks once and waits for its end, over and over for `time`.
pub(crate) fn new_connections(server: SocketAddr, path: &str, time: Duration) -> Result<()> {
    let mut count = 0;
    let started = Instant::now();
    while started.elapsed() < time {
        let mut connection = Connection::open_for_one(server, path)?;
        connection.get()?;
        connection.finish()?;
        count += 1;
    }
    print("connections", count);
    print("elapsed", started.elapsed().as_nanos());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
