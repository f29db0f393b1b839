//! The transmit half: frames copied into granted pages, completions reaped.

use alloc::rc::Rc;
use alloc::vec::Vec;

use xen_proto::hypervisor::{Access, DomainId, GrantedPage, Hypervisor, PAGE_SIZE, SharedPage};
use xen_proto::ring::{FrontRing, RingIndex};

use crate::device::Offload;
use crate::misbehaviour::Misbehaviour;
use crate::settings::Settings;
use crate::statistics::Counters;
use crate::wire::{
    MAXIMUM_TRANSMIT_BYTES, RING_SLOTS, TRANSMIT_SLOT_BYTES, TransmitFlags, TransmitRequest,
    TransmitResponse, TransmitStatus,
};

mod plan;

use plan::Plan;

/// Pages to begin with: as many as the largest frame takes.
pub(crate) const INITIAL_PAGES: usize = MAXIMUM_TRANSMIT_BYTES.div_ceil(PAGE_SIZE);

/// The transmit ring and its pages, which grow in number when none is free and are reused: a
/// page's index is its id on the wire.
///
/// A page is either in `free` or in flight, never both: a response for a page that is not in
/// flight is the backend's misbehaviour. Descriptors have no id and are only counted.
pub(crate) struct TransmitQueue<H: Hypervisor> {
    ring: FrontRing<Rc<H::Page>, TransmitRequest, TransmitResponse>,
    pages: Vec<H::Page>,
    in_flight: [bool; RING_SLOTS],
    free: Vec<u16>,
    /// Descriptors in the ring that were not answered.
    descriptors: usize,
    /// What a frame that was refused takes: an event is due once it fits.
    refused: Option<Needs>,
    /// Most pages that were in flight or wanted at once when that was last counted, since
    /// [`rest`](Self::rest).
    busiest: usize,
}

/// What a frame takes.
#[derive(Clone, Copy)]
struct Needs {
    pages: usize,
    slots: usize,
}

/// What became of a frame given to [`TransmitQueue::transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the ring, to be published.
    Queued,
    /// There is no room now.
    Full,
    /// It was dropped, and counted.
    Dropped,
}

impl<H: Hypervisor> TransmitQueue<H> {
    /// Makes a ring in `ring_page` whose positions begin at `start`, with `pages` to use.
    pub(crate) fn new(ring_page: Rc<H::Page>, pages: Vec<H::Page>, start: RingIndex) -> Self {
        let count = u16::try_from(pages.len().min(RING_SLOTS)).unwrap_or(0);
        Self {
            ring: FrontRing::starting_at(ring_page, TRANSMIT_SLOT_BYTES, start),
            pages,
            in_flight: [false; RING_SLOTS],
            free: (0..count).rev().collect(),
            descriptors: 0,
            refused: None,
            busiest: 0,
        }
    }

    /// The pages, for the next connection to the same peer.
    pub(crate) fn into_pages(self) -> Vec<H::Page> {
        self.pages
    }

    /// Pages granted.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Copies `frame` into granted pages and queues them. When there is no room, everything
    /// queued before must be [published](Self::publish) for room ever to appear.
    pub(crate) fn transmit(
        &mut self,
        frame: &[u8],
        offload: Offload,
        settings: &Settings,
        grants: (&H, DomainId),
        counters: &mut Counters,
    ) -> Result<Outcome, Misbehaviour> {
        let plan = match Plan::new(frame, offload, settings) {
            Ok(plan) => plan,
            Err(flaw) => {
                flaw.count(counters);
                return Ok(Outcome::Dropped);
            }
        };
        let pages = frame.len().div_ceil(PAGE_SIZE);
        let needs = Needs {
            pages,
            slots: pages + usize::from(plan.segmentation.is_some()),
        };
        if !self.has_room(needs) {
            self.reap(counters)?;
            let wanted = self.pages.len() - self.free.len() + pages;
            self.busiest = self.busiest.max(wanted);
            self.grow(pages, grants);
        }
        if !self.has_room(needs) {
            if self.pages.len() < needs.pages {
                // Completions would not help: there are too few pages altogether.
                counters.transmit_drops.memory += 1;
                return Ok(Outcome::Dropped);
            }
            self.refused = Some(needs);
            return Ok(Outcome::Full);
        }
        self.queue(frame, &plan);
        counters.transmitted.frames += 1;
        counters.transmitted.bytes += frame.len() as u64;
        counters.transmitted_segmented += u64::from(plan.segmentation.is_some());
        Ok(Outcome::Queued)
    }

    /// Shows the backend everything queued. True if it asked for an event.
    pub(crate) fn publish(&mut self) -> bool {
        self.ring.publish_requests()
    }

    /// Whether a frame was refused that fits now. If one was refused that does not, arranges
    /// for an event once a good part of what is in flight completed.
    pub(crate) fn room_appeared(&mut self, counters: &mut Counters) -> Result<bool, Misbehaviour> {
        let Some(needs) = self.refused else {
            return Ok(false);
        };
        loop {
            if !self.has_room(needs) {
                self.reap(counters)?;
            }
            if self.has_room(needs) {
                self.refused = None;
                return Ok(true);
            }
            let batch = (self.ring.in_use() / 4).max(1);
            if !self.ring.final_check_for_responses_after(batch) {
                return Ok(false);
            }
        }
    }

