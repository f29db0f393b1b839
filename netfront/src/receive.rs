//! The receive half: pages offered, fragments put together, frames judged.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem;

use xen_proto::hypervisor::{
    Access, DomainId, GrantedPage, Hypervisor, PAGE_SIZE, ResourceError, SharedPage,
};
use xen_proto::ring::{FrontRing, RingIndex};

use crate::checksum::{self, Verdict};
use crate::misbehaviour::Misbehaviour;
use crate::settings::ETHERNET_HEADER;
use crate::statistics::Counters;
use crate::wire::{
    ExtraInfo, ExtraKind, MAXIMUM_PACKET_BYTES, MAXIMUM_SLOTS_PER_PACKET, RECEIVE_SLOT_BYTES,
    RING_SLOTS, ReceiveFlags, ReceiveRequest, ReceiveResponse,
};

/// Pages offered at first: 256 KiB, several packets of the largest size.
pub(crate) const INITIAL_PAGES: usize = 64;

/// Fewest pages with which it is worth connecting: one packet of the most slots.
pub(crate) const MINIMUM_PAGES: usize = MAXIMUM_SLOTS_PER_PACKET;

/// Emptied pages are offered again in batches, to write the index and to think about
/// notifying once for several packets.
const REFILL_BATCH: usize = 16;

/// The receive ring, its pages, and the packet being put together.
///
/// A page is either in `free` or owned by the ring place it was offered in. Responses are
/// matched by place, as extra-info descriptors have no id.
pub(crate) struct ReceiveQueue<H: Hypervisor> {
    ring: FrontRing<Rc<H::Page>, ReceiveRequest, ReceiveResponse>,
    pages: Vec<H::Page>,
    /// Which page was offered in each place of the ring.
    offered: [Option<u16>; RING_SLOTS],
    /// Pages that are not offered.
    free: Vec<u16>,
    /// How many pages are to be offered: doubles under load.
    target: usize,
    /// No page could be had when it last tried to grow.
    out_of_pages: bool,
    packet: Packet,
}

/// A packet of which not all slots have been seen.
#[derive(Default)]
struct Packet {
    bytes: Vec<u8>,
    /// Flags of the first fragment; `None` before it came.
    first: Option<ReceiveFlags>,
    fragments: usize,
    extras: usize,
    /// The next slot holds extra info.
    extra_follows: bool,
    /// Data follows, after the extra info.
    data_follows: bool,
    /// What is wrong with it, so far.
    flaw: Option<Flaw>,
}

/// Why a packet that keeps to the protocol is dropped nevertheless.
#[derive(Clone, Copy)]
enum Flaw {
    Error,
    Segmentation,
    Size,
    Checksum,
}

impl<H: Hypervisor> ReceiveQueue<H> {
    /// Makes a ring in `ring_page` whose positions begin at `start`, and offers `pages`.
    pub(crate) fn new(ring_page: Rc<H::Page>, pages: Vec<H::Page>, start: RingIndex) -> Self {
        let count = u16::try_from(pages.len().min(RING_SLOTS)).unwrap_or(0);
        let mut queue = Self {
            ring: FrontRing::starting_at(ring_page, RECEIVE_SLOT_BYTES, start),
            pages,
            offered: [None; RING_SLOTS],
            free: (0..count).rev().collect(),
            target: usize::from(count),
            out_of_pages: false,
            packet: Packet::default(),
        };
        // Nobody is connected yet who could want an event.
        let _ = queue.refill();
        queue
    }

    /// The pages, for the next connection to the same peer.
    pub(crate) fn into_pages(self) -> Vec<H::Page> {
        self.pages
    }

