//! A guest that dies in the way its command line asks for: `do=panic`, `do=fault` and so on.
//!
//! `cargo rekernel run misbehave --append do=panic` must end with a failure, this guest's
//! message and a backtrace that names the functions below. They are kept out of line for
//! that reason.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;

use rekernel::config;

#[rekernel::main(keys = ["do"])]
async fn main() -> Result<(), String> {
    match config::value("do") {
        Some("panic") => panic_on_purpose(),
        Some("arithmetic") => add_too_much(u8::MAX),
        Some("fault") => read_from_null(),
        Some("overflow") => {
            black_box(recurse_for_ever(0));
        }
        Some("exhaust") => exhaust_the_heap(),
        Some("error") => return Err(String::from("the error asked for")),
        Some("return") => {}
        other => return Err(alloc::format!("do={other:?} is no way to die")),
    }
    Ok(())
}

#[inline(never)]
fn panic_on_purpose() {
    panic!("the panic asked for");
}

/// Overflow checks must be on in release builds, too.
#[inline(never)]
fn add_too_much(number: u8) {
    black_box(black_box(number) + 1);
}

#[inline(never)]
fn read_from_null() {
    let null = black_box(core::ptr::null::<u64>());
    // SAFETY: none. The read must fault, for page 0 is not mapped; that is the test.
    black_box(unsafe { null.read_volatile() });
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the stack must overflow")]
fn recurse_for_ever(depth: u64) -> u64 {
    // A frame of its own size per call, used after it: no tail call can replace it.
    let frame = black_box([depth; 32]);
    recurse_for_ever(depth + 1) + frame[0]
}

#[inline(never)]
fn exhaust_the_heap() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(alloc::vec![1u8; 64 * 1024]));
    }
}
