//! A guest of Xen: PV console, xenstore, netfront, the toolstack's wishes.

#[expect(
    unsafe_code,
    reason = "gives memory to the hypervisor and takes it back"
)]
mod balloon;
#[expect(unsafe_code, reason = "starts the Xen interface")]
mod bring_up;
mod emulated;
mod monitor;
mod suspend;
mod sysrq;
mod toolstack;
mod vif;
mod vifs;
mod watchdog;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use pvh_boot::interrupts;
use rekernel_core::executor::spawn;
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::report::{Entry, Sink};
use rekernel_core::time::{Instant, sleep_until};
use spin::Once;
use xen::{Detected, Hypervisor, Timers};
use xen_proto::turns;

pub(crate) use self::bring_up::absent_at_start;
use self::suspend::Resumables;
use self::vifs::Vifs;
use crate::counter::Counter;
use crate::heap::{self, AbsentRam, SharedPages};
use crate::machine::{Machine, MachineActivity, MachineResources};
use crate::network::Interfaces;
use crate::report::{self, Section};
use crate::watchdog::{Watchdog, WatchdogError};
use crate::{buffers, entropy};

type Store = xen_proto::xenstore::Store<Hypervisor>;

static GUEST: Once<Guest> = Once::new();

/// The guest's side of Xen.
pub(crate) struct Guest {
    machine: &'static xen::Machine,
    name: String,
    /// Xen's time at the guest's start: it counts from the host's.
    start: Duration,
    halts: Counter,
}

/// Starts as a guest of the Xen that was detected; `pages` are for what is shared with others,
/// and `absent` has no memory.
///
/// # Panics
/// When Xen refuses something no guest can do without; the message says what.
pub(crate) fn start(
    detected: Detected,
    pages: SharedPages,
    absent: &AbsentRam,
) -> &'static dyn Machine {
    let machine = match bring_up::bring_up(detected, pages, &ExecutorTimers) {
        Ok(machine) => machine,
        Err(error) => panic!("cannot run on this Xen: {error}"),
    };
    balloon::release(machine, absent);
    let version = machine.version();
    GUEST.call_once(|| Guest {
        machine,
        name: format!("Xen {}.{}", version.major, version.minor),
        start: xen::clock::now(),
        halts: Counter::new(),
    })
}

/// The guest, if this is Xen.
pub(crate) fn running() -> Option<&'static Guest> {
    GUEST.get()
}

impl Guest {
    /// Connects to xenstore, obeys the toolstack from now on, and starts all interfaces.
    pub(crate) async fn start_network(&self, interfaces: Interfaces) {
        // Before the interfaces that they stand in for come up.
        emulated::unplug(self.machine);
        let hypervisor = self.machine.hypervisor();
        let (ring, port) = match self.machine.store_connection() {
            Ok(connection) => connection,
            Err(error) => {
                log::error!("no xenstore, so no network and no orderly shutdown: {error}");
                return;
            }
        };
        log::debug!("asking xenstore");
        let resumables = Resumables::default();
        let store = Store::new(hypervisor, ring, port);
        spawn(drive_store(store.clone()));
        let vifs = Vifs::new(hypervisor, store.clone(), interfaces, resumables.clone());
        vifs.start_all().await;
        // From here on nobody waits for what is asked.
        spawn(with_memory(hypervisor, vifs.follow()));
        spawn(with_memory(
            hypervisor,
            balloon::follow(self.machine, store.clone()),
        ));
        spawn(with_memory(hypervisor, sysrq::answer(store.clone())));
        spawn(with_memory(hypervisor, monitor::answer(store.clone())));
        spawn(with_memory(
            hypervisor,
            toolstack::obey(self.machine, store, resumables),
        ));
    }
}

/// See [`turns::with_memory`].
async fn with_memory(hypervisor: Hypervisor, work: impl Future<Output = ()>) {
    turns::with_memory(&hypervisor, work).await;
}

/// A section of the report, with what only the connection to xenstore knows.
fn report(section: Section, store: &Store, tell: &mut Sink<'_>) {
    report::write(section, tell);
    if section == Section::Store {
        let statistics = store.statistics();
        let state = match statistics.is_broken {
            true => "broken",
            false => "works",
        };
        tell(Entry::new(
            &"connection",
            &[
                ("state", &state),
                ("unanswered", &statistics.unanswered),
                ("unsent", &statistics.unsent),
                ("watches", &statistics.watches),
            ],
        ));
    }
}

async fn drive_store(store: Store) {
    let misbehaviour = store.run().await;
    log::error!("xenstored broke the protocol, and is not listened to any more: {misbehaviour}");
}

