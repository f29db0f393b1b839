//! The datagrams of an interface: smoltcp's UDP sockets carry one at a time, and the ones that
//! wait do so here. So a datagram whose next hop does not answer holds up no other.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpEndpoint, IpListenEndpoint, UDP_HEADER_LEN,
};

use super::engine::Engine;
use super::frame::{Endpoint, Flow};
use super::interface::Interface;
use super::udp::Room;
use crate::memory::{self, OutOfMemory};
use crate::time::{Duration, Instant};

/// Longest IPv4 packet that is sent or received in fragments, in bytes: smoltcp's features
/// `fragmentation-buffer-size-4096` and `reassembly-buffer-size-4096`.
const LONGEST_FRAGMENTED: usize = 4096;

/// How long a datagram waits for its next hop to tell its Ethernet address.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(3);

/// How often to ask for it.
const NEIGHBOUR_RETRY: Duration = Duration::from_secs(1);

/// Datagrams that wait for their next hop; beyond, the oldest are dropped.
const MOST_WAITING: usize = 64;

/// A datagram to send.
pub(super) struct Outgoing {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) data: Vec<u8>,
    pub(super) _room: Room,
}

/// The datagrams of an interface.
pub(super) struct Datagrams {
    queue: RefCell<VecDeque<Waiting>>,
    lacking_neighbour: RefCell<VecDeque<Waiting>>,
    retry_at: Cell<Option<Instant>>,
    /// Made when they are needed.
    sender: RefCell<Option<Carrier>>,
    receiver: RefCell<Option<Carrier>>,
    longest: Cell<usize>,
}

struct Waiting {
    datagram: Outgoing,
    /// When to drop it; counted from the first attempt.
    until: Option<Instant>,
}

impl Datagrams {
    pub(super) fn new(mtu: usize) -> Self {
        let longest = mtu.max(LONGEST_FRAGMENTED);
        Self {
            queue: RefCell::default(),
            lacking_neighbour: RefCell::default(),
            retry_at: Cell::new(None),
            sender: RefCell::default(),
            receiver: RefCell::default(),
            longest: Cell::new(longest),
        }
    }

    /// The device carries packets of this size now.
    pub(super) fn set_mtu(&self, mtu: usize) {
        let longest = mtu.max(LONGEST_FRAGMENTED);
        if self.longest.replace(longest) != longest {
            self.sender.take();
            self.receiver.take();
        }
    }

    /// Hands a frame to the socket its datagram is for.
    pub(super) fn receive(
        &self,
        interface: &Interface,
        engine: &mut Engine,
        now: Instant,
        frame: &[u8],
        flow: &Flow,
    ) {
        let mailbox = interface
            .stack
            .upgrade()
            .and_then(|stack| stack.mailbox(flow.local));
        let Some(mailbox) = mailbox else {
            // smoltcp answers that the port is unreachable.
            engine.receive(now, frame, None);
            return;
        };
        let mut receiver = self.receiver.borrow_mut();
        let Ok(receiver) = self.carrier(&mut receiver) else {
            engine.port.counters.dropped_receives += 1;
            return;
        };
        receiver.open(IpListenEndpoint {
            addr: None,
            port: flow.local.port,
        });
        engine.receive(now, frame, Some(&mut receiver.sockets));
        while let Ok((datagram, metadata)) = receiver.socket().recv() {
            let peer = interface.scoped(Endpoint {
                address: metadata.endpoint.addr.into(),
                port: metadata.endpoint.port,
            });
            mailbox.deliver(peer, datagram);
        }
    }

    /// Sends what waits.
    pub(super) fn send(&self, interface: &Interface, engine: &mut Engine, now: Instant) {
        if self.retry_at.get().is_some_and(|at| at <= now) {
            self.retry_at.set(None);
            self.neighbour_spoke();
            if !self.lacking_neighbour.borrow().is_empty() {
                self.retry_at.set(Some(now + NEIGHBOUR_RETRY));
            }
        }
        let turns = self.queue.borrow().len();
        for _ in 0..turns {
            if engine.port.is_stalled() {
                return;
            }
            let Some(waiting) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            if waiting.until.is_some_and(|until| until <= now) {
                log::debug!(
                    target: "net",
                    "{}: nobody answers for {}: datagram dropped",
                    interface.name,
                    waiting.datagram.destination
                );
                engine.port.counters.dropped_sends += 1;
                continue;
            }
            self.attempt(engine, now, waiting);
        }
    }

