//! Interrupts, vectors 32 to 255.
//!
//! Interrupts are off but for two places, [`admit`] and [`halt_unless`]: a handler runs as if called
//! from there, is ordinary compiled code, and never comes between two instructions of the program.
//! Handlers are for noting that something happened and acknowledging it to the interrupt controller;
//! the program does the work.

use core::mem;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

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
/// It runs with interrupts off.
pub fn set_handler(vector: Vector, handler: fn()) {
    HANDLERS[vector.index()].store(handler as *mut (), Ordering::Release);
}

/// Interrupts that came to a vector without a handler since boot.
#[must_use]
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

unsafe extern "C" {
    /// In `vectors.s`: lets one interrupt in if one waits; with `halt` waits for one.
    safe fn pvh_boot_interrupt_window(halt: u32);
}

/// Runs the handler of one interrupt, if one waits. For the run loop: interrupts come in here and in
/// [`halt_unless`], and nowhere else.
///
/// # Panics
/// In an interrupt handler.
pub fn admit() {
    refuse_in_handler();
    pvh_boot_interrupt_window(0);
}

/// Sleeps until an interrupt comes, unless `ready` says there is work. No interrupt is lost between
/// the question and the sleep.
///
/// # Panics
/// In an interrupt handler.
pub fn halt_unless(ready: impl FnOnce() -> bool) {
    refuse_in_handler();
    pvh_boot_interrupt_window(u32::from(!ready()));
}

fn refuse_in_handler() {
    assert!(
        !IN_HANDLER.load(Ordering::Relaxed),
        "an interrupt handler must not let interrupts in"
    );
}

/// Called by `vectors.s`.
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
