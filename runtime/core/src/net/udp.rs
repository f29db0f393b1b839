//! UDP sockets.

use super::{BindError, SendError};
use core::net::SocketAddr;

/// A UDP socket.
pub struct UdpSocket(());

impl UdpSocket {
    /// Binds to `address`; port 0 chooses one.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: impl Into<SocketAddr>) -> Result<Self, BindError> {
        let _ = address.into();
        Ok(Self(()))
    }

    /// Sends one datagram; waits while the buffer is full.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_to(
        &self,
        datagram: &[u8],
        peer: impl Into<SocketAddr>,
    ) -> Result<usize, SendError> {
        let _ = datagram;
        Err(SendError::NoRoute(peer.into().ip()))
    }

    /// Receives one datagram: its length and sender. What does not fit into `buffer` is lost.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let _ = buffer;
        core::future::pending().await
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
}
