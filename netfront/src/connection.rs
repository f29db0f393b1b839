//! One connection to a backend: both queues, their ports, and the memory under them.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::task::{Context, Poll};

use xen_proto::hypervisor::{
    Access, DomainId, EventPort, GrantReference, GrantedPage, Hypervisor, PortNumber, ResourceError,
};
use xen_proto::ring::RingIndex;

use crate::device::Offload;
use crate::misbehaviour::Misbehaviour;
use crate::receive::{self, ReceiveQueue};
use crate::settings::Settings;
use crate::statistics::Counters;
use crate::transmit::{self, Outcome, TransmitQueue};

/// Pages granted to one backend domain.
///
/// They outlive a connection: connecting again to the same domain grants nothing new, so that
/// a backend that never unmaps what it mapped cannot use up our memory by reconnecting. What
/// is in them the same domain has seen already.
pub(crate) struct Memory<H: Hypervisor> {
    peer: DomainId,
    transmit_ring: Rc<H::Page>,
    receive_ring: Rc<H::Page>,
    transmit_pages: Vec<H::Page>,
    receive_pages: Vec<H::Page>,
}

impl<H: Hypervisor> Memory<H> {
    /// Grants what a connection needs to begin: two rings, the first pages to receive into,
    /// and enough to transmit from for any one frame, which growing queues elsewhere then
    /// cannot take away.
    ///
    /// # Errors
    /// [`ResourceError`] if there is not enough even for [`receive::MINIMUM_PAGES`] and one
    /// page to transmit from.
    pub(crate) fn grant(hypervisor: &H, peer: DomainId) -> Result<Self, ResourceError> {
        let ring = || hypervisor.share_page(peer, Access::ReadWrite).map(Rc::new);
        Ok(Self {
            peer,
            transmit_ring: ring()?,
            receive_ring: ring()?,
            receive_pages: grant_pages(receive::MINIMUM_PAGES..receive::INITIAL_PAGES, || {
                hypervisor.share_page(peer, Access::ReadWrite)
            })?,
            transmit_pages: grant_pages(1..transmit::INITIAL_PAGES, || {
                hypervisor.share_page(peer, Access::ReadOnly)
            })?,
        })
    }

    /// The domain that everything is granted to.
    pub(crate) fn peer(&self) -> DomainId {
        self.peer
    }
}

/// As many pages as the range ends with, if need be only as many as it starts with.
fn grant_pages<P>(
    count: Range<usize>,
    grant: impl Fn() -> Result<P, ResourceError>,
) -> Result<Vec<P>, ResourceError> {
    let mut pages = Vec::with_capacity(count.end);
    while pages.len() < count.end {
        match grant() {
            Ok(page) => pages.push(page),
            Err(_) if pages.len() >= count.start => break,
            Err(error) => return Err(error),
        }
    }
    Ok(pages)
}

/// Event channels: one for everything, or one for each direction.
pub(crate) enum Ports<P> {
    /// `event-channel`.
    Shared(P),
    /// `event-channel-tx` and `event-channel-rx`.
    Split {
        /// For the transmit ring.
        transmit: P,
        /// For the receive ring.
        receive: P,
    },
}

impl<P: EventPort> Ports<P> {
    /// Allocates ports that `peer` may bind to.
    ///
    /// # Errors
    /// [`ResourceError`] of the machine.
    pub(crate) fn allocate<H: Hypervisor<Port = P>>(
        hypervisor: &H,
        peer: DomainId,
        split: bool,
    ) -> Result<Self, ResourceError> {
        let first = hypervisor.allocate_port(peer)?;
        if !split {
            return Ok(Self::Shared(first));
        }
        Ok(Self::Split {
            transmit: first,
            receive: hypervisor.allocate_port(peer)?,
        })
    }

    fn transmit(&self) -> &P {
        match self {
            Self::Shared(port) | Self::Split { transmit: port, .. } => port,
        }
    }

