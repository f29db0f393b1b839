//! A guest that reaches Rust and ends: the least time in which any PVH guest could do something.
//!
//! Halting with interrupts off is the end of a domain's only virtual processor and so, to Xen,
//! a power-off: no hypercall is needed.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

use pvh_boot::{BootInfo, Outcome};

pvh_boot::entry!(main);

fn main(_boot: &'static BootInfo) -> ! {
    pvh_boot::stop(Outcome::Success)
}

#[panic_handler]
fn panic(_info: &PanicInfo) -> ! {
    pvh_boot::stop(Outcome::Crash)
}
