//! Connections that have ended on both sides, remembered for a while (RFC 9293, section 3.6.1).
//!
//! smoltcp keeps the whole socket with its buffers in TIME-WAIT. A server that closes first, as
//! HTTP servers do, would hold thousands of them; here only the two numbers stay which a late
//! copy of the peer's FIN has to be answered with.

use alloc::collections::VecDeque;

use super::demultiplex::Demultiplexer;
use super::frame::Flow;
use super::port::Segment;
use crate::time::{Duration, Instant};

/// Short against the four minutes of the RFC, as in smoltcp: random initial sequence numbers
/// and ports make it unlikely that a late segment fits a new connection.
const LIFETIME: Duration = Duration::from_secs(10);

/// Beyond this many the oldest is forgotten: its peer's late FIN is then answered with a reset.
const MOST: usize = 4096;

/// The ended connections of an interface.
pub(super) struct TimeWait {
    connections: Demultiplexer<Segment>,
    /// In the order in which they expire.
    expiry: VecDeque<(Instant, Flow)>,
}

impl TimeWait {
    pub(super) fn new() -> Self {
        Self {
            connections: Demultiplexer::new(),
            expiry: VecDeque::new(),
        }
    }

    /// Remembers a connection by the last segment it sent.
    pub(super) fn insert(&mut self, now: Instant, flow: Flow, last: Segment) {
        self.expire(now);
        if self.expiry.len() >= MOST
            && let Some((_, oldest)) = self.expiry.pop_front()
        {
            self.connections.remove(&oldest);
        }
        if self.expiry.try_reserve(1).is_ok() && self.connections.insert(flow, last) {
            self.expiry.push_back((now + LIFETIME, flow));
        }
    }

    /// What the connection sent last, if it is remembered.
    pub(super) fn find(&mut self, now: Instant, flow: &Flow) -> Option<Segment> {
        self.expire(now);
        self.connections.find(flow)
    }

    /// A new connection takes the place of an old one.
    pub(super) fn remove(&mut self, flow: &Flow) {
        if self.connections.remove(flow).is_some() {
            self.expiry.retain(|(_, other)| other != flow);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, flow)) = self.expiry.front()
            && *at <= now
        {
            self.connections.remove(flow);
            self.expiry.pop_front();
        }
    }
}
