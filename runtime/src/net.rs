//! Sockets, name resolution, and the state of the interfaces.

use core::net::IpAddr;
use core::time::Duration;

pub use rekernel_core::net::{
    AcceptError, AddressSource, BindError, ConfiguredAddress, ConnectError, Counters,
    InterfaceInformation, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ResolveError, SendError,
    TcpError, TcpListener, TcpOptions, TcpStream, UdpSocket, WriteHalf, interfaces, resolve,
};

use crate::time::sleep;

/// Waits until an interface can be reached, and gives its address: the first one that is not
/// link-local, on the first interface whose link is up.
///
/// `None` at once if the guest has no interface at all.
pub async fn first_address() -> Option<IpAddr> {
    // Connecting takes milliseconds, a server that does not answer for ever.
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(250);
    let mut pause = SHORTEST;
    loop {
        let interfaces = interfaces();
        if interfaces.is_empty() {
            return None;
        }
        let reachable = interfaces.iter().filter(|interface| interface.link_is_up);
        let mut addresses = reachable.flat_map(|interface| &interface.addresses);
        if let Some(found) = addresses.find(|found| found.source != AddressSource::LinkLocal) {
            return Some(found.address);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
