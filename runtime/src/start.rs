//! From the boot code to the application. Called by what `#[rekernel::main]` expands to; not
//! for use by hand.
#![doc(hidden)]

use core::fmt;
use core::future::Future;
use core::time::Duration;

pub use pvh_boot::{BootInfo, entry};
use rekernel_core::config::{Complaint, Settings};
use rekernel_core::executor;

use crate::machine::{self, Machine};
use crate::network::Interfaces;
use crate::{
    capture, config, console, crash, heap, information, logger, pc, processor, watchdog, xen_guest,
};

/// What a main function may return.
pub trait Outcome {
    /// The error to crash with, or `None` to power off.
    fn error(&self) -> Option<&dyn fmt::Display>;
}

impl Outcome for () {
    fn error(&self) -> Option<&dyn fmt::Display> {
        None
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn error(&self) -> Option<&dyn fmt::Display> {
        self.as_ref().err().map(|error| error as &dyn fmt::Display)
    }
}

/// Starts the runtime, runs `main` on it, and ends the guest.
///
/// `keys` are the command-line keys that the application understands.
pub fn run<F>(boot: &'static BootInfo, keys: &[&str], main: impl FnOnce() -> F) -> !
where
    F: Future<Output: Outcome>,
{
    let (machine, settings) = prepare(boot, keys);
    let outcome = executor::run(machine, async {
        start_watchdog(settings);
        start_network(settings).await;
        main().await
    });
    match outcome.error() {
        Some(error) => crash::application_error(error),
        None => crate::shutdown(),
    }
}

/// Everything that happens before the first task runs, in the order in which one needs the
/// other: memory, the machine with its console, the log, what the host should know.
fn prepare(boot: &'static BootInfo, keys: &[&str]) -> (&'static dyn Machine, &'static Settings) {
    let start = processor::time_stamp_counter();
    pvh_boot::exceptions::set_handler(crash::exception);
    let detected = xen::detect();
    let absent = detected.map_or(0, |detected| {
        xen_guest::absent_at_start(&detected, boot.total_ram())
    });
    let (shared, absent) = heap::start(boot, absent);
    let machine = match detected {
        Some(detected) => xen_guest::start(detected, shared, &absent),
        None => pc::start(start, shared),
    };
    machine::choose(machine);
    information::remember(boot);
    let (settings, complaints) = Settings::parse(boot.command_line(), keys);
    let settings = config::remember(settings);
    logger::start(settings.log.clone());
    introduce(machine, boot, &complaints);
    (machine, settings)
}

fn introduce(machine: &dyn Machine, boot: &BootInfo, complaints: &[Complaint]) {
    console::write_line(format_args!(
        "rekernel: version {} on {}, {} KiB of memory",
        env!("CARGO_PKG_VERSION"),
        machine.name(),
        boot.total_ram() >> 10
    ));
    for complaint in complaints {
        log::error!(target: "rekernel", "command line: {complaint}");
    }
    heap::complain();
    machine.describe();
}

/// What the command line wants of the machine, once tasks run.
fn start_watchdog(settings: &Settings) {
    let Some(seconds) = settings.watchdog else {
        return;
    };
    if let Err(error) = watchdog::start(Duration::from_secs(seconds.into())) {
        log::error!(target: "rekernel", "command line: watchdog={seconds}: {error}");
    }
}

async fn start_network(settings: &'static Settings) {
    let interfaces = Interfaces::new(settings);
    match xen_guest::running() {
        Some(guest) => guest.start_network(interfaces).await,
        None => pc::start_network(settings, interfaces),
    }
    interfaces.report_missing();
    if let Some(port) = settings.capture {
        capture::serve(port);
    }
}
