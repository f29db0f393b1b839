//! Exceptions, vectors 0 to 31: none is survived, all are reported.

use core::fmt::Write;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::image;
use super::serial::LastWords;
use super::stop::{Outcome, stop};
pub use crate::fault::Report;
use crate::fault::{self, Registers};

/// Null, or the `fn(&Report) -> !` to call.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Makes `handler` receive every exception. It runs on a stack of 16 KiB of its own, with
/// interrupts off, at any point of the program: it must not wait for a lock.
///
/// Without one, and for an exception inside of one, the report goes to the debug port and COM1 and
/// the machine stops.
pub fn set_handler(handler: fn(&Report) -> !) {
    HANDLER.store(handler as *mut (), Ordering::Release);
}

/// What the processor and the stubs of `vectors.s` push.
#[repr(C)]
pub(super) struct Frame {
    vector: u64,
    error_code: u64,
    instruction_pointer: u64,
    code_segment: u64,
    flags: u64,
    stack_pointer: u64,
    stack_segment: u64,
}

/// Called by `vectors.s` on a stack for exceptions.
pub(super) extern "C" fn dispatch(frame: &Frame, frame_pointer: u64, fault_address: u64) -> ! {
    let registers = Registers {
        vector: frame.vector as u8,
        error_code: frame.error_code,
        instruction_pointer: frame.instruction_pointer,
        stack_pointer: frame.stack_pointer,
        frame_pointer,
        fault_address,
    };
    let report = fault::report(&registers, &image::layout());
    let nested = REPORTING.swap(true, Ordering::Relaxed);
    let handler = HANDLER.load(Ordering::Acquire);
    if nested || handler.is_null() {
        print_and_stop(&report, nested)
    }
    // SAFETY: a pointer that is not null was stored by `set_handler` from a `fn(&Report) -> !`.
    let handler = unsafe { mem::transmute::<*mut (), fn(&Report) -> !>(handler) };
    handler(&report)
}

fn print_and_stop(report: &Report, nested: bool) -> ! {
    let prefix = if nested {
        "exception while another is reported"
    } else {
        "exception"
    };
    // Writing cannot fail.
    let _written = writeln!(LastWords, "pvh-boot: {prefix}: {report}");
    stop(Outcome::Crash)
}
