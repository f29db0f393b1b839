//! The one unsafe step of starting on Xen.

use pvh_boot::interrupts::{self, Vector};
use pvh_boot::paging;
use rekernel_heap::balloon;
use xen::{Detected, Machine, StartError, StartOptions, Timers};

use crate::heap::SharedPages;

/// The vector through which Xen announces events.
const CALLBACK_VECTOR: u8 = 0x40;

/// Brings the Xen interface up and lets events in.
///
/// # Errors
/// What [`Machine::start`] reports.
pub(super) fn bring_up(
    detected: Detected,
    pages: SharedPages,
    timers: &'static dyn Timers,
) -> Result<&'static Machine, StartError> {
    let vector = Vector::new(CALLBACK_VECTOR).expect("vectors from 32 on are free");
    interrupts::set_handler(vector, xen::upcall);
    let options = StartOptions {
        callback_vector: CALLBACK_VECTOR,
        timers,
        pages: pages.into_range(),
        map_shared: |start, length| paging::map_shared(start, length).ok(),
    };
    // SAFETY: 1. pvh-boot runs the program in ring 0 on one vCPU, with interrupts off. 2. `SharedPages` are mapped RAM at their physical address, and by value this
    // is the one place to use them. 3. `map_shared` refuses RAM, never unmaps, and nothing
    // else in this program asks for the rings. 4. The handler was set above, for good.
    unsafe { Machine::start(detected, options) }
}

/// Bytes of RAM that must not be touched from the start on, of `ram` bytes that the boot data name.
pub(crate) fn absent_at_start(detected: &Detected, ram: u64) -> u64 {
    // SAFETY: pvh-boot runs the program in ring 0, and `Detected` is only made by `detect`.
    let reservation = unsafe { xen::balloon::reservation(detected) };
    reservation.map_or(0, |pages| balloon::absent_at_start(ram, pages))
}
