//! The network stack on the host: stacks joined by wires in memory, in virtual time.

mod announcements;
mod capture;
mod cost;
mod dhcp;
mod dns;
mod hostile;
mod hotplug;
mod ipv6;
mod lifecycle;
mod loss;
mod memory;
mod neighbours;
mod segmentation;
mod silence;
mod support;
mod tcp;
mod udp;
