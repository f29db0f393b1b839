//! A web server: a page about the guest it runs in, downloads and uploads of any size.
//!
//! ```text
//! $ cargo rekernel run http                     (and --on xen for the same on a real Xen)
//! rekernel: version 0.1.0 on QEMU q35, 65023 KiB of memory
//! rekernel: ready http://10.0.2.15/ after 85 ms
//!
//! $ curl http://127.0.0.1:8080/                 a page: platform, uptime, addresses, memory
//! $ curl http://127.0.0.1:8080/bytes/1000000    a million bytes; number i is i modulo 251
//! $ curl --data-binary @file http://127.0.0.1:8080/echo    the file
//! $ curl http://127.0.0.1:8080/activity         counters: halts, hypercalls, readings of the clock
//! ```
//!
//! Every connection has its own task and is kept alive; one that idles takes little memory
//! ([`connection`]). The command-line key `port` chooses
//! another port than 80. The HTTP library is picoserve; [`socket`] is all it needs to know
//! about rekernel.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod connection;
mod content;
mod echo;
mod page;
mod service;
mod socket;

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use rekernel::net::{BindError, TcpListener, first_address, watch_interfaces};
use rekernel::time::Duration;

use crate::connection::IdleLimits;
use crate::content::Pattern;

#[rekernel::main(keys = ["port"])]
async fn main() -> Result<(), BindError> {
    let port = port();
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
    rekernel::spawn(announce(port));
    let pattern = Pattern::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if rekernel::memory().heap.has_headroom() => {
                let pattern = pattern.clone();
                let served = connection::serve(stream, peer, pattern, IDLE_LIMITS);
                if rekernel::try_spawn(served).is_err() {
                    log::debug!("{peer}: no memory to serve it");
                }
            }
            // Without a task of its own, which would take memory.
            Ok((mut stream, peer)) => connection::refuse(&mut stream, peer).await,
            Err(error) => log::warn!("connection lost: {error}"),
        }
    }
}

fn port() -> u16 {
    const DEFAULT: u16 = 80;
    let Some(value) = rekernel::config::value("port") else {
        return DEFAULT;
    };
    value.parse().unwrap_or_else(|_| {
        log::error!("port={value}: is no port number; taking {DEFAULT}");
        DEFAULT
    })
}

/// Says where the server can be reached, once it can: a guest may get its network device later.
async fn announce(port: u16) {
    let mut watch = watch_interfaces();
    let address = loop {
        match first_address().await {
            Some(address) => break address,
            None => log::warn!("no network device: nobody can reach this server yet"),
        }
        watch.changed().await;
    };
    // Without the default port, as browsers show it.
    let authority = match (address, port) {
        (IpAddr::V4(address), 80) => alloc::format!("{address}"),
        (IpAddr::V6(address), 80) => alloc::format!("[{address}]"),
        _ => alloc::format!("{}", SocketAddr::new(address, port)),
    };
    rekernel::ready(format_args!("http://{authority}/"));
}

const IDLE_LIMITS: IdleLimits = IdleLimits {
    first: Duration::from_secs(10),
    next: Duration::from_secs(60),
};
