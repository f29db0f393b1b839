//! A guest that does what its command line asks for while an operator does something to it:
//!
//! | `do=` | what |
//! |---|---|
//! | `lines` | says `TYPED` and each line that is typed; `quit` ends it |
//! | `hang` | says `HANGS`, and computes without end |
//! | `idle` | says `IDLES` every second |
//! | `hang-restored` | as `idle`; hangs three seconds after it was suspended and resumed |
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::hint::black_box;
use core::time::Duration;

use rekernel::time::sleep;
use rekernel::{config, console, lifecycle, log};

#[rekernel::main(keys = ["do"])]
async fn main() -> Result<(), String> {
    match config::value("do") {
        Some("lines") => lines().await,
        Some("hang") => hang().await,
        Some("idle") => idle().await,
        Some("hang-restored") => {
            // Later than the watchdog is fed again.
            lifecycle::after_resume(|_| async {
                sleep(Duration::from_secs(3)).await;
                hang().await;
            });
            idle().await
        }
        other => return Err(alloc::format!("do={other:?} is nothing to do")),
    }
    Ok(())
}

async fn lines() {
    log::info!("READS");
    let mut lines = console::input().lines();
    loop {
        let line = lines.next().await;
        let (length, beginning): (_, String) = (line.len(), line.chars().take(32).collect());
        log::info!("TYPED {length} {beginning:?}");
        if line == "quit" {
            return;
        }
    }
}

async fn hang() {
    log::info!("HANGS");
    // The console is told at the end of a turn, and there is none after this.
    sleep(Duration::from_millis(1)).await;
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

async fn idle() {
    loop {
        log::info!("IDLES");
        sleep(Duration::from_secs(1)).await;
    }
}
