//! As many bytes as go through, on one stream or several.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::{Result, print};

const BLOCK: usize = 64 << 10;

/// From the guest, for `time`.
pub(crate) fn receive(server: SocketAddr, streams: usize, time: Duration) -> Result<()> {
    run(server, streams, time, |stream, until| {
        let mut block = vec![0; BLOCK];
        let mut bytes = 0;
        while Instant::now() < until {
            let count = stream.read(&mut block)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes += count as u64;
        }
        Ok(bytes)
    })
}

/// To the guest: for `time`, and until the guest says that it has all.
pub(crate) fn send(server: SocketAddr, streams: usize, time: Duration) -> Result<()> {
    run(server, streams, time, |stream, until| {
        let block = vec![0; BLOCK];
        let mut bytes = 0;
        while Instant::now() < until {
            stream.write_all(&block)?;
            bytes += block.len() as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        match stream.read(&mut [0; 1])? {
            0 => Ok(bytes),
            _ => Err(io::Error::other(
                "the guest answers, where it should only receive",
            )),
        }
    })
}

/// Runs `transfer` on each stream and prints `bytes` and `elapsed`.
fn run(
    server: SocketAddr,
    streams: usize,
    time: Duration,
    transfer: fn(&mut TcpStream, Instant) -> io::Result<u64>,
) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(time + Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(time + Duration::from_secs(60)))?;
        open.push(stream);
    }
    let started = Instant::now();
    let workers: Vec<_> = open
        .into_iter()
        .map(|mut stream| thread::spawn(move || transfer(&mut stream, started + time)))
        .collect();
    let mut bytes = 0;
    for worker in workers {
        bytes += worker.join().map_err(|_| "a thread panicked")??;
    }
    print("bytes", bytes);
    print("elapsed", started.elapsed().as_nanos());
    Ok(())
}
