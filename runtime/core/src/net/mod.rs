//! The network stack and its sockets.
pub mod device;
