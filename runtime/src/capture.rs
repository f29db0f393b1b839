//! `capture=PORT`: whoever connects there gets a recording of all frames, for Wireshark and its like.
//!
//! Off unless the command line asks for it: it shows all that the guest sends and receives to anyone who can reach
//! the port. One at a time; the next in line waits. A reader who is slow loses frames, which the recording counts, and
//! holds up nobody.

use core::net::Ipv6Addr;

use embedded_io_async::Write;
use rekernel_core::executor::spawn;
use rekernel_core::net::{Stack, TcpListener, TcpStream};
use rekernel_core::time::{Duration, timeout};

/// How long a reader may take no bytes at all before the next one has a turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves recordings from now on.
pub(crate) fn serve(port: u16) {
    spawn(async move {
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => listener,
            Err(error) => {
                log::error!(target: "rekernel", "command line: capture={port}: {error}");
                return;
            }
        };
        log::warn!(
            target: "rekernel",
            "capture={port}: whoever connects to TCP port {port} gets all frames of this guest"
        );
        while let Ok((stream, reader)) = listener.accept().await {
            log::info!(target: "rekernel", "{reader} records frames");
            record(stream, port).await;
            log::info!(target: "rekernel", "{reader} records no more");
        }
    });
}

/// Until the reader goes, or takes nothing any more.
async fn record(mut stream: TcpStream, port: u16) {
    let Ok(mut capture) = Stack::current().capture(port) else {
        return;
    };
    loop {
        let bytes = capture.fetch().await;
        match timeout(PATIENCE, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