    fn receive(&self) -> &P {
        match self {
            Self::Shared(port) | Self::Split { receive: port, .. } => port,
        }
    }

    /// Takes what events there are, and arranges to be woken by the next one of each port
    /// that had none.
    fn take_events(&self, context: &mut Context<'_>) -> Events {
        match self {
            Self::Shared(port) => Events {
                any: u64::from(port.poll_event(context).is_ready()),
                ..Events::default()
            },
            Self::Split { transmit, receive } => Events {
                transmit: u64::from(transmit.poll_event(context).is_ready()),
                receive: u64::from(receive.poll_event(context).is_ready()),
                ..Events::default()
            },
        }
    }
}

/// Events taken, by what they can have been for.
#[derive(Clone, Copy, Default)]
struct Events {
    /// Either ring.
    any: u64,
    transmit: u64,
    receive: u64,
}

impl Events {
    fn total(self) -> u64 {
        self.any + self.transmit + self.receive
    }

    fn count(self, counters: &mut Counters) {
        counters.events += self.total();
        counters.transmit_events += self.transmit;
    }
}

/// What the backend must be told to find the rings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) transmit_ring: GrantReference,
    pub(crate) receive_ring: GrantReference,
    pub(crate) ports: OfferedPorts,
}

/// Port numbers as they are written to xenstore.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfferedPorts {
    Shared(PortNumber),
    Split {
        transmit: PortNumber,
        receive: PortNumber,
    },
}

/// Both queues at work.
pub(crate) struct Connection<H: Hypervisor> {
    hypervisor: H,
    peer: DomainId,
    settings: Rc<Settings>,
    transmit_ring: Rc<H::Page>,
    receive_ring: Rc<H::Page>,
    transmit: TransmitQueue<H>,
    receive: ReceiveQueue<H>,
    ports: Ports<H::Port>,
}

impl<H: Hypervisor> Connection<H> {
    /// Makes fresh rings in `memory`, whose positions begin at `start`.
    pub(crate) fn new(
        hypervisor: H,
        memory: Memory<H>,
        ports: Ports<H::Port>,
        settings: Rc<Settings>,
        start: RingIndex,
    ) -> Self {
        let Memory {
            peer,
            transmit_ring,
            receive_ring,
            transmit_pages,
            receive_pages,
        } = memory;
        Self {
            hypervisor,
            peer,
            settings,
            transmit: TransmitQueue::new(transmit_ring.clone(), transmit_pages, start),
            receive: ReceiveQueue::new(receive_ring.clone(), receive_pages, start),
            transmit_ring,
            receive_ring,
            ports,
        }
    }

    /// Closes the ports and gives the memory back for the next connection.
    pub(crate) fn into_memory(self) -> Memory<H> {
        Memory {
            peer: self.peer,
            transmit_ring: self.transmit_ring,
            receive_ring: self.receive_ring,
            transmit_pages: self.transmit.into_pages(),
            receive_pages: self.receive.into_pages(),
        }
    }

    pub(crate) fn offer(&self) -> Offer {
        Offer {
            transmit_ring: self.transmit_ring.reference(),
            receive_ring: self.receive_ring.reference(),
            ports: match &self.ports {
                Ports::Shared(port) => OfferedPorts::Shared(port.number()),
                Ports::Split { transmit, receive } => OfferedPorts::Split {
                    transmit: transmit.number(),
                    receive: receive.number(),
                },
            },
        }
    }

