//! The receive half: pages offered, fragments put together, frames judged.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::{array, mem};

use xen_proto::hypervisor::{
    Access, DomainId, GrantedPage, Hypervisor, PAGE_SIZE, ResourceError, SharedPage,
};
use xen_proto::ring::{FrontRing, RingIndex};

use crate::checksum::{self, Segment, Transport, Verdict};
use crate::misbehaviour::Misbehaviour;
use crate::settings::ETHERNET_HEADER;
use crate::statistics::Counters;
use crate::wire::{
    ExtraInfo, ExtraKind, MAXIMUM_RECEIVE_BYTES, MAXIMUM_SLOTS_PER_PACKET, RECEIVE_SLOT_BYTES,
    RING_SLOTS, ReceiveFlags, ReceiveRequest, ReceiveResponse, Segmentation,
};

/// Pages offered at first: 256 KiB, several packets of the largest size.
pub(crate) const INITIAL_PAGES: usize = 64;

/// Fewest pages with which it is worth connecting: one packet of the most slots.
pub(crate) const MINIMUM_PAGES: usize = MAXIMUM_SLOTS_PER_PACKET;

/// Emptied pages are offered again in batches of at least so many, to write the index and to
/// think about notifying once for several packets: a backend that has run out of pages waits
/// for as many as its next packet takes.
const SMALLEST_BATCH: usize = MAXIMUM_SLOTS_PER_PACKET;

/// The receive ring, its pages, and the packet being put together.
///
/// A page is either in `free` or owned by the ring place it was offered in. Responses are
/// matched by place, as extra-info descriptors have no id.
pub(crate) struct ReceiveQueue<H: Hypervisor> {
    ring: FrontRing<Rc<H::Page>, ReceiveRequest, ReceiveResponse>,
    /// The page that was offered in each place of the ring.
    offered: [Option<H::Page>; RING_SLOTS],
    /// Pages that are not offered.
    free: Vec<H::Page>,
    /// How many pages there are to be: doubles under load, halves after it.
    target: usize,
    /// Most responses that waited at once, since [`rest`](Self::rest).
    busiest: usize,
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
    /// It is several segments of TCP.
    segmentation: Option<Segmentation>,
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
    Memory,
}

impl<H: Hypervisor> ReceiveQueue<H> {
    /// Makes a ring in `ring_page` whose positions begin at `start`, and offers `pages`.
    pub(crate) fn new(ring_page: Rc<H::Page>, mut pages: Vec<H::Page>, start: RingIndex) -> Self {
        pages.truncate(RING_SLOTS);
        let mut queue = Self {
            ring: FrontRing::starting_at(ring_page, RECEIVE_SLOT_BYTES, start),
            offered: array::from_fn(|_| None),
            target: pages.len(),
            free: pages,
            busiest: 0,
            out_of_pages: false,
            packet: Packet::default(),
        };
        // Nobody is connected yet who could want an event.
        let _ = queue.refill();
        queue
    }

    /// The pages, for the next connection to the same peer.
    pub(crate) fn into_pages(self) -> Vec<H::Page> {
        let mut pages = self.free;
        pages.extend(self.offered.into_iter().flatten());
        pages
    }

    /// Pages granted.
    pub(crate) fn page_count(&self) -> usize {
        // A place of the ring that is in use holds a page until its response is taken.
        self.free.len() + self.ring.in_use() as usize
    }

