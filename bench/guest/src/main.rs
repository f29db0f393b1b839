//! The services that `cargo xtask bench` measures, as a rekernel guest.
//!
//! | port     | what                                                        | its Linux counterpart |
//! |----------|-------------------------------------------------------------|-----------------------|
//! | TCP 80   | HTTP, as the example `http`                                 | nginx                 |
//! | TCP 5001 | sends until the connection ends                             | `bench/peer`          |
//! | TCP 5002 | receives until the peer has finished, then ends             | `bench/peer`          |
//! | UDP 5003 | sends every datagram back                                   | `bench/peer`          |
//! | TCP 5004 | holds connections and needs nothing for them                | none                  |
//!
//! HTTP is served by the very code of the example, but that idle connections are kept: opening
//! thousands of them takes minutes under emulation.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

#[path = "../../../examples/http/src/connection.rs"]
mod connection;
#[path = "../../../examples/http/src/content.rs"]
mod content;
#[path = "../../../examples/http/src/echo.rs"]
mod echo;
#[path = "../../../examples/http/src/page.rs"]
mod page;
#[path = "../../../examples/http/src/service.rs"]
mod service;
#[path = "../../../examples/http/src/socket.rs"]
mod socket;

use core::net::Ipv6Addr;

use embedded_io_async::{Read, Write};
use rekernel::net::{BindError, TcpListener, TcpOptions, TcpStream, UdpSocket, first_address};
use rekernel::time::Duration;

use crate::connection::IdleLimits;
use crate::content::Pattern;

const HTTP: u16 = 80;
const SOURCE: u16 = 5001;
const SINK: u16 = 5002;
const ECHO: u16 = 5003;
const HOLD: u16 = 5004;

/// As nginx's, which the Linux guests listen with.
const BACKLOG: usize = 4096;

#[rekernel::main]
async fn main() -> Result<(), BindError> {
    let http = listen(HTTP).await?;
    let source = listen(SOURCE).await?;
    let sink = listen(SINK).await?;
    let hold = listen(HOLD).await?;
    let echo = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO)).await?;
    rekernel::spawn(send_back(echo));
    rekernel::spawn(accept(source, |stream| rekernel::spawn(send(stream))));
    rekernel::spawn(accept(hold, |stream| rekernel::spawn(wait(stream))));
    rekernel::spawn(accept(sink, |stream| rekernel::spawn(receive(stream))));
    rekernel::spawn(async {
        if let Some(address) = first_address().await {
            rekernel::ready(format_args!("http://{address}/"));
        }
    });
    let pattern = Pattern::new();
    accept(http, |stream| {
        let peer = stream.peer_addr();
        rekernel::spawn(connection::serve(
            stream,
            peer,
            pattern.clone(),
            IDLE_LIMITS,
        ))
    })
    .await;
    Ok(())
}

async fn listen(port: u16) -> Result<TcpListener, BindError> {
    let options = TcpOptions {
        backlog: BACKLOG,
        ..TcpOptions::default()
    };
    TcpListener::bind_with((Ipv6Addr::UNSPECIFIED, port), options).await
}

/// Gives each connection to `start`.
async fn accept<T>(listener: TcpListener, start: impl Fn(TcpStream) -> T) {
    while let Ok((stream, _peer)) = listener.accept().await {
        start(stream);
    }
}

/// What one read or write of the bulk services moves at most.
const BLOCK: usize = 64 << 10;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

async fn send(mut stream: TcpStream) {
    while stream.write_all(&ZEROS).await.is_ok() {}
}

async fn receive(mut stream: TcpStream) {
    let mut block = alloc::vec![0; BLOCK];
    while let Ok(1..) = stream.read(&mut block).await {}
}

async fn wait(mut stream: TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 16]).await {}
}

async fn send_back(socket: UdpSocket) {
    let mut datagram = [0; 2048];
    loop {
        let (count, peer) = socket.recv_from(&mut datagram).await;
        if let Err(error) = socket.send_to(&datagram[..count], peer).await {
            log::warn!("a datagram is not sent back: {error}");
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

const IDLE_LIMITS: IdleLimits = IdleLimits {
    first: HOUR,
    next: HOUR,
};
