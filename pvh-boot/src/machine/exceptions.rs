//! Exceptions, vectors 0 to 31: all are reported and none is survived, but for page faults that the
//! program answers by mapping the page.

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

/// What a page fault handler did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The page is mapped: the access is tried again.
    Mapped,
    /// The fault is none of its own: an exception like any other.
    NotOurs,
    /// The page should have been mapped and there was no memory, which the report will say.
    NoMemory,
}

/// Null, or the `fn(usize) -> Answer` to call.
static PAGE_FAULT_HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static OUT_OF_MEMORY: AtomicBool = AtomicBool::new(false);

/// Makes `handler` receive the address of every page fault by a read or a write of a page that is
/// not mapped, before it is taken for an exception.
///
/// It runs on a stack of 16 KiB of its own, with interrupts off, at any point of the program: it
/// must not wait for a lock, nor fault.
pub fn set_page_fault_handler(handler: fn(usize) -> Answer) {
    PAGE_FAULT_HANDLER.store(handler as *mut (), Ordering::Release);
}

/// Called by `vectors.s` on the stack for exceptions. Whether to try the access again.
pub(super) extern "C" fn page_fault(address: u64, error_code: u64) -> bool {
    let handler = PAGE_FAULT_HANDLER.load(Ordering::Acquire);
    if handler.is_null() || !fault::is_absent_page(error_code) {
        return false;
    }
    // SAFETY: a pointer that is not null was stored by `set_page_fault_handler` from a
    // `fn(usize) -> Answer`.
    let handler = unsafe { mem::transmute::<*mut (), fn(usize) -> Answer>(handler) };
    let answer = handler(address as usize);
    OUT_OF_MEMORY.store(answer == Answer::NoMemory, Ordering::Relaxed);
    answer == Answer::Mapped
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
        out_of_memory: OUT_OF_MEMORY.load(Ordering::Relaxed),
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