    /// For people: to whom, and what was agreed on.
    pub(crate) fn summary(&self) -> impl fmt::Display {
        let settings = &self.settings;
        let [a, b, c, d, e, f] = settings.mac;
        let versions = |ipv4, ipv6| match (ipv4, ipv6) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            (false, false) => "none",
        };
        let checksum = versions(settings.checksum_ipv4, settings.checksum_ipv6);
        let segmentation = versions(settings.segmentation_ipv4, settings.segmentation_ipv6);
        let ports = match self.ports {
            Ports::Shared(_) => "one event channel",
            Ports::Split { .. } => "two event channels",
        };
        alloc::format!(
            "backend in domain {}, mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, mtu {}, \
             checksum offload {checksum}, segmentation offload {segmentation}, {ports}",
            self.peer,
            settings.mtu,
        )
    }

    pub(crate) fn page_counts(&self) -> (usize, usize) {
        (self.receive.page_count(), self.transmit.page_count())
    }

    /// Tells the backend that there are pages to receive into, whether it asked or not: the
    /// first ones were offered before it was there to ask.
    pub(crate) fn announce(&mut self, counters: &mut Counters) {
        self.notify_receive(counters);
    }

    fn notify_receive(&self, counters: &mut Counters) {
        counters.notifications += 1;
        counters.refill_notifications += 1;
        self.ports.receive().notify();
    }

    /// Takes the next frame, and offers emptied pages again.
    pub(crate) fn receive(
        &mut self,
        frame: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<bool, Misbehaviour> {
        let received = self.receive.receive(frame, counters)?;
        if (!received || self.receive.wants_refill()) && self.receive.refill() {
            self.notify_receive(counters);
        }
        Ok(received)
    }

    /// Queues a frame. When there is no room, what was queued before is published, so that
    /// room can appear.
    pub(crate) fn transmit(
        &mut self,
        frame: &[u8],
        offload: Offload,
        counters: &mut Counters,
    ) -> Result<Outcome, Misbehaviour> {
        loop {
            let outcome = self.transmit.transmit(
                frame,
                offload,
                &self.settings,
                (&self.hypervisor, self.peer),
                counters,
            )?;
            if outcome != Outcome::Full {
                return Ok(outcome);
            }
            self.publish(counters);
            // Room that appeared since is used at once: no event would tell of it.
            if !self.transmit.room_appeared(counters)? {
                counters.queue_full += 1;
                return Ok(outcome);
            }
        }
    }

    /// Shows the backend everything queued, and notifies it if it asked for that.
    pub(crate) fn publish(&mut self, counters: &mut Counters) {
        if self.transmit.publish() {
            counters.notifications += 1;
            self.ports.transmit().notify();
        }
    }

    /// Ready when a frame may have come or room appeared; see `Device::poll_event`.
    pub(crate) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        counters: &mut Counters,
    ) -> Result<Poll<()>, Misbehaviour> {
        let events = self.ports.take_events(context);
        events.count(counters);
        let received = self.receive.has_responses();
        // The transmit ring is none of our business before a frame was refused or an event came.
        let completed = events.any + events.transmit > 0 && self.transmit.has_responses();
        if !received {
            counters.spurious_events += events.receive;
        }
        if !completed {
            counters.spurious_events += events.transmit;
        }
        if !received && !completed {
            counters.spurious_events += events.any;
        }
        if received || self.transmit.room_appeared(counters)? {
            return Ok(Poll::Ready(()));
        }
        if events.total() > 0 {
            // A port that had an event did not note whom to wake by the next one.
            let more = self.ports.take_events(context);
            if more.total() > 0 {
                more.count(counters);
                context.waker().wake_by_ref();
            }
        }
        Ok(if self.receive.final_check() {
            Poll::Ready(())
        } else {
            Poll::Pending
        })
    }

    /// Grants more pages to receive into if the backend used up most of them.
    pub(crate) fn grow_under_load(&mut self) -> Result<bool, ResourceError> {
        self.receive.grow_under_load(&self.hypervisor, self.peer)
    }

    /// Whether there are pages that a time without load should give back.
    pub(crate) fn has_grown(&self) -> bool {
        self.receive.has_grown() || self.transmit.has_grown()
    }

    /// Gives pages back if there was little load since the last call.
    pub(crate) fn rest(&mut self, counters: &mut Counters) -> Result<(), Misbehaviour> {
        self.receive.rest();
        self.transmit.rest(counters)
    }
}
