//! One connection: all that requests need while they come, and next to nothing between them.

use alloc::boxed::Box;
use core::net::SocketAddr;

use embedded_io_async::Write;
use picoserve::{Config, DisconnectionInfo, NoGracefulShutdown, Router, Server, Timeouts};
use rekernel::net::{TcpError, TcpStream};
use rekernel::time::{Duration, timeout};

use crate::content::Pattern;
use crate::echo;
use crate::service::Service;
use crate::socket::{Connection, GuestTimer};

/// How long a connection may be idle.
#[derive(Clone, Copy)]
pub(crate) struct IdleLimits {
    /// Until its first request.
    pub(crate) first: Duration,
    /// After a request.
    pub(crate) next: Duration,
}

/// Limits for one request. The library stops reading a request's head after `read_request`, and
/// waits no longer than `persistent_start_read_request` for the next one: long enough for a client
/// at work, so that each burst of requests takes and frees memory once.
const CONFIG: Config = Config::new(Timeouts {
    start_read_request: picoserve::time::Duration::from_secs(10),
    persistent_start_read_request: picoserve::time::Duration::from_secs(1),
    read_request: picoserve::time::Duration::from_secs(10),
    write: picoserve::time::Duration::from_secs(30),
})
.keep_connection_alive();

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    pattern: Pattern,
    limits: IdleLimits,
) {
    let mut connection = Connection::new(stream);
    let mut limit = limits.first;
    let mut requests = 0;
    while timeout(limit, connection.readable()).await.is_ok() {
        // Again: many connections that waited may begin to ask at a time.
        if !rekernel::memory().heap.has_headroom() {
            return refuse(connection.writer(), peer).await;
        }
        // The library's state and the buffers are several KiB, more than the connection itself.
        match Box::pin(serve_requests(&mut connection, &pattern)).await {
            Ok(served) => requests += served.handled_requests_count,
            Err(error) => {
                log::debug!("{peer}: {error}");
                return;
            }
        }
        if !connection.awaits_request() {
            break;
        }
        limit = limits.next;
    }
    log::debug!("{peer}: {requests} requests");
}

/// Answers that memory is short. The answer fits the buffer of a connection that sent nothing yet.
pub(crate) async fn refuse(to: &mut impl Write, peer: SocketAddr) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    const PATIENCE: Duration = Duration::from_millis(100);
    log::debug!("{peer}: refused, memory is short");
    // Who does not take it may find out otherwise.
    let _ = timeout(PATIENCE, to.write_all(ANSWER)).await;
}

/// Serves requests as long as they follow each other closely.
async fn serve_requests(
    connection: &mut Connection,
    pattern: &Pattern,
) -> Result<DisconnectionInfo<NoGracefulShutdown>, picoserve::Error<TcpError>> {
    let router = Router::from_service(Service {
        upload: connection.upload(),
        pattern: pattern.clone(),
    });
    let mut head = alloc::vec![0; echo::HEAD_BYTES];
    let server = Server::custom(&router, GuestTimer, &CONFIG, &mut head);
    server.serve(connection.socket()).await
}
