//! Addresses of the lab's network.
//!
//! dom0's bridge joins the guests to QEMU's user-mode network, whose DHCP server
//! answers them. Nothing leaves the machine: only the ports forwarded from
//! 127.0.0.1 reach a guest. DHCP therefore announces neither a router nor a name
//! server; forwarded connections come from [`GATEWAY`], on the same network.

use std::net::Ipv4Addr;

/// The bridge in dom0 that guests' virtual interfaces join.
pub const BRIDGE: &str = "xenbr0";
/// dom0's own address on the bridge.
pub const DOM0: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
/// The host as guests see it: the DHCP server, and where forwarded connections
/// come from.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The address reserved for QEMU's name server, which is off here.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// What DHCP gives the first guest that asks; the next one gets the next
/// address, up to sixteen.
pub const FIRST_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Length in bits of the network's prefix.
pub const PREFIX_LENGTH: u8 = 24;
/// The lab's own hotplug script (`script=` of a `vif`): joins an interface to its bridge in a fraction of the
/// time that Xen's own takes here. It does not hand the bridge's MTU on.
pub const HOTPLUG_SCRIPT: &str = "vif-joins";
