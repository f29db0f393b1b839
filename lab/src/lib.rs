//! A real Xen with a Debian dom0, under QEMU, as a library.
//!
//! Everything comes from the machine's own package sources, or from another release of
//! Debian on the same mirror: Xen, dom0's kernel
//! and the tools are downloaded once with apt, checked, and put together into a
//! small dom0 that lives in memory. No hardware virtualisation and no root are
//! needed: QEMU's software emulation of AMD's SVM is enough for Xen to run PVH
//! and HVM guests.
//!
//! ```no_run
//! # fn main() -> lab::Result<()> {
//! use std::time::Duration;
//! let progress = |line: &str| eprintln!("{line}");
//! let prepared = lab::Lab::prepare(&lab::Options::default(), &progress)?;
//! let dom0 = prepared.boot(&lab::BootOptions::default(), &progress)?;
//! let output = dom0.run("xl info | grep xen_version", Duration::from_secs(10))?;
//! print!("{}", output.stdout_text());
//! dom0.shut_down()?;
//! # Ok(())
//! # }
//! ```
//!
//! docs/decisions/lab.md says why it is built this way.
#![forbid(unsafe_code)]

mod apt;
mod boot;
mod cache;
mod command;
mod console;
mod cpio;
mod diagnosis;
mod disk_guests;
mod dom0;
mod elf;
mod error;
mod files;
mod keeper;
mod kernel;
mod linux_guest;
mod machine;
mod modules;
pub mod network;
pub mod packages;
mod prepare;
mod qemu;
mod release;
mod root;
mod scratch;

pub use boot::{BootOptions, HostForward};
pub use cache::hexadecimal;
pub use console::Follower;
pub use dom0::{Dom0, Output};
pub use error::{Diagnosis, Error, Result};
pub use linux_guest::{GuestFile, LinuxGuest, LinuxRecipe};
pub use prepare::{Lab, Options, Prepared, requirements};
pub use release::Release;
