//! UDP datagrams that the guest sends back, with several under way.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Result, print};

/// After so much silence what is under way counts as lost. It is lost time, too: a loss makes the
/// figure worse.
const SILENCE: Duration = Duration::from_millis(200);

/// Keeps `window` datagrams under way for `time`; prints `datagrams` that came back, those `lost`
/// and `elapsed`.
pub(crate) fn echo(server: SocketAddr, bytes: usize, window: usize, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let datagram = vec![0; bytes];
    let mut buffer = vec![0; bytes];
    let (mut back, mut lost, mut under_way) = (0_u64, 0, 0);
    let started = Instant::now();
    while started.elapsed() < time {
        while under_way < window {
            socket.send(&datagram)?;
            under_way += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(_) => {
                back += 1;
                under_way = under_way.saturating_sub(1);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                lost += under_way;
                under_way = 0;
            }
            Err(error) => return Err(error.into()),
        }
    }
    print("datagrams", back);
    print("lost", lost);
    print("elapsed", started.elapsed().as_nanos());
    Ok(())
}
