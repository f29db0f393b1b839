//! The part that touches the machine: thin, and the only unsafe code of this crate.

mod boot_cell;
pub mod debug_port;
mod entry;
pub mod exceptions;
pub(crate) mod image;
pub mod interrupts;
mod legacy_interrupts;
pub mod paging;
mod processor;
mod serial;
pub(crate) mod stacks;
mod start;
pub(crate) mod stop;
mod vectors;
