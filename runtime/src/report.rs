//! What somebody looks into who wants to know how a guest is: `xl sysrq`.
//!
//! A report is a section of lines `NAME: VALUES`, which whoever asked prints where he wants.

use core::fmt;

use rekernel_core::executor;
use rekernel_core::net::{self, Stack};

use crate::heap::MEMORY;
use crate::{buffers, information, machine};

/// A part of the guest to be reported on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Tasks, timers, the work done.
    Tasks,
    /// RAM, heap, what the host has back, buffers.
    Memory,
    /// Interfaces, addresses, sockets, counters.
    Network,
    /// Pages and rings shared with others, grants, event channels, states of devices.
    Rings,
    /// The connection to xenstore.
    Store,
}

impl Section {
    pub(crate) const ALL: [Self; 5] = [
        Self::Tasks,
        Self::Memory,
        Self::Network,
        Self::Rings,
        Self::Store,
    ];

    /// The key that asks for it.
    pub(crate) fn key(self) -> char {
        match self {
            Self::Tasks => 't',
            Self::Memory => 'm',
            Self::Network => 'n',
            Self::Rings => 'r',
            Self::Store => 'x',
        }
    }

    /// What it is about.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Memory => "memory",
            Self::Network => "network",
            Self::Rings => "rings and grants",
            Self::Store => "xenstore",
        }
    }
}

/// Gives each line of the section to `line`.
///
/// # Panics
/// Outside of main and its tasks.
pub(crate) fn write(section: Section, line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    match section {
        Section::Tasks => tasks(line),
        Section::Memory => memory(line),
        Section::Network => network(line),
        Section::Rings => Stack::current()
            .describe_devices()
            .iter()
            .for_each(|device| line(format_args!("{device}"))),
        Section::Store => {}
    }
    if let Some(machine) = machine::chosen() {
        machine.report(section, line);
    }
}

fn tasks(line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let counts = executor::task_counts();
    line(format_args!(
        "tasks: {} beside main, {} ready; timers: {}; up {} s",
        counts.tasks,
        counts.ready,
        counts.timers,
        information::uptime().as_secs()
    ));
    let work = information::activity();
    line(format_args!(
        "work: {} rounds, {} polls, {} halts, {} interrupts, {} timers set, {} hypercalls, {} notifications",
        work.rounds,
        work.polls,
        work.halts,
        work.interrupts,
        work.timers_set,
        work.hypercalls,
        work.notifications
    ));
}

fn memory(line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let heap = MEMORY.lock().information();
    line(format_args!(
        "ram: {} KiB, of which the host has {} KiB",
        information::memory().total >> 10,
        heap.absent >> 10
    ));
    line(format_args!(
        "heap: {} of {} KiB in use, {} KiB of them back buffers of connections",
        (heap.total - heap.free) >> 10,
        heap.total >> 10,
        buffers::backed_bytes() >> 10
    ));
    line(format_args!(
        "socket buffers: {} KiB promised",
        Stack::current().buffer_memory() >> 10
    ));
}

fn network(line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    for interface in net::interfaces() {
        let name = &interface.name;
        let link = match interface.link_is_up {
            true => "up",
            false => "down",
        };
        let [a, b, c, d, e, f] = interface.mac;
        line(format_args!(
            "{name}: link {link}, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, mtu {}, {} connections",
            interface.mtu, interface.connections
        ));
        for address in &interface.addresses {
            line(format_args!("{name}: address {address}"));
        }
        let counters = interface.counters;
        line(format_args!(
            "{name}: received {} frames, {} bytes; sent {} frames, {} bytes; dropped {} in, {} out; refused {} connections",
            counters.received_frames,
            counters.received_bytes,
            counters.sent_frames,
            counters.sent_bytes,
            counters.dropped_receives,
            counters.dropped_sends,
            counters.refused_connections
        ));
    }
    let sockets = Stack::current().open_sockets();
    for listener in &sockets.listeners {
        line(format_args!(
            "tcp {}: listens, {} half open, {} not accepted",
            listener.address, listener.half_open, listener.waiting
        ));
    }
    for address in &sockets.datagram_addresses {
        line(format_args!("udp {address}: bound"));
    }
}