    /// Pages granted.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Takes the next frame that is worth handing on, replacing what `frame` held. Frames that
    /// are not are counted and skipped.
    pub(crate) fn receive(
        &mut self,
        frame: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<bool, Misbehaviour> {
        while self.take_slots()? {
            match self.packet.judge(counters) {
                Ok(()) => {
                    counters.received.frames += 1;
                    counters.received.bytes += self.packet.bytes.len() as u64;
                    mem::swap(frame, &mut self.packet.bytes);
                    self.packet.reset();
                    return Ok(true);
                }
                Err(flaw) => {
                    count(flaw, counters);
                    self.packet.reset();
                }
            }
        }
        Ok(false)
    }

    /// Whether emptied pages are worth offering again before the queue is drained.
    pub(crate) fn wants_refill(&self) -> bool {
        self.free.len() >= REFILL_BATCH
    }

    /// Offers every free page again. True if the backend asked for an event.
    pub(crate) fn refill(&mut self) -> bool {
        while let Some(page) = self.free.pop() {
            let position = self.ring.next_request();
            let place = position.place(RING_SLOTS as u32);
            let request = ReceiveRequest {
                id: place as u16,
                grant: self.pages[usize::from(page)].reference(),
            };
            if self.ring.push_request(&request).is_err() {
                // Never: there are at most as many pages as places.
                self.free.push(page);
                break;
            }
            self.offered[place] = Some(page);
        }
        self.ring.publish_requests()
    }

    /// Doubles the number of pages if the backend had used up most of them before we looked.
    /// Call it before draining the queue. An error is told once.
    pub(crate) fn grow_under_load(
        &mut self,
        hypervisor: &H,
        peer: DomainId,
    ) -> Result<(), ResourceError> {
        let waiting = self.ring.waiting_responses().unwrap_or(0) as usize;
        if self.out_of_pages || self.target >= RING_SLOTS || waiting * 4 < self.target * 3 {
            return Ok(());
        }
        let target = (self.target * 2).min(RING_SLOTS);
        while self.pages.len() < target {
            match hypervisor.share_page(peer, Access::ReadWrite) {
                Ok(page) => {
                    self.free.push(self.pages.len() as u16);
                    self.pages.push(page);
                }
                Err(error) => {
                    self.out_of_pages = true;
                    self.target = self.pages.len();
                    return Err(error);
                }
            }
        }
        self.target = target;
        Ok(())
    }

    /// Whether responses wait that have not been looked at. An impossible number counts as
    /// some: looking at them will tell.
    pub(crate) fn has_responses(&mut self) -> bool {
        self.ring.waiting_responses() != Ok(0)
    }

    /// Asks for an event with the next response; true if there is one already.
    pub(crate) fn final_check(&mut self) -> bool {
        self.ring.final_check_for_responses()
    }

    /// Takes slots until a packet is whole (true) or there are no more (false).
    fn take_slots(&mut self) -> Result<bool, Misbehaviour> {
        loop {
            let place = self.ring.next_response().place(RING_SLOTS as u32);
            let mut slot = [0; RECEIVE_SLOT_BYTES];
            if !self
                .ring
                .pop_raw(&mut slot)
                .map_err(Misbehaviour::ReceiveRing)?
            {
                return Ok(false);
            }
            // The ring only gives responses to places that hold a request.
            let Some(page) = self.offered[place].take() else {
                return Err(Misbehaviour::ReceiveId {
                    expected: place as u16,
                    found: ReceiveResponse::from_bytes(&slot).id,
                });
            };
            // Whatever the slot says, the page is ours again.
            self.free.push(page);
            if self.packet.extra_follows {
                self.packet.add_extra(&slot)?;
            } else {
                let response = ReceiveResponse::from_bytes(&slot);
                if usize::from(response.id) != place {
                    return Err(Misbehaviour::ReceiveId {
                        expected: place as u16,
                        found: response.id,
                    });
                }
                self.packet
                    .add_fragment(&response, &self.pages[usize::from(page)])?;
            }
            if self.packet.is_whole() {
                return Ok(true);
            }
        }
    }
}

impl Packet {
    fn add_fragment(
        &mut self,
        response: &ReceiveResponse,
        page: &impl SharedPage,
    ) -> Result<(), Misbehaviour> {
        if response.flags.contains(ReceiveFlags::SEGMENTATION_PREFIX) {
            return Err(Misbehaviour::SegmentationPrefix);
        }
        self.fragments += 1;
        if self.fragments > MAXIMUM_SLOTS_PER_PACKET {
            return Err(Misbehaviour::EndlessPacket);
        }
        if self.first.is_none() {
            self.first = Some(response.flags);
            self.extra_follows = response.flags.contains(ReceiveFlags::EXTRA_INFO);
        }
        self.data_follows = response.flags.contains(ReceiveFlags::MORE_DATA);
        let Ok(length) = u16::try_from(response.status) else {
            self.flaw = Some(Flaw::Error);
            return Ok(());
        };
        let offset = usize::from(response.offset);
        if offset + usize::from(length) > PAGE_SIZE {
            return Err(Misbehaviour::ReceiveBounds {
                offset: response.offset,
                length,
            });
        }
        if self.flaw.is_none() {
            let at = self.bytes.len();
            self.bytes.resize(at + usize::from(length), 0);
            page.read(offset, &mut self.bytes[at..]);
        }
        Ok(())
    }

    fn add_extra(&mut self, slot: &[u8; RECEIVE_SLOT_BYTES]) -> Result<(), Misbehaviour> {
        self.extras += 1;
        if self.extras > ExtraInfo::KINDS {
            return Err(Misbehaviour::EndlessExtraInfo);
        }
        let extra = ExtraInfo::from_bytes(slot).map_err(Misbehaviour::ExtraInfo)?;
        if matches!(extra.kind, ExtraKind::Segmentation { .. }) {
            self.flaw = Some(Flaw::Segmentation);
        }
        self.extra_follows = extra.more;
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.extra_follows && !self.data_follows
    }

    /// Whether the packet, which is whole, may be handed on.
    fn judge(&self, counters: &mut Counters) -> Result<(), Flaw> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        if self.bytes.len() < ETHERNET_HEADER || self.bytes.len() > MAXIMUM_PACKET_BYTES {
            return Err(Flaw::Size);
        }
        let flags = self.first.unwrap_or_default();
        if flags.contains(ReceiveFlags::CHECKSUM_BLANK) {
            counters.blank += 1;
            return Ok(());
        }
        if flags.contains(ReceiveFlags::DATA_VALIDATED) {
            return Ok(());
        }
        match checksum::verify(&self.bytes) {
            Verdict::Good => counters.verified += 1,
            Verdict::NotApplicable => {}
            Verdict::Bad => return Err(Flaw::Checksum),
        }
        Ok(())
    }

    /// Ready for the next packet, keeping the buffer.
    fn reset(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self {
            bytes,
            ..Self::default()
        };
    }
}

fn count(flaw: Flaw, counters: &mut Counters) {
    let drops = &mut counters.receive_drops;
    match flaw {
        Flaw::Error => drops.error += 1,
        Flaw::Segmentation => drops.segmentation += 1,
        Flaw::Size => drops.size += 1,
        Flaw::Checksum => drops.checksum += 1,
    }
}