    /// Takes the next frame that is worth handing on, replacing what `frame` held. Frames that
    /// are not are counted and skipped.
    pub(crate) fn receive(
        &mut self,
        frame: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<bool, Misbehaviour> {
        // The caller's memory is what is filled, and goes back to it unless a packet is begun.
        if !self.packet.has_begun() {
            self.packet.bytes = mem::take(frame);
            self.packet.bytes.clear();
        }
        while self.take_slots()? {
            match self.packet.judge(counters) {
                Ok(()) => {
                    let is_segmented = self.packet.segmentation.is_some();
                    counters.received_segmented += u64::from(is_segmented);
                    *frame = self.packet.end();
                    counters.received.frames += 1;
                    counters.received.bytes += frame.len() as u64;
                    return Ok(true);
                }
                Err(flaw) => {
                    count(flaw, counters);
                    self.packet.bytes = self.packet.end();
                    self.packet.bytes.clear();
                }
            }
        }
        frame.clear();
        if !self.packet.has_begun() {
            *frame = mem::take(&mut self.packet.bytes);
        }
        Ok(false)
    }

    /// Whether emptied pages are worth offering again before the queue is drained.
    pub(crate) fn wants_refill(&self) -> bool {
        self.free.len() >= SMALLEST_BATCH.max(self.target / 4)
    }

    /// Offers every free page again, and gives back those that are too many. True if the
    /// backend asked for an event.
    pub(crate) fn refill(&mut self) -> bool {
        let surplus = self.page_count().saturating_sub(self.target);
        self.free.truncate(self.free.len().saturating_sub(surplus));
        while let Some(page) = self.free.pop() {
            let position = self.ring.next_request();
            let place = position.place(RING_SLOTS as u32);
            let request = ReceiveRequest {
                id: place as u16,
                grant: page.reference(),
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

    /// Doubles the number of pages if the backend had used up most of them before we looked;
    /// true if it did. Call it before draining the queue. An error is told once for each load.
    pub(crate) fn grow_under_load(
        &mut self,
        hypervisor: &H,
        peer: DomainId,
    ) -> Result<bool, ResourceError> {
        let waiting = self.ring.waiting_responses().unwrap_or(0) as usize;
        self.busiest = self.busiest.max(waiting);
        let left = self.target.saturating_sub(waiting);
        // With fewer pages than a packet may take, the backend has stopped.
        let is_enough = left * 4 > self.target && left >= MAXIMUM_SLOTS_PER_PACKET;
        if is_enough || self.out_of_pages || self.target >= RING_SLOTS {
            return Ok(false);
        }
        let target = (self.target * 2).min(RING_SLOTS);
        // All of them may be emptied at a time.
        let more = target.saturating_sub(self.free.len());
        if self.free.try_reserve(more).is_err() {
            self.out_of_pages = true;
            return Err(ResourceError::OutOfPages);
        }
        while self.page_count() < target {
            match hypervisor.share_page(peer, Access::ReadWrite) {
                Ok(page) => self.free.push(page),
                Err(error) => {
                    self.out_of_pages = true;
                    self.target = self.page_count();
                    return Err(error);
                }
            }
        }
        self.target = target;
        Ok(true)
    }

    /// Looks back on a time that began with the last call: if the backend had used up at most a
    /// quarter of the pages at once, only half of them is to be kept, down to
    /// [`INITIAL_PAGES`]. A page goes when it comes back filled: until then the backend has it.
    pub(crate) fn rest(&mut self) {
        let busiest = mem::take(&mut self.busiest);
        if busiest * 4 <= self.target {
            // The next load may find more than this one did.
            self.out_of_pages = false;
            self.target = self.target.min((self.target / 2).max(INITIAL_PAGES));
        }
    }

    /// Whether there are to be more pages than in the beginning.
    pub(crate) fn has_grown(&self) -> bool {
        self.target > INITIAL_PAGES
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
            let added = if self.packet.extra_follows {
                self.packet.add_extra(&slot)
            } else {
                let response = ReceiveResponse::from_bytes(&slot);
                if usize::from(response.id) == place {
                    self.packet.add_fragment(&response, &page)
                } else {
                    Err(Misbehaviour::ReceiveId {
                        expected: place as u16,
                        found: response.id,
                    })
                }
            };
            // Whatever the slot says, the page is ours again.
            self.free.push(page);
            added?;
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
        let length = usize::from(length);
        if self.flaw.is_none() {
            match self.bytes.try_reserve(length) {
                Ok(()) => page.append(offset, length, &mut self.bytes),
                Err(_) => self.flaw = Some(Flaw::Memory),
            }
        }
        Ok(())
    }

    fn add_extra(&mut self, slot: &[u8; RECEIVE_SLOT_BYTES]) -> Result<(), Misbehaviour> {
        self.extras += 1;
        if self.extras > ExtraInfo::KINDS {
            return Err(Misbehaviour::EndlessExtraInfo);
        }
        let extra = ExtraInfo::from_bytes(slot).map_err(Misbehaviour::ExtraInfo)?;
        if let ExtraKind::Segmentation(segmentation) = extra.kind
            && self.segmentation.replace(segmentation).is_some()
        {
            return Err(Misbehaviour::RepeatedSegmentation);
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
        if self.bytes.len() < ETHERNET_HEADER || self.bytes.len() > MAXIMUM_RECEIVE_BYTES {
            return Err(Flaw::Size);
        }
        if let Some(segmentation) = self.segmentation
            && !is_whole_tcp(&self.bytes, segmentation)
        {
            return Err(Flaw::Segmentation);
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

    /// Whether slots of it have been seen.
    fn has_begun(&self) -> bool {
        self.fragments > 0
    }

    /// Its bytes; ready for the next packet.
    fn end(&mut self) -> Vec<u8> {
        mem::take(self).bytes
    }
}

/// Whether `frame` is one packet of TCP over the right IP version, with nothing behind it: all
/// that can be several segments.
fn is_whole_tcp(frame: &[u8], segmentation: Segmentation) -> bool {
    Segment::locate(frame).is_ok_and(|segment| {
        segment.transport == Transport::Tcp
            && segment.ip_version == segmentation.ip_version
            && segment.range.end == frame.len()
    })
}

fn count(flaw: Flaw, counters: &mut Counters) {
    let drops = &mut counters.receive_drops;
    match flaw {
        Flaw::Error => drops.error += 1,
        Flaw::Segmentation => drops.segmentation += 1,
        Flaw::Size => drops.size += 1,
        Flaw::Checksum => drops.checksum += 1,
        Flaw::Memory => drops.memory += 1,
    }
}
