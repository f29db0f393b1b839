//! The part of the runtime that decides: executor, time, configuration, randomness, network
//! stack.
//!
//! Nothing here touches the machine. What it needs from below is [`platform::Platform`] (a
//! clock, a way to sleep, entropy) and [`net::device::NetworkDevice`] (frames); so all of it
//! runs in ordinary tests on the host, with a clock moved by hand.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod config;
mod context;
mod cpu_local;
mod deadlines;
pub mod executor;
pub mod lifecycle;
pub mod lines;
pub mod memory;
pub mod monitor;
pub mod net;
pub mod platform;
pub mod random;
pub mod report;
pub mod test_order;
pub mod time;
