//! The frontend against a strict backend, over real rings and a real xenstore protocol.

mod checksums;
mod connecting;
mod hostile;
mod hotplug;
mod reconnecting;
mod resources;
mod resuming;
mod segmentation;
mod support;
mod traffic;
