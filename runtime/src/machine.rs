//! The machine the guest runs on, chosen once at start.

use alloc::boxed::Box;
use core::task::{Context, Poll};

use rekernel_core::platform::Platform;
use rekernel_core::report::Sink;
use spin::Once;

use crate::report::Section;
use crate::watchdog::{Watchdog, WatchdogError};

static MACHINE: Once<&'static dyn Machine> = Once::new();

/// A platform, and what the rest of this crate asks of it beyond the executor's needs.
pub(crate) trait Machine: Platform + Send + Sync {
    /// What to call it: `Xen 4.17`, `QEMU q35`.
    fn name(&self) -> &str;

    /// Logs what is worth knowing about it. Called once, when there is a log.
    fn describe(&self) {}

    /// What it did so far.
    fn activity(&self) -> MachineActivity;

    /// What it shares with others now.
    fn resources(&self) -> MachineResources {
        MachineResources::default()
    }

    /// Sends bytes to the console.
    fn write_console(&self, bytes: &[u8]);

    /// From now on has all output leave the guest at once, where it otherwise does at the end of a turn.
    fn hurry_console(&self) {}

    /// Sends bytes to the console in the middle of a crash: takes no lock that the crashing
    /// program may hold, and no heap.
    fn write_last_words(&self, bytes: &[u8]) {
        self.write_console(bytes);
    }

    /// Takes what was typed on the console, up to `into.len()` bytes. Returns how many there were.
    fn read_console(&self, into: &mut [u8]) -> usize;

    /// Ready when there may be something to read on the console since the last time. One task waits.
    fn poll_console(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Starts a watchdog that ends the guest unless it is fed every `seconds` seconds.
    ///
    /// # Errors
    /// [`WatchdogError`].
    fn start_watchdog(&self, seconds: u32) -> Result<Box<dyn Watchdog>, WatchdogError>;

    /// Tells about the machine's own part of what somebody looks into.
    fn report(&self, section: Section, tell: &mut Sink<'_>);

    /// Ends the guest in order.
    fn power_off(&self) -> !;

    /// Ends the guest as crashed. Like [`write_last_words`](Self::write_last_words), takes no
    /// lock and no heap.
    fn crash(&self) -> !;
}

/// The machine's part of [`Activity`](crate::Activity).
pub(crate) struct MachineActivity {
    pub(crate) halts: u64,
    pub(crate) interrupts: u64,
    pub(crate) clock_readings: u64,
    pub(crate) timers_set: u64,
    pub(crate) hypercalls: u64,
    pub(crate) notifications: u64,
}

/// The machine's part of [`Resources`](crate::Resources).
#[derive(Default)]
pub(crate) struct MachineResources {
    pub(crate) shared_pages: usize,
    pub(crate) quarantined_grants: usize,
    pub(crate) event_ports: usize,
}

/// Makes `machine` the one all others ask. The first call counts.
pub(crate) fn choose(machine: &'static dyn Machine) {
    MACHINE.call_once(|| machine);
}

/// The machine, once chosen.
pub(crate) fn chosen() -> Option<&'static dyn Machine> {
    MACHINE.get().copied()
}
