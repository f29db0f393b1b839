//! The end of this domain.
//!
//! Each of these first gives the console up to 200 ms to take what was written, so that the
//! last words are seen even if the backend is slow.

use core::time::Duration;

use crate::abi::{SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot};
use crate::console;
use crate::machine::machine;

/// How long the console is waited for.
const DRAIN: Duration = Duration::from_millis(200);

/// Ends the domain; the toolstack does what `on_poweroff` says, usually destroys it.
pub fn poweroff() -> ! {
    shutdown(SHUTDOWN_poweroff)
}

/// Ends the domain; the toolstack does what `on_reboot` says, usually starts it anew.
pub fn reboot() -> ! {
    shutdown(SHUTDOWN_reboot)
}

/// Ends the domain, crashed; the toolstack does what `on_crash` says. `reason` is written to the
/// console first: the hypervisor carries no text.
///
/// For use in a panic or exception handler: takes no lock that may be held, allocates nothing.
pub fn crash(reason: &str) -> ! {
    if !reason.is_empty() {
        console::emergency(reason.as_bytes());
        console::emergency(b"\n");
    }
    shutdown(SHUTDOWN_crash)
}

fn shutdown(reason: u32) -> ! {
    console::flush(DRAIN);
    if let Some(machine) = machine() {
        // Comes back only if Xen does not know the reason, which all three are too old for.
        let _ = machine.calls().shutdown(reason);
    }
    loop {
        core::hint::spin_loop();
    }
}
