//! The machine layer of a Xen guest: the only hypercalls of the whole system.
//!
//! What decides is safe code that runs in `cargo test`: the scan of pending events
//! (`events`), the bookkeeping of grant references and pages (`grants`, `pages`), clock
//! arithmetic ([`clock`]), CPUID parsing (`cpuid`). What touches the machine is thin:
//! `hypercall` (the trampoline and one small function per operation) and `memory` (one
//! page that somebody else writes). Every `unsafe` block answers a written contract.
//!
//! The order of use: [`detect`] tells whether this is Xen, [`Machine::start`] brings the
//! interface up, [`Machine::hypervisor`] is what drivers are given, [`upcall`] is the handler
//! of the callback vector, and the run loop calls [`Machine::dispatch_events`] before it polls
//! tasks, [`clock::set_timer`] and [`Machine::prepare_to_sleep`] before it halts.
//!
//! One vCPU. All state sits behind spin locks that are held for a few instructions and never
//! contended, because the interrupt handler takes none of them: it touches only the atomics of
//! `events`. The locks are there so that the types are honestly `Sync`.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod abi;
#[expect(unsafe_code, reason = "gives memory away")]
pub mod balloon;
#[expect(unsafe_code, reason = "reads the time stamp counter")]
pub mod clock;
#[expect(unsafe_code, reason = "writes to a port")]
pub mod console;
pub mod control;
mod counter;
mod cpuid;
mod events;
mod grants;
#[expect(unsafe_code, reason = "enters the hypervisor")]
mod hypercall;
mod hypervisor;
#[expect(unsafe_code, reason = "brings the interface up")]
mod machine;
#[expect(unsafe_code, reason = "raw memory is what it is about")]
mod memory;
pub mod node;
#[expect(unsafe_code, reason = "hands out raw memory")]
mod pages;
pub mod power;
pub mod questions;
pub mod sysrq;
mod unplug;
mod version;
pub mod watchdog;

pub use cpuid::{Detected, detect};
pub use events::{Port, upcall};
pub use grants::GrantedMemory;
pub use hypercall::Errno;
pub use hypervisor::{Hypervisor, Timers};
pub use machine::{
    Calls, Machine, Resumption, StartError, StartOptions, Statistics, StoreConnectionError,
    SuspendError, machine,
};
pub use pages::RangeError;
pub use unplug::{Emulated, UnplugError};
pub use version::{Features, Version};
