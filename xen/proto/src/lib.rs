//! The protocols of a Xen guest as plain safe Rust: no hypercall, no machine, no I/O.
//!
//! - [`hypervisor`]: what the protocols need from the machine, as traits.
//! - [`ring`]: request/response rings with event words (network, block, ...).
//! - [`byte_stream`]: the one-way byte rings of xenstore and the console.
//! - [`xenstore`]: wire format, bounded parser and asynchronous client.
//! - [`turns`]: memory for a task before it goes on.
//! - [`xenbus`]: device states and the frontend's machine for both directions of its life.
//! - `fake` (feature `fake`): a strict hypervisor, a xenstored and an executor for host tests.
//! - `vectors` (feature `fake`): layouts and constants printed by Xen's own headers.
//!
//! The peer on the other side of a shared page is never trusted: what it wrote is copied out
//! once, checked, and only then believed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod byte_stream;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod hypervisor;
pub mod ring;
mod sorted_map;
pub mod turns;
#[cfg(any(test, feature = "fake"))]
pub mod vectors;
pub mod xenbus;
pub mod xenstore;
