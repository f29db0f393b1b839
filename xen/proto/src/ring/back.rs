//! The backend's end: takes requests, puts responses. Tests play peers with it.

use core::marker::PhantomData;

use super::{REQUESTS, RESPONSES, RingError, RingFull, RingIndex, SharedRing, Slot, word};
use crate::hypervisor::SharedPage;

/// The backend's end of a ring in a page that the frontend granted.
pub struct BackRing<P, Request, Response> {
    shared: SharedRing<P>,
    /// Next request to read.
    request_consumer: RingIndex,
    /// The peer's producer index when last read, already checked.
    request_producer: RingIndex,
    /// Next response to write.
    response_producer: RingIndex,
    /// Responses before this are visible to the peer.
    published: RingIndex,
    messages: PhantomData<fn(Request) -> Response>,
}

impl<P: SharedPage, Request: Slot, Response: Slot> BackRing<P, Request, Response> {
    /// Attaches to the ring that a frontend made in `page`, whose slots have `slot_size` bytes.
    ///
    /// # Panics
    /// If `slot_size` is not a multiple of 4 in `4..=128`, or too small for a message.
    pub fn attach(page: P, slot_size: usize) -> Self {
        assert!(Request::SIZE <= slot_size && Response::SIZE <= slot_size);
        let shared = SharedRing::new(page, slot_size);
        let start = RingIndex::new(shared.page.load(word::RESPONSE_PRODUCER));
        Self {
            shared,
            request_consumer: start,
            request_producer: start,
            response_producer: start,
            published: start,
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

    /// Position that the next popped request will have.
    pub fn next_request(&self) -> RingIndex {
        self.request_consumer
    }

    /// Position that the next pushed response will have.
    pub fn next_response(&self) -> RingIndex {
        self.response_producer
    }

    /// How many requests can be popped now.
    ///
    /// # Errors
    /// [`RingError`] if the frontend claims more requests than there are slots.
    pub fn waiting_requests(&mut self) -> Result<u32, RingError> {
        let unanswered = self.request_consumer.distance_from(self.response_producer);
        self.request_producer = self.shared.checked_producer(
            REQUESTS,
            self.request_consumer,
            self.shared.slots - unanswered,
        )?;
        Ok(self.request_producer.distance_from(self.request_consumer))
    }

    /// Takes the next request, if there is one.
    ///
    /// # Errors
    /// As [`waiting_requests`](Self::waiting_requests).
    pub fn pop_request(&mut self) -> Result<Option<Request>, RingError> {
        let at = self.take_request()?;
        Ok(at.map(|at| self.shared.decode_slot(at)))
    }

    /// Like [`pop_request`](Self::pop_request), copying the first `into.len()` bytes of the
    /// slot. False if there is no request.
    ///
    /// # Errors
    /// As [`waiting_requests`](Self::waiting_requests).
    ///
    /// # Panics
    /// If `into` is longer than a slot.
    pub fn pop_raw(&mut self, into: &mut [u8]) -> Result<bool, RingError> {
        let at = self.take_request()?;
        if let Some(at) = at {
            self.shared.read_slot(at, into);
        }
        Ok(at.is_some())
    }

    /// Writes a response into the slot of the oldest unanswered request.
    ///
    /// # Errors
    /// [`RingFull`] if every request taken so far has its response.
    pub fn push_response(&mut self, response: &Response) -> Result<RingIndex, RingFull> {
        let at = self.claim_slot()?;
        self.shared.encode_slot(at, response);
        Ok(at)
    }

    /// Like [`push_response`](Self::push_response) for descriptors of another shape.
    ///
    /// # Errors
    /// As [`push_response`](Self::push_response).
    ///
    /// # Panics
    /// If `bytes` is longer than a slot.
    pub fn push_raw(&mut self, bytes: &[u8]) -> Result<RingIndex, RingFull> {
        let at = self.claim_slot()?;
        self.shared.write_slot(at, bytes);
        Ok(at)
    }

    /// Makes all pushed responses visible. True if the frontend asked for an event.
    #[must_use = "true means that the peer waits for an event"]
    pub fn publish_responses(&mut self) -> bool {
        let old = self.published;
        self.published = self.response_producer;
        self.shared.publish(RESPONSES, old, self.published)
    }

    /// Asks for an event with the next request and looks once more. True if there is work.
    #[must_use = "true means that no event may come"]
    pub fn final_check_for_requests(&mut self) -> bool {
        self.shared.final_check(REQUESTS, self.request_consumer, 1)
    }

    fn claim_slot(&mut self) -> Result<RingIndex, RingFull> {
        let at = self.response_producer;
        if at == self.request_consumer {
            return Err(RingFull);
        }
        self.response_producer = at.advanced(1);
        Ok(at)
    }

    fn take_request(&mut self) -> Result<Option<RingIndex>, RingError> {
        let at = self.request_consumer;
        if at == self.request_producer && self.waiting_requests()? == 0 {
            return Ok(None);
        }
        self.request_consumer = at.advanced(1);
        Ok(Some(at))
    }
}
