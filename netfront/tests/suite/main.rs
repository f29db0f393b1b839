//! The frontend against a strict backend, over real rings and a real xenstore protocol.

mod checksums;
mod connecting;
mod hostile;
mod reconnecting;
mod resources;
mod segmentation;
mod support;
mod traffic;
