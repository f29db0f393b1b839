//! Choosing local ports.

use core::net::SocketAddr;

use super::BindError;
use crate::random;

/// The dynamic ports of IANA (RFC 6335, section 6).
const FIRST: u16 = 49152;
const COUNT: u16 = u16::MAX - FIRST + 1;

/// A random ephemeral port that is free (RFC 6056, algorithm 1), or `None` if none is.
pub(super) fn ephemeral(is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let start = (random::network_u64() % u64::from(COUNT)) as u16;
    (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|port| is_free(*port))
}

/// `address`, with a free port if it has none.
pub(super) fn choose(
    address: SocketAddr,
    is_free: impl Fn(SocketAddr) -> bool,
) -> Result<SocketAddr, BindError> {
    let with_port = |port| SocketAddr::new(address.ip(), port);
    match address.port() {
        0 => ephemeral(|port| is_free(with_port(port)))
            .map(with_port)
            .ok_or(BindError::NoFreePort),
        _ if is_free(address) => Ok(address),
        _ => Err(BindError::AddressInUse(address)),
    }
}
