//! The echo service (RFC 862): sends back what it is sent, over TCP and UDP, on port 7.
//!
//! ```text
//! $ cargo rekernel run echo                    (and --on xen for the same on a real Xen)
//! rekernel: version 0.1.0 on QEMU q35, 65023 KiB of memory
//! rekernel: ready 10.0.2.15 port 7, TCP and UDP after 85 ms
//!
//! $ echo hello | nc -N 127.0.0.1 8080
//! hello
//! $ echo hello | nc -u -w1 127.0.0.1 8080
//! hello
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use core::net::Ipv6Addr;

use embedded_io_async::{Read, Write};
use rekernel::net::{BindError, TcpError, TcpListener, TcpStream, UdpSocket, first_address};

const PORT: u16 = 7;

/// The largest datagram UDP can carry over IPv4.
const LARGEST_DATAGRAM: usize = 65_507;

#[rekernel::main]
async fn main() -> Result<(), BindError> {
    let datagrams = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).await?;
    rekernel::spawn(echo_datagrams(datagrams));
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await?;
    rekernel::spawn(announce());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let served = rekernel::try_spawn(async move {
                    if let Err(error) = echo_stream(stream).await {
                        log::info!("{peer}: {error}");
                    }
                });
                if let Err(error) = served {
                    log::info!("{peer}: {error}");
                }
            }
            Err(error) => log::warn!("connection lost: {error}"),
        }
    }
}

async fn announce() {
    match first_address().await {
        Some(address) => rekernel::ready(format_args!("{address} port {PORT}, TCP and UDP")),
        None => log::warn!("no network device: nobody can reach this server"),
    }
}

async fn echo_stream(mut stream: TcpStream) -> Result<(), TcpError> {
    let mut buffer = alloc::vec![0; 8192];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = alloc::vec![0; LARGEST_DATAGRAM];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await;
        if let Err(error) = socket.send_to(&buffer[..length], peer).await {
            log::info!("{peer}: {error}");
        }
    }
}
