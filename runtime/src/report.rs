//! What somebody looks into who wants to know how a guest is: `xl sysrq`, `cargo rekernel inspect`.
//!
//! A report is a section of [entries](rekernel_core::report), which whoever asked puts where he wants.

use rekernel_core::executor;
use rekernel_core::net::{self, EthernetText, InterfaceInformation, Stack};
use rekernel_core::report::{Entry, Field, Sink};

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

    /// What it is about, in a word.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Memory => "memory",
            Self::Network => "network",
            Self::Rings => "rings",
            Self::Store => "xenstore",
        }
    }
}

/// Gives each entry of the section to `tell`.
///
/// # Panics
/// Outside of main and its tasks.
pub(crate) fn write(section: Section, tell: &mut Sink<'_>) {
    match section {
        Section::Tasks => tasks(tell),
        Section::Memory => memory(tell),
        Section::Network => network(tell),
        Section::Rings => Stack::current().report_devices(tell),
        Section::Store => {}
    }
    if let Some(machine) = machine::chosen() {
        machine.report(section, tell);
    }
}

fn tasks(tell: &mut Sink<'_>) {
    let counts = executor::task_counts();
    tell(Entry::new(
        &"tasks",
        &[
            ("beside_main", &counts.tasks),
            ("ready", &counts.ready),
            ("timers", &counts.timers),
            ("uptime_s", &information::uptime().as_secs()),
        ],
    ));
    let work = information::activity();
    tell(Entry::new(
        &"work",
        &[
            ("rounds", &work.rounds),
            ("polls", &work.polls),
            ("halts", &work.halts),
            ("interrupts", &work.interrupts),
            ("timers_set", &work.timers_set),
            ("hypercalls", &work.hypercalls),
            ("notifications", &work.notifications),
        ],
    ));
}

fn memory(tell: &mut Sink<'_>) {
    let heap = MEMORY.lock().information();
    tell(Entry::new(
        &"ram",
        &[
            ("total_kib", &(information::memory().total >> 10)),
            ("host_has_kib", &(heap.absent >> 10)),
        ],
    ));
    tell(Entry::new(
        &"heap",
        &[
            ("used_kib", &((heap.total - heap.free) >> 10)),
            ("total_kib", &(heap.total >> 10)),
            ("backing_buffers_kib", &(buffers::backed_bytes() >> 10)),
        ],
    ));
    tell(Entry::new(
        &"socket buffers",
        &[("promised_kib", &(Stack::current().buffer_memory() >> 10))],
    ));
}

fn network(tell: &mut Sink<'_>) {
    for (name, diagnosis) in Stack::current().diagnoses() {
        let fields: [Field<'_>; 2] = [("verdict", &diagnosis.word()), ("explanation", &diagnosis)];
        match name {
            Some(name) => tell(Entry::new(&format_args!("{name} diagnosis"), &fields)),
            None => tell(Entry::new(&"diagnosis", &fields)),
        }
    }
    for interface in net::interfaces() {
        network_interface(&interface, tell);
    }
    let sockets = Stack::current().open_sockets();
    for listener in &sockets.listeners {
        tell(Entry::new(
            &format_args!("tcp {}", listener.address),
            &[
                ("state", &"listens"),
                ("half_open", &listener.half_open),
                ("not_accepted", &listener.waiting),
            ],
        ));
    }
    for address in &sockets.datagram_addresses {
        tell(Entry::new(
            &format_args!("udp {address}"),
            &[("state", &"bound")],
        ));
    }
}

fn network_interface(interface: &InterfaceInformation, tell: &mut Sink<'_>) {
    let name = &interface.name;
    let link = match interface.link_is_up {
        true => "up",
        false => "down",
    };
    tell(Entry::new(
        name,
        &[
            ("link", &link),
            ("mac", &EthernetText(interface.mac)),
            ("mtu", &interface.mtu),
            ("connections", &interface.connections),
        ],
    ));
    for own in &interface.addresses {
        tell(Entry::new(
            name,
            &[
                (
                    "address",
                    &format_args!("{}/{}", own.address, own.prefix_length),
                ),
                ("from", &own.source),
            ],
        ));
    }
    let counters = interface.counters;
    tell(Entry::new(
        name,
        &[
            ("received_frames", &counters.received_frames),
            ("received_bytes", &counters.received_bytes),
            ("sent_frames", &counters.sent_frames),
            ("sent_bytes", &counters.sent_bytes),
            ("dropped_receives", &counters.dropped_receives),
            ("dropped_sends", &counters.dropped_sends),
            ("refused_connections", &counters.refused_connections),
        ],
    ));
}
