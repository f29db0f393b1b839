//! The transmit half: frames copied into granted pages, completions reaped.

use alloc::rc::Rc;
use alloc::vec::Vec;

use xen_proto::hypervisor::{Access, DomainId, GrantedPage, Hypervisor, PAGE_SIZE, SharedPage};
use xen_proto::ring::{FrontRing, RingIndex};

use crate::checksum::{IpVersion, Segment};
use crate::misbehaviour::Misbehaviour;
use crate::settings::{ETHERNET_HEADER, Settings};
use crate::statistics::Counters;
use crate::wire::{
    MAXIMUM_PACKET_BYTES, RING_SLOTS, TRANSMIT_SLOT_BYTES, TransmitFlags, TransmitRequest,
    TransmitResponse, TransmitStatus,
};

/// Pages to begin with: as many as the largest frame takes.
pub(crate) const INITIAL_PAGES: usize = MAXIMUM_PACKET_BYTES.div_ceil(PAGE_SIZE);

/// The transmit ring and its pages, which grow in number when none is free and are reused: a
/// page's index is its id on the wire.
///
/// A page is either in `free` or in flight, never both: a response for a page that is not in
/// flight is the backend's misbehaviour.
pub(crate) struct TransmitQueue<H: Hypervisor> {
    ring: FrontRing<Rc<H::Page>, TransmitRequest, TransmitResponse>,
    pages: Vec<H::Page>,
    in_flight: [bool; RING_SLOTS],
    free: Vec<u16>,
    /// Slots of a frame that was refused: an event is due once it fits.
    refused: Option<usize>,
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

/// What to write into a frame's checksum field, and what to tell the backend.
struct ChecksumPlan {
    flags: TransmitFlags,
    /// Byte offset of the field in the frame, and its new value.
    field: Option<(usize, u16)>,
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
            refused: None,
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
        device_completes_checksum: bool,
        settings: &Settings,
        grants: (&H, DomainId),
        counters: &mut Counters,
    ) -> Result<Outcome, Misbehaviour> {
        let largest = (settings.mtu + ETHERNET_HEADER).min(MAXIMUM_PACKET_BYTES);
        if frame.len() < ETHERNET_HEADER || frame.len() > largest {
            counters.transmit_drops.size += 1;
            return Ok(Outcome::Dropped);
        }
        let slots = frame.len().div_ceil(PAGE_SIZE);
        if !self.has_room(slots) {
            self.reap(counters)?;
            self.grow(slots, grants);
        }
        if !self.has_room(slots) {
            if self.pages.len() < slots {
                // Completions would not help: there are too few pages altogether.
                counters.transmit_drops.memory += 1;
                return Ok(Outcome::Dropped);
            }
            self.refused = Some(slots);
            return Ok(Outcome::Full);
        }
        let plan = if device_completes_checksum {
            ChecksumPlan::for_device(frame, settings)
        } else {
            ChecksumPlan::complete()
        };
        self.queue(frame, &plan);
        counters.transmitted.frames += 1;
        counters.transmitted.bytes += frame.len() as u64;
        Ok(Outcome::Queued)
    }

    /// Shows the backend everything queued. True if it asked for an event.
    pub(crate) fn publish(&mut self) -> bool {
        self.ring.publish_requests()
    }

    /// Whether a frame was refused that fits now. If one was refused that does not, arranges
    /// for an event once a good part of what is in flight completed.
    pub(crate) fn room_appeared(&mut self, counters: &mut Counters) -> Result<bool, Misbehaviour> {
        let Some(slots) = self.refused else {
            return Ok(false);
        };
        loop {
            if !self.has_room(slots) {
                self.reap(counters)?;
            }
            if self.has_room(slots) {
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

    fn has_room(&self, slots: usize) -> bool {
        self.free.len() >= slots && self.ring.free_requests() as usize >= slots
    }

    /// Takes back every page that the backend is done with: the only place that does.
    fn reap(&mut self, counters: &mut Counters) -> Result<(), Misbehaviour> {
        while let Some(response) = self
            .ring
            .pop_response()
            .map_err(Misbehaviour::TransmitRing)?
        {
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
                // We send no extra info, to which alone "null" is an answer.
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

    /// Grants pages until `slots` are free, as far as there are any.
    fn grow(&mut self, slots: usize, (hypervisor, peer): (&H, DomainId)) {
        while self.free.len() < slots && self.pages.len() < RING_SLOTS {
            let Ok(page) = hypervisor.share_page(peer, Access::ReadOnly) else {
                return;
            };
            self.free.push(self.pages.len() as u16);
            self.pages.push(page);
        }
    }

    /// Puts a frame into the ring; there is room for it.
    fn queue(&mut self, frame: &[u8], plan: &ChecksumPlan) {
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
            // The first slot tells the size of the whole; both fit, see `transmit`.
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
        }
    }
}

impl ChecksumPlan {
    /// The frame has all its checksums.
    fn complete() -> Self {
        Self {
            flags: TransmitFlags::empty(),
            field: None,
        }
    }

    /// Leaves the checksum to the backend where it can complete it, else completes it here.
    fn for_device(frame: &[u8], settings: &Settings) -> Self {
        let Ok(segment) = Segment::locate(frame) else {
            return Self::complete();
        };
        let offered = match segment.ip_version {
            IpVersion::V4 => settings.checksum_ipv4,
            IpVersion::V6 => settings.checksum_ipv6,
        };
        // Backends sum from the transport header to the end of the frame: not if more follows.
        if offered && segment.range.end == frame.len() {
            return Self {
                flags: TransmitFlags::CHECKSUM_BLANK | TransmitFlags::DATA_VALIDATED,
                field: Some((segment.field, segment.pseudo_header_sum())),
            };
        }
        Self {
            flags: TransmitFlags::empty(),
            field: Some((segment.field, segment.checksum(frame))),
        }
    }
}
