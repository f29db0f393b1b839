//! The end of a guest that failed: what happened goes to the console, then the host is told.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use pvh_boot::exceptions::Report;

use crate::{backtrace, console, heap, machine, processor};

/// Set by the first failure: one while reporting it must not report again, and so on.
static CRASHING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    begin();
    match information.location() {
        Some(place) => report(format_args!("panic at {place}: {}", information.message())),
        None => report(format_args!("panic: {}", information.message())),
    }
    report_heap();
    end(None, processor::frame_pointer())
}

/// Reports an exception of the processor.
pub(crate) fn exception(exception: &Report) -> ! {
    begin();
    report(format_args!("exception {exception}"));
    report_heap();
    end(Some(exception.instruction_pointer), exception.frame_pointer)
}

/// Reports that the application ended with an error.
pub(crate) fn application_error(error: &dyn fmt::Display) -> ! {
    begin();
    report(format_args!("main returned an error: {error}"));
    stop()
}

/// Whether the guest is about to end because of a failure.
pub(crate) fn is_under_way() -> bool {
    CRASHING.load(Ordering::Relaxed)
}

fn begin() {
    if CRASHING.swap(true, Ordering::Relaxed) {
        // Whatever failed now, it is in the code below: leave by the shortest way.
        pvh_boot::debug_port::write(b"rekernel: failed again while reporting a crash\n");
        stop()
    }
}

fn report(what: fmt::Arguments<'_>) {
    console::write_line(format_args!("rekernel: {what}"));
}

fn report_heap() {
    if let Some((size, heap)) = heap::last_refusal() {
        report(format_args!("the heap had no room for {size} bytes"));
        if let Some(heap) = heap {
            report(format_args!("heap: {heap}; give the guest more memory"));
        }
    }
}

/// Prints the backtrace: `first` if the failing instruction is known, then return addresses.
fn end(first: Option<u64>, frame_pointer: u64) -> ! {
    console::write_line(format_args!("rekernel: backtrace"));
    let mut number = 0;
    let mut print = |address| {
        console::write_line(format_args!(" #{number} {address:#x}"));
        number += 1;
    };
    first.into_iter().for_each(&mut print);
    backtrace::walk(frame_pointer, print);
    stop()
}

fn stop() -> ! {
    console::write_line(format_args!("rekernel: crash"));
    match machine::chosen() {
        Some(machine) => machine.crash(),
        None => pvh_boot::stop(pvh_boot::Outcome::Crash),
    }
}