/// Lets Xen's drivers wait on the executor.
struct ExecutorTimers;

impl Timers for ExecutorTimers {
    fn now(&self) -> Duration {
        let start = GUEST.get().map_or(Duration::ZERO, |guest| guest.start);
        start.saturating_add(Instant::recent().duration_since_boot())
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        let start = GUEST.get().map_or(Duration::ZERO, |guest| guest.start);
        let since_boot = deadline.saturating_sub(start);
        Box::pin(sleep_until(Instant::since_boot(since_boot)))
    }
}

impl Platform for Guest {
    fn now(&self) -> Duration {
        xen::clock::now().saturating_sub(self.start)
    }

    fn wall_clock(&self) -> Option<Duration> {
        xen::clock::wall_clock()
    }

    fn dispatch_events(&self) -> bool {
        self.machine.dispatch_events()
    }

    fn idle(&self, deadline: Option<Duration>) {
        // A deadline that passed raises an event at once.
        xen::clock::set_timer(deadline.map(|deadline| self.start.saturating_add(deadline)));
        if self.machine.prepare_to_sleep() {
            return;
        }
        self.halts.add();
        interrupts::halt_unless(|| self.machine.events_noted());
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        entropy::fill(seed)
    }

    fn socket_buffer(&self, bytes: usize) -> Option<Vec<u8>> {
        buffers::socket_buffer(bytes)
    }

    fn can_back(&self, bytes: usize) -> bool {
        buffers::can_back(bytes)
    }

    fn has_headroom(&self) -> bool {
        heap::information().has_headroom()
    }

    fn give_back(&self, unused: &mut [u8]) {
        buffers::give_back(unused);
    }

    fn backed_bytes(&self) -> usize {
        buffers::backed_bytes()
    }
}

impl Machine for Guest {
    fn name(&self) -> &str {
        &self.name
    }

    fn activity(&self) -> MachineActivity {
        let statistics = self.machine.statistics();
        MachineActivity {
            halts: self.halts.get(),
            interrupts: statistics.upcalls,
            clock_readings: statistics.clock_readings,
            timers_set: statistics.calls.timers_set,
            hypercalls: statistics.calls.all,
            notifications: statistics.calls.events_sent,
        }
    }

    fn resources(&self) -> MachineResources {
        let statistics = self.machine.statistics();
        MachineResources {
            shared_pages: statistics.pages - statistics.pages_free,
            quarantined_grants: statistics.quarantined,
            event_ports: statistics.ports,
        }
    }

    fn describe(&self) {
        log::debug!("features of this Xen: {:?}", self.machine.features());
    }

    fn write_console(&self, bytes: &[u8]) {
        xen::console::write(bytes);
    }

    fn hurry_console(&self) {
        xen::console::announce_at_once();
    }

    fn write_last_words(&self, bytes: &[u8]) {
        xen::console::emergency(bytes);
    }

    fn read_console(&self, into: &mut [u8]) -> usize {
        xen::console::read(into)
    }

    fn poll_console(&self, context: &mut Context<'_>) -> Poll<()> {
        xen::console::poll_input(context)
    }

    fn start_watchdog(&self, seconds: u32) -> Result<Box<dyn Watchdog>, WatchdogError> {
        watchdog::start(seconds)
    }

    fn report(&self, section: Section, tell: &mut Sink<'_>) {
        match section {
            Section::Memory => {
                if let Ok(pages) = self.machine.reservation() {
                    tell(Entry::new(&"domain", &[("xen_counts_kib", &(pages << 2))]));
                }
            }
            Section::Rings => {
                let statistics = self.machine.statistics();
                tell(Entry::new(
                    &"shared pages",
                    &[
                        ("total", &statistics.pages),
                        ("free", &statistics.pages_free),
                        ("quarantined", &statistics.quarantined),
                    ],
                ));
                tell(Entry::new(
                    &"grant references",
                    &[("free", &statistics.references_free)],
                ));
                tell(Entry::new(
                    &"events",
                    &[
                        ("ports", &statistics.ports),
                        ("interrupts", &statistics.upcalls),
                        ("sent", &statistics.calls.events_sent),
                    ],
                ));
            }
            Section::Store => {
                let domain = self.machine.domain();
                let domain: &dyn fmt::Display = match &domain {
                    Some(domain) => domain,
                    None => &"unknown",
                };
                tell(Entry::new(&"domain", &[("id", domain), ("on", &self.name)]));
            }
            Section::Tasks | Section::Network => {}
        }
    }

    fn power_off(&self) -> ! {
        xen::power::poweroff()
    }

    fn crash(&self) -> ! {
        xen::power::crash("")
    }
}
