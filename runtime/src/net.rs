//! Sockets, name resolution, and the state of the interfaces.

use core::net::IpAddr;
use core::time::Duration;

pub use rekernel_core::net::{
    AcceptError, AddressSource, BindError, ConfiguredAddress, ConnectError, Counters,
    InterfaceInformation, InterfaceWatch, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ResolveError,
    SendError, TcpError, TcpListener, TcpOptions, TcpStream, UdpSocket, WriteHalf, interfaces,
    resolve, watch_interfaces,
};

use rekernel_core::net::Stack;

use crate::time::timeout;

/// Waits until the guest can be reached, and gives the address: of the first interface with its
/// link up, not a link-local one. `None` at once if there is no interface at all.
///
/// An IPv4 address is preferred, by waiting for up to a second after an IPv6 one is there:
/// routers advertise faster than DHCP servers answer, and what stands in front of a guest (a
/// forwarded port, an entry in a name server) is usually IPv4.
pub async fn first_address() -> Option<IpAddr> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let first = Stack::current().first_address().await?;
    let ipv4 = async {
        let mut watch = watch_interfaces();
        loop {
            if let Some(address) = ipv4_address() {
                return address;
            }
            watch.changed().await;
        }
    };
    Some(timeout(PATIENCE, ipv4).await.unwrap_or(first))
}

fn ipv4_address() -> Option<IpAddr> {
    let interfaces = interfaces();
    let up = interfaces.iter().filter(|interface| interface.link_is_up);
    let addresses = up.flat_map(|interface| &interface.addresses);
    addresses.map(|found| found.address).find(IpAddr::is_ipv4)
}
