//! What an application can learn about the guest it runs in.

use core::fmt;
use core::time::Duration;

use pvh_boot::BootInfo;
use rekernel_core::executor;
use spin::Once;

use crate::heap::{self, HeapInformation};
use crate::machine;

static TOTAL_RAM: Once<u64> = Once::new();

pub(crate) fn remember(boot: &BootInfo) {
    TOTAL_RAM.call_once(|| boot.total_ram());
}

/// The platform a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInformation {
    /// For people: `Xen 4.17`, `QEMU q35`.
    pub name: &'static str,
}

/// The guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInformation {
    /// Bytes of RAM the guest was given.
    pub total: u64,
    /// The heap, which has all that the program and the shared pages leave.
    pub heap: HeapInformation,
}

/// What the guest did since it started, counted: what its work costs besides computing. The
/// difference of two of these around some requests tells what a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Turns of the run loop with a task to poll.
    pub rounds: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// How often the processor was halted, a VM exit each.
    pub halts: u64,
    /// Interrupts taken. On Xen those that ended a halt: the run loop finds other events itself.
    pub interrupts: u64,
    /// Readings of the clock. A VM exit each where the hypervisor emulates the time-stamp counter.
    pub clock_readings: u64,
    /// How often the timer was set, a VM exit each.
    pub timers_set: u64,
    /// Hypercalls, a VM exit each: all of them, timers and notifications included. 0 outside of Xen.
    pub hypercalls: u64,
    /// Hypercalls that sent an event to a backend. 0 outside of Xen.
    pub notifications: u64,
}

impl fmt::Display for Activity {
    /// A line per counter: name, space, number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("rounds", self.rounds),
            ("polls", self.polls),
            ("halts", self.halts),
            ("interrupts", self.interrupts),
            ("clock_readings", self.clock_readings),
            ("timers_set", self.timers_set),
            ("hypercalls", self.hypercalls),
            ("notifications", self.notifications),
        ];
        for (name, count) in lines {
            writeln!(formatter, "{name} {count}")?;
        }
        Ok(())
    }
}

/// What the guest holds now. Where it grows without need, something leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of heap in use.
    pub heap_used: usize,
    /// Pages that are granted to other domains, or are part of what Xen shares. 0 outside of Xen.
    pub shared_pages: usize,
    /// Grants that ended while a peer had the page mapped, and still has. 0 outside of Xen.
    pub quarantined_grants: usize,
    /// Open event channel ports. 0 outside of Xen.
    pub event_ports: usize,
}

impl fmt::Display for Resources {
    /// A line per number: name, space, number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("heap_used", self.heap_used),
            ("shared_pages", self.shared_pages),
            ("quarantined_grants", self.quarantined_grants),
            ("event_ports", self.event_ports),
        ];
        for (name, count) in lines {
            writeln!(formatter, "{name} {count}")?;
        }
        Ok(())
    }
}

/// What the guest holds now.
pub fn resources() -> Resources {
    let machine = machine::chosen().map(|machine| machine.resources());
    let machine = machine.unwrap_or_default();
    Resources {
        heap_used: heap::information().used,
        shared_pages: machine.shared_pages,
        quarantined_grants: machine.quarantined_grants,
        event_ports: machine.event_ports,
    }
}

/// What the guest did so far.
///
/// # Panics
/// Outside of main and its tasks.
pub fn activity() -> Activity {
    let executor = executor::counters();
    let Some(machine) = machine::chosen().map(|machine| machine.activity()) else {
        return Activity::default();
    };
    Activity {
        rounds: executor.rounds,
        polls: executor.polls,
        halts: machine.halts,
        interrupts: machine.interrupts,
        clock_readings: machine.clock_readings,
        timers_set: machine.timers_set,
        hypercalls: machine.hypercalls,
        notifications: machine.notifications,
    }
}

/// The platform this guest runs on.
pub fn platform() -> PlatformInformation {
    PlatformInformation {
        name: machine::chosen().map_or("unknown", |machine| machine.name()),
    }
}

/// The guest's memory, now.
pub fn memory() -> MemoryInformation {
    MemoryInformation {
        total: TOTAL_RAM.get().copied().unwrap_or(0),
        heap: heap::information(),
    }
}

/// Time since the guest started.
pub fn uptime() -> Duration {
    machine::chosen()
        .map(|machine| machine.now())
        .unwrap_or_default()
}