    fn attempt(&self, engine: &mut Engine, now: Instant, waiting: Waiting) {
        let datagram = &waiting.datagram;
        let mut place = self.sender.borrow_mut();
        let Ok(sender) = self.carrier(&mut place) else {
            engine.port.counters.dropped_sends += 1;
            return;
        };
        let source = datagram.source;
        sender.open(IpListenEndpoint {
            addr: (!source.ip().is_unspecified()).then(|| source.ip().into()),
            port: source.port(),
        });
        let destination = IpEndpoint::from(datagram.destination);
        if sender
            .socket()
            .send_slice(&datagram.data, destination)
            .is_err()
        {
            engine.port.counters.dropped_sends += 1;
            return;
        }
        if !engine.port.has_room_to_build(datagram.data.len()) {
            engine.port.counters.dropped_sends += 1;
            return;
        }
        engine.send(now, &mut sender.sockets, datagram.data.len());
        if !engine.port.observed.lacks_neighbour {
            return;
        }
        // smoltcp silences a socket whose neighbour is missing: take a fresh one.
        *place = None;
        let until = waiting.until.unwrap_or(now + NEIGHBOUR_LIMIT);
        let mut lacking = self.lacking_neighbour.borrow_mut();
        if lacking.len() >= MOST_WAITING {
            lacking.pop_front();
            engine.port.counters.dropped_sends += 1;
        }
        if lacking.try_reserve(1).is_err() {
            engine.port.counters.dropped_sends += 1;
            return;
        }
        lacking.push_back(Waiting {
            until: Some(until),
            ..waiting
        });
        if self.retry_at.get().is_none() {
            self.retry_at.set(Some(now + NEIGHBOUR_RETRY));
        }
    }

    /// A neighbour told its Ethernet address: those who waited for one try again, as far as there is
    /// memory.
    pub(super) fn neighbour_spoke(&self) {
        let mut queue = self.queue.borrow_mut();
        let mut lacking = self.lacking_neighbour.borrow_mut();
        while !lacking.is_empty() && queue.try_reserve(1).is_ok() {
            queue.extend(lacking.pop_front());
        }
    }

    /// What carries the next datagram: made anew where there is none.
    fn carrier<'a>(&self, place: &'a mut Option<Carrier>) -> Result<&'a mut Carrier, OutOfMemory> {
        match place {
            Some(carrier) => Ok(carrier),
            none => Ok(none.insert(Carrier::new(self.longest.get())?)),
        }
    }

    /// Drops what waits to be sent: there is no device to send it.
    pub(super) fn forget(&self) {
        self.queue.borrow_mut().clear();
        self.lacking_neighbour.borrow_mut().clear();
        self.retry_at.set(None);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at.get()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.borrow().is_empty()
    }
}

impl Interface {
    /// Queues a datagram.
    pub(super) fn send_datagram(&self, datagram: Outgoing) -> Result<(), OutOfMemory> {
        let mut queue = self.datagrams.queue.borrow_mut();
        queue.try_reserve(1)?;
        queue.push_back(Waiting {
            datagram,
            until: None,
        });
        self.schedule.borrow_mut().wake();
        Ok(())
    }

    /// Bytes that a datagram to `destination` can have.
    pub(super) fn longest_datagram(&self, destination: IpAddr) -> usize {
        let mtu = self.engine.borrow().port.mtu();
        match destination {
            IpAddr::V4(_) => mtu.max(LONGEST_FRAGMENTED) - IPV4_HEADER_LEN - UDP_HEADER_LEN,
            // smoltcp does not send IPv6 in fragments.
            IpAddr::V6(_) => mtu - IPV6_HEADER_LEN - UDP_HEADER_LEN,
        }
    }
}

/// A smoltcp UDP socket that carries one datagram, for one program's socket after the other.
struct Carrier {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Carrier {
    fn new(longest: usize) -> Result<Self, OutOfMemory> {
        let buffer = || -> Result<_, OutOfMemory> {
            let mut metadata = memory::with_capacity(1)?;
            metadata.push(PacketMetadata::EMPTY);
            Ok(PacketBuffer::new(metadata, memory::zeroed(longest)?))
        };
        let mut sockets = SocketSet::new(memory::with_capacity(1)?);
        let handle = sockets.add(Socket::new(buffer()?, buffer()?));
        Ok(Self { sockets, handle })
    }

    /// Empties it and binds it to `local`.
    fn open(&mut self, local: IpListenEndpoint) {
        let socket = self.socket();
        socket.close();
        // Fails for port 0 only; nothing is sent or received then.
        let _ = socket.bind(local);
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}
