//! Network services in Rust that boot as their own Xen guest, or under `qemu -kernel`.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! use core::net::Ipv4Addr;
//! use rekernel::net::TcpListener;
//!
//! #[rekernel::main]
//! async fn main() -> Result<(), rekernel::net::BindError> {
//!     let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await?;
//!     // ...
//!     Ok(())
//! }
//! ```
//!
//! The crate is the operating system: it starts the machine it finds itself on, gives all
//! memory to the heap, connects the network interfaces and runs the application's tasks on one
//! virtual processor, which sleeps when nothing is to do.
//!
//! | need | here |
//! |---|---|
//! | tasks and time | [`spawn`], [`try_spawn`], [`time`] |
//! | sockets, names, interfaces | [`net`] |
//! | settings from the command line | [`config`] |
//! | random numbers fit for keys | [`random`] |
//! | messages on the console | [`log`] |
//! | what is typed on the console | [`console`] |
//! | an end for a guest that stands still | [`watchdog`] |
//! | what the guest runs on | [`platform`], [`memory`], [`uptime`] |
//! | what the work costs, what is held | [`activity`], [`resources`] |
//! | before the guest ends or is suspended, after it is resumed | [`lifecycle`] |
//!
//! A panic, a fault or an error returned from main ends the guest as crashed, with a report on
//! the console; returning from main, or [`shutdown`], powers it off.
//!
//! `unsafe` is in the modules that say so below and nowhere else.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "reads the stack")]
mod backtrace;
#[doc(hidden)]
#[expect(unsafe_code, reason = "maps pages and hands out raw memory")]
pub mod buffers;
mod capture;
pub mod config;
pub mod console;
mod counter;
mod crash;
#[expect(unsafe_code, reason = "hands out raw memory")]
mod dma;
mod entropy;
#[expect(unsafe_code, reason = "is the global allocator")]
mod heap;
mod information;
mod logger;
mod machine;
mod monitor;
mod network;
mod pc;
#[expect(unsafe_code, reason = "machine instructions")]
mod processor;
mod report;
pub mod start;
pub mod testing;
pub mod watchdog;
mod xen_guest;

use core::fmt;

pub use heap::HeapInformation;
pub use information::{
    Activity, MemoryInformation, PlatformInformation, Resources, activity, memory, platform,
    resources, uptime,
};
pub use log;
pub use rekernel_core::executor::{Aborted, JoinHandle, spawn, try_spawn, yield_now};
pub use rekernel_core::memory::OutOfMemory;
pub use rekernel_core::{lifecycle, random, time};
pub use rekernel_macros::{main, test};

pub mod net;

/// Tells the host that the guest serves now: prints `rekernel: ready <text> after <n> ms`.
///
/// Tools wait for this line, so call it once, when a request would be answered; `text` is
/// where, for people and tools alike: `http://10.0.2.15/`.
pub fn ready(text: impl fmt::Display) {
    let milliseconds = uptime().as_millis();
    console::write_line(format_args!(
        "rekernel: ready {text} after {milliseconds} ms"
    ));
}

/// Powers the guest off, at once: tasks are not waited for.
pub fn shutdown() -> ! {
    console::write_line(format_args!("rekernel: poweroff"));
    match machine::chosen() {
        Some(machine) => machine.power_off(),
        None => pvh_boot::stop(pvh_boot::Outcome::Success),
    }
}
