//! Uses the heap and the buffers that are backed at first touch on the real machine, and says
//! `PROBE OK`, or `PROBE FAILED: ` and why. With `do=` on its command line it dies instead:
//!
//! | `do=` | line begins with `rekernel: exception page fault at ` and has |
//! |-------------|----------------------------------------------------------------|
//! | `outside` | `nothing is mapped at the address` |
//! | `dropped` | the same |
//! | `execute` | `nothing is mapped at the address`, or `execution of memory that is not code` |
//! | `exhaust` | `no memory is left to back a buffer's page` |
//!
//! Where page faults hide their address (`docs/decisions/runtime.md`) it says `PROBE SKIPPED`.
#![no_std]
#![no_main]

extern crate alloc;

mod checks;
mod faults;

use alloc::string::String;

use rekernel::{buffers, config, log};

#[rekernel::main(keys = ["do"])]
async fn main() -> Result<(), String> {
    if buffers::socket_buffer(4096).is_none() {
        log::info!("PROBE SKIPPED: no buffers that are backed at first touch");
        return Ok(());
    }
    match config::value("do") {
        None => {
            checks::all()?;
            log::info!("PROBE OK");
            Ok(())
        }
        Some(fault) => faults::cause(fault),
    }
}
