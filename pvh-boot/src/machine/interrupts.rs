//! Interrupts, vectors 32 to 255.
//!
//! Handlers run on a stack of their own with interrupts off. They are for noting that something
//! happened and acknowledging it to the interrupt controller; the program does the work. The entry
//! code saves the integer and the vector registers (x87, MMX, SSE: all there are, as AVX stays off),
//! so a handler is ordinary compiled code.

use core::mem;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use x86_64::instructions::interrupts;

const FIRST: u8 = 32;

/// The number of an interrupt: 32 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(u8);

impl Vector {
    /// `None` below 32: those are exceptions.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= FIRST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn index(self) -> usize {
        (self.0 - FIRST) as usize
    }
}

/// The handler of each vector: null or a `fn()`.
static HANDLERS: [AtomicPtr<()>; 256 - FIRST as usize] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; 256 - FIRST as usize];

static UNEXPECTED: AtomicU64 = AtomicU64::new(0);
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

/// Makes `handler` run at each interrupt with this `vector`, in place of the handler before.
///
/// It runs with interrupts off and must not switch them on: another interrupt would take over the
/// stack it runs on. What it shares with the program must be atomic.
pub fn set_handler(vector: Vector, handler: fn()) {
    HANDLERS[vector.index()].store(handler as *mut (), Ordering::Release);
}

/// Interrupts that came to a vector without a handler since boot.
#[must_use]
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Lets interrupts in. They are off when the program starts.
///
/// # Panics
/// In an interrupt handler.
pub fn enable() {
    refuse_in_handler();
    interrupts::enable();
}

/// Keeps interrupts out.
pub fn disable() {
    interrupts::disable();
}

/// Runs `action` with interrupts off, then puts them back as they were.
pub fn without_interrupts<R>(action: impl FnOnce() -> R) -> R {
    interrupts::without_interrupts(action)
}

/// Sleeps until an interrupt comes, unless `ready` says there is work. No interrupt is lost between
/// the question and the sleep. Interrupts are on afterwards.
///
/// # Panics
/// In an interrupt handler.
pub fn halt_unless(ready: impl FnOnce() -> bool) {
    refuse_in_handler();
    interrupts::disable();
    if ready() {
        interrupts::enable();
    } else {
        // Never `hlt` with interrupts off: Xen takes that as the end of the domain.
        interrupts::enable_and_hlt();
    }
}

fn refuse_in_handler() {
    assert!(
        !IN_HANDLER.load(Ordering::Relaxed),
        "an interrupt handler must not switch interrupts on"
    );
}

/// Called by `vectors.s` on the interrupt stack.
pub(super) extern "C" fn dispatch(vector: u8) {
    let Some(vector) = Vector::new(vector) else {
        return;
    };
    let handler = HANDLERS[vector.index()].load(Ordering::Acquire);
    if handler.is_null() {
        UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // SAFETY: a pointer that is not null was stored by `set_handler` from a `fn()`.
    let handler = unsafe { mem::transmute::<*mut (), fn()>(handler) };
    IN_HANDLER.store(true, Ordering::Relaxed);
    handler();
    IN_HANDLER.store(false, Ordering::Relaxed);
}
