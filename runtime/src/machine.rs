//! The machine the guest runs on, chosen once at start.

use rekernel_core::platform::Platform;
use spin::Once;

static MACHINE: Once<&'static dyn Machine> = Once::new();

/// A platform, and what the rest of this crate asks of it beyond the executor's needs.
///
/// The console and the two ends work at any time after start, also in the middle of a crash:
/// they take no lock that the crashing program may hold, and no heap.
pub(crate) trait Machine: Platform + Send + Sync {
    /// What to call it: `Xen 4.17`, `QEMU q35`.
    fn name(&self) -> &str;

    /// Logs what is worth knowing about it. Called once, when there is a log.
    fn describe(&self) {}

    /// Sends bytes to the console.
    fn write_console(&self, bytes: &[u8]);

    /// Ends the guest in order.
    fn power_off(&self) -> !;

    /// Ends the guest as crashed.
    fn crash(&self) -> !;
}

/// Makes `machine` the one all others ask. The first call counts.
pub(crate) fn choose(machine: &'static dyn Machine) {
    MACHINE.call_once(|| machine);
}

/// The machine, once chosen.
pub(crate) fn chosen() -> Option<&'static dyn Machine> {
    MACHINE.get().copied()
}