    /// Whether completions wait that have not been looked at. An impossible number counts as
    /// some.
    pub(crate) fn has_responses(&mut self) -> bool {
        self.ring.waiting_responses() != Ok(0)
    }

    /// Whether there are more pages than in the beginning.
    pub(crate) fn has_grown(&self) -> bool {
        self.pages.len() > INITIAL_PAGES
    }

    /// Looks back on a time that began with the last call: if at most a quarter of the pages
    /// was in use at once, gives up to half of them back, down to [`INITIAL_PAGES`].
    pub(crate) fn rest(&mut self, counters: &mut Counters) -> Result<(), Misbehaviour> {
        self.reap(counters)?;
        let busiest = core::mem::take(&mut self.busiest);
        let count = self.pages.len();
        if count <= INITIAL_PAGES || busiest * 4 > count {
            return Ok(());
        }
        let fewest = (count / 2).max(INITIAL_PAGES);
        // Those with the highest ids go, as far as the backend has none of them.
        self.free.sort_unstable_by(|left, right| right.cmp(left));
        let descending = (fewest..count).rev();
        let surplus = self
            .free
            .iter()
            .zip(descending)
            .take_while(|&(&id, last)| usize::from(id) == last)
            .count();
        self.free.drain(..surplus);
        self.pages.truncate(count - surplus);
        Ok(())
    }

    fn has_room(&self, needs: Needs) -> bool {
        self.free.len() >= needs.pages && self.ring.free_requests() as usize >= needs.slots
    }

    /// Takes back every page that the backend is done with: the only place that does.
    fn reap(&mut self, counters: &mut Counters) -> Result<(), Misbehaviour> {
        while let Some(response) = self
            .ring
            .pop_response()
            .map_err(Misbehaviour::TransmitRing)?
        {
            if response.status == TransmitStatus::Null && self.descriptors > 0 {
                // The answer to a descriptor. Linux leaves in its id what was there before.
                self.descriptors -= 1;
                continue;
            }
            let id = response.id;
            match self.in_flight.get_mut(usize::from(id)) {
                Some(in_flight) if *in_flight => *in_flight = false,
                _ => return Err(Misbehaviour::TransmitId { id }),
            }
            match response.status {
                TransmitStatus::Okay => {}
                TransmitStatus::Error | TransmitStatus::Dropped => {
                    counters.transmit_drops.refused += 1;
                }
                TransmitStatus::Null | TransmitStatus::Unknown(_) => {
                    return Err(Misbehaviour::TransmitStatus {
                        id,
                        status: response.status.number(),
                    });
                }
            }
            self.free.push(id);
        }
        Ok(())
    }

    /// Grants pages until `count` are free, as far as there are any.
    fn grow(&mut self, count: usize, (hypervisor, peer): (&H, DomainId)) {
        while self.free.len() < count && self.pages.len() < RING_SLOTS {
            // All of them may be free at a time.
            let more = self.pages.len() + 1 - self.free.len();
            if self.free.try_reserve(more).is_err() || self.pages.try_reserve(1).is_err() {
                return;
            }
            let Ok(page) = hypervisor.share_page(peer, Access::ReadOnly) else {
                return;
            };
            self.free.push(self.pages.len() as u16);
            self.pages.push(page);
        }
    }

    /// Puts a frame into the ring; there is room for it.
    fn queue(&mut self, frame: &[u8], plan: &Plan) {
        let last = frame.len().div_ceil(PAGE_SIZE) - 1;
        for (index, chunk) in frame.chunks(PAGE_SIZE).enumerate() {
            let Some(id) = self.free.pop() else {
                return;
            };
            let page = &self.pages[usize::from(id)];
            page.write(0, chunk);
            if let Some((at, value)) = plan.field
                && at / PAGE_SIZE == index
            {
                // The field lies at an even offset, so it does not straddle two pages.
                page.write(at % PAGE_SIZE, &value.to_be_bytes());
            }
            let first = index == 0;
            let mut flags = if first {
                plan.flags
            } else {
                TransmitFlags::empty()
            };
            flags.set(TransmitFlags::MORE_DATA, index != last);
            // The first slot tells the size of the whole; both fit, see `Plan::new`.
            let size = if first { frame.len() } else { chunk.len() };
            let request = TransmitRequest {
                grant: page.reference(),
                offset: 0,
                flags,
                id,
                size: size as u16,
            };
            if self.ring.push_request(&request).is_err() {
                self.free.push(id);
                return;
            }
            self.in_flight[usize::from(id)] = true;
            if let Some(descriptor) = plan.descriptor().filter(|_| first) {
                if self.ring.push_raw(&descriptor).is_err() {
                    return;
                }
                self.descriptors += 1;
            }
        }
    }
}
