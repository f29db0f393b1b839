//! From Xen's PVH entry point to a Rust function.
//!
//! A program that uses this crate and links with its `link.x` boots under Xen (`type="pvh"`,
//! `kernel=`), under `qemu-system-x86_64 -kernel` (pc, q35, microvm), and from a disk by a multiboot2
//! loader such as GRUB, with the firmware of a BIOS or UEFI. Before [`entry!`]'s function
//! runs, this crate has
//! - checked what the loader handed over ([`BootInfo`]),
//! - mapped memory at its physical address: code executable and read-only, constants read-only,
//!   everything else writable and not executable; page 0 and a page below each stack not at all,
//! - switched on what the processor has against mistakes: NX, CR0.WP, SMEP, SMAP, UMIP,
//! - caught all exceptions ([`exceptions`]) and made interrupts safe to use ([`interrupts`]).
//!
//! It knows nothing of Xen's interfaces beyond the boot protocol and needs no heap.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! pvh_boot::entry!(main);
//!
//! fn main(boot: &'static pvh_boot::BootInfo) -> ! {
//!     pvh_boot::debug_port::write(b"hello\n");
//!     pvh_boot::stop(pvh_boot::Outcome::Success)
//! }
//! ```
//!
//! Everything that decides is safe code with host tests; what touches the machine is in `machine`
//! and left out of test builds, where its assembly and its `memcpy` cannot be linked.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(dead_code, unreachable_pub, reason = "the machine code is left out")
)]

mod address_space;
mod boot_info;
mod descriptors;
mod error;
#[cfg(test)]
mod fake_loader;
mod fault;
mod handover;
#[expect(unsafe_code, reason = "raw memory is what these are about")]
mod memory_functions;
mod memory_map;
mod multiboot2;
mod page_tables;
mod region;
mod start_info;

#[cfg(not(test))]
#[expect(unsafe_code, reason = "this is where the machine is touched")]
mod machine;

pub use boot_info::{BootInfo, Module};
pub use handover::BootProtocol;
pub use region::MemoryRegion;
pub use start_info::{MapEntry, MemoryKind};

#[cfg(not(test))]
pub use machine::{
    debug_port, exceptions,
    image::{Image, image},
    interrupts, paging,
    stacks::stack_bounds,
    stop::{Outcome, stop},
};

/// Names the function that runs once the machine is set up: a `fn(&'static BootInfo) -> !`.
///
/// Once in a program; a second one is a duplicate symbol.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[unsafe(export_name = "pvh_boot_main")]
            fn pvh_boot_main(boot: &'static $crate::BootInfo) -> ! {
                let main: fn(&'static $crate::BootInfo) -> ! = $main;
                main(boot)
            }
        };
    };
}
