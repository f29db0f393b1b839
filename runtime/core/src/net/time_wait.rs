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
    connections: Demultiplexer<Ended>,
    /// In the order in which they expire; some may have been removed since.
    expiry: VecDeque<(Instant, Flow)>,
}

#[derive(Clone, Copy)]
struct Ended {
    last: Segment,
    until: Instant,
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
        if self.expiry.len() >= MOST {
            self.forget_oldest();
        }
        let until = now + LIFETIME;
        if self.expiry.try_reserve(1).is_ok()
            && self.connections.insert(flow, Ended { last, until })
        {
            self.expiry.push_back((until, flow));
        }
    }

    /// What the connection sent last, if it is remembered.
    pub(super) fn find(&mut self, now: Instant, flow: &Flow) -> Option<Segment> {
        self.expire(now);
        self.connections.find(flow).map(|ended| ended.last)
    }

    /// A new connection takes the place of an old one.
    pub(super) fn remove(&mut self, flow: &Flow) {
        self.connections.remove(flow);
    }

    fn expire(&mut self, now: Instant) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, flow)) = self.expiry.pop_front()
            && self
                .connections
                .find(&flow)
                .is_some_and(|ended| ended.until == at)
        {
            self.connections.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::net::frame::Endpoint;

    const LAST: Segment = Segment {
        next_sequence: 7,
        acknowledgement: 8,
    };

    fn at(seconds: u64) -> Instant {
        Instant::since_boot(Duration::from_secs(seconds))
    }

    fn flow(number: u32) -> Flow {
        let endpoint = |address: u32, port| Endpoint {
            address: Ipv4Addr::from_bits(address).into(),
            port,
        };
        Flow {
            local: endpoint(1, 80),
            peer: endpoint(number, 5000),
        }
    }

    /// Hash keys come from the generator of a runtime.
    fn in_runtime(test: impl FnOnce()) {
        struct Nothing;
        impl crate::platform::Platform for Nothing {
            fn now(&self) -> Duration {
                Duration::ZERO
            }
            fn wall_clock(&self) -> Option<Duration> {
                None
            }
            fn dispatch_events(&self) -> bool {
                false
            }
            fn idle(&self, _deadline: Option<Duration>) {}
            fn entropy(&self, _seed: &mut [u8; 32]) -> Result<(), crate::platform::NoEntropy> {
                Err(crate::platform::NoEntropy)
            }
        }
        crate::executor::run(&Nothing, async { test() });
    }

    #[test]
    fn remembered_for_a_while() {
        in_runtime(|| {
            let mut ended = TimeWait::new();
            ended.insert(at(0), flow(1), LAST);
            ended.insert(at(5), flow(2), LAST);
            assert_eq!(ended.find(at(9), &flow(1)), Some(LAST));
            assert_eq!(ended.find(at(10), &flow(1)), None);
            assert_eq!(ended.find(at(10), &flow(2)), Some(LAST));
            ended.remove(&flow(2));
            assert_eq!(ended.find(at(10), &flow(2)), None);
        });
    }

    #[test]
    fn one_that_ended_again_stays_its_own_time() {
        in_runtime(|| {
            let mut ended = TimeWait::new();
            ended.insert(at(0), flow(1), LAST);
            ended.remove(&flow(1));
            ended.insert(at(5), flow(1), LAST);
            assert_eq!(ended.find(at(12), &flow(1)), Some(LAST));
            assert_eq!(ended.find(at(15), &flow(1)), None);
        });
    }

    #[test]
    fn the_oldest_give_way() {
        in_runtime(|| {
            let mut ended = TimeWait::new();
            for number in 0..2 * MOST as u32 {
                ended.insert(at(0), flow(number), LAST);
            }
            assert_eq!(ended.connections.len(), MOST);
            assert_eq!(ended.expiry.len(), MOST);
            assert_eq!(ended.find(at(0), &flow(0)), None);
            assert_eq!(ended.find(at(0), &flow(2 * MOST as u32 - 1)), Some(LAST));
        });
    }
}
