//! The protocols of a Xen guest as plain safe Rust: no hypercall, no machine, no I/O.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod hypervisor;
