//! The part of the runtime that decides: executor, time, configuration, network stack.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod net;
pub mod platform;
