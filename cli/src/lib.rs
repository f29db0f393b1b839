//! Builds rekernel guests and boots them: the library behind `cargo rekernel`.
//!
//! [`arguments`] says what is wanted, and each subcommand has a module in [`commands`]. A run goes
//! through the others in this order: [`package`] finds the crate, [`build`] makes the bootable ELF, [`qemu`] or [`xen`]
//! boots it, [`monitor`] asks it while it runs, [`console`] understands what the guest prints, and [`crash`] turns the
//! addresses of a crash into functions and lines with [`symbolize`]. [`image`] makes disks.
//!
//! `xtask` boots its test guests through the same modules, so that what is tested is
//! what users run.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod build;
pub mod commands;
pub mod console;
pub mod crash;
pub mod image;
pub mod interrupt;
pub mod json;
pub mod monitor;
pub mod package;
pub mod ports;
pub mod progress;
pub mod qemu;
pub mod symbolize;
pub mod watcher;
pub mod xen;
