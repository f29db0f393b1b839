//! The frontend's end: puts requests, takes responses.

use core::marker::PhantomData;

use super::{
    REQUESTS, RESPONSES, RingError, RingFull, RingIndex, SLOTS_OFFSET, SharedRing, Slot, word,
};
use crate::hypervisor::SharedPage;

/// The frontend's end of a ring over a page of its own.
///
/// All positions that decide anything are kept privately; from the page only the peer's
/// producer index (checked), its event word (used for notifying alone) and response slots are
/// read.
///
/// A request takes its slot until the response to it is popped.
pub struct FrontRing<P, Request, Response> {
    shared: SharedRing<P>,
    /// Next request to write.
    request_producer: RingIndex,
    /// Requests before this are visible to the peer.
    published: RingIndex,
    /// Next response to read.
    response_consumer: RingIndex,
    /// The peer's producer index when last read, already checked.
    response_producer: RingIndex,
    messages: PhantomData<fn(Request) -> Response>,
}

impl<P: SharedPage, Request: Slot, Response: Slot> FrontRing<P, Request, Response> {
    /// Makes an empty ring in `page`, with slots of `slot_size` bytes: the size of the larger
    /// of the protocol's request and response.
    ///
    /// # Panics
    /// If `slot_size` is not a multiple of 4 in `4..=128`, or too small for a message.
    pub fn new(page: P, slot_size: usize) -> Self {
        Self::starting_at(page, slot_size, RingIndex::ZERO)
    }

    /// Like [`new`](Self::new), with all positions starting at `start`: lets tests begin close
    /// to the wrap. Backends that attach to a ring find the start in its words.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn starting_at(page: P, slot_size: usize, start: RingIndex) -> Self {
        assert!(Request::SIZE <= slot_size && Response::SIZE <= slot_size);
        let shared = SharedRing::new(page, slot_size);
        shared.page.write(0, &[0; SLOTS_OFFSET]);
        shared.page.store(word::REQUEST_PRODUCER, start.value());
        shared.page.store(word::RESPONSE_PRODUCER, start.value());
        let event = start.advanced(1).value();
        shared.page.store(word::REQUEST_EVENT, event);
        shared.page.store(word::RESPONSE_EVENT, event);
        Self {
            shared,
            request_producer: start,
            published: start,
            response_consumer: start,
            response_producer: start,
            messages: PhantomData,
        }
    }

    /// The page under the ring.
    pub fn page(&self) -> &P {
        &self.shared.page
    }

    /// Slots in the ring.
    pub fn capacity(&self) -> u32 {
        self.shared.slots
    }

    /// How many requests may be pushed now.
    pub fn free_requests(&self) -> u32 {
        self.shared.slots - self.in_use()
    }

    /// Slots that hold a request, or a response not yet popped.
    pub fn in_use(&self) -> u32 {
        self.request_producer.distance_from(self.response_consumer)
    }

    /// Position that the next pushed request will have.
    pub fn next_request(&self) -> RingIndex {
        self.request_producer
    }

    /// Position that the next popped response will have.
    pub fn next_response(&self) -> RingIndex {
        self.response_consumer
    }

    /// Writes a request into the next slot and returns its position. The peer does not see it
    /// before [`publish_requests`](Self::publish_requests).
    ///
    /// # Errors
    /// [`RingFull`] if there is no free slot.
    pub fn push_request(&mut self, request: &Request) -> Result<RingIndex, RingFull> {
        let at = self.claim_slot()?;
        self.shared.encode_slot(at, request);
        Ok(at)
    }

    /// Like [`push_request`](Self::push_request) for descriptors of another shape that take a
    /// request's slot, such as the network's extra info.
    ///
    /// # Errors
    /// [`RingFull`] if there is no free slot.
    ///
    /// # Panics
    /// If `bytes` is longer than a slot.
    pub fn push_raw(&mut self, bytes: &[u8]) -> Result<RingIndex, RingFull> {
        let at = self.claim_slot()?;
        self.shared.write_slot(at, bytes);
        Ok(at)
    }

    /// Makes all pushed requests visible. True if the peer asked for an event: notify it.
    #[must_use = "true means that the peer waits for an event"]
    pub fn publish_requests(&mut self) -> bool {
        let old = self.published;
        self.published = self.request_producer;
        self.shared.publish(REQUESTS, old, self.published)
    }

    /// Takes the next response, if there is one.
    ///
    /// # Errors
    /// [`RingError`] if the peer claims responses to requests that were never published.
    pub fn pop_response(&mut self) -> Result<Option<Response>, RingError> {
        let at = self.take_response()?;
        Ok(at.map(|at| self.shared.decode_slot(at)))
    }

    /// Like [`pop_response`](Self::pop_response), copying the first `into.len()` bytes of the
    /// slot: for descriptors that take a response's slot. False if there is no response.
    ///
    /// # Errors
    /// As [`pop_response`](Self::pop_response).
    ///
    /// # Panics
    /// If `into` is longer than a slot.
    pub fn pop_raw(&mut self, into: &mut [u8]) -> Result<bool, RingError> {
        let at = self.take_response()?;
        if let Some(at) = at {
            self.shared.read_slot(at, into);
        }
        Ok(at.is_some())
    }

    /// How many responses can be popped now.
    ///
    /// # Errors
    /// As [`pop_response`](Self::pop_response).
    pub fn waiting_responses(&mut self) -> Result<u32, RingError> {
        let possible = self.published.distance_from(self.response_consumer);
        self.response_producer =
            self.shared
                .checked_producer(RESPONSES, self.response_consumer, possible)?;
        Ok(self.response_producer.distance_from(self.response_consumer))
    }

    /// Asks for an event with the next response and looks once more. True if there is work
    /// already: pop again before waiting, the event may not come.
    #[must_use = "true means that no event may come"]
    pub fn final_check_for_responses(&mut self) -> bool {
        self.final_check_for_responses_after(1)
    }

    /// Like [`final_check_for_responses`](Self::final_check_for_responses), but the event is
    /// to come with the `count`th next response. Without any final check the peer sends no
    /// further event.
    #[must_use = "true means that no event may come"]
    pub fn final_check_for_responses_after(&mut self, count: u32) -> bool {
        self.shared
            .final_check(RESPONSES, self.response_consumer, count)
    }

    fn claim_slot(&mut self) -> Result<RingIndex, RingFull> {
        if self.free_requests() == 0 {
            return Err(RingFull);
        }
        let at = self.request_producer;
        self.request_producer = at.advanced(1);
        Ok(at)
    }

    fn take_response(&mut self) -> Result<Option<RingIndex>, RingError> {
        let at = self.response_consumer;
        if at == self.response_producer && self.waiting_responses()? == 0 {
            return Ok(None);
        }
        self.response_consumer = at.advanced(1);
        Ok(Some(at))
    }
}
