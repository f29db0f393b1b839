//! Watches whether an interface is heard, so that a silent network is explained once.

use core::net::{IpAddr, Ipv4Addr};

use super::diagnosis::{Answered, Clash, Diagnosis, Facts, Ipv4Facts, LinkFacts, diagnose};
use super::engine::Engine;
use super::{Counters, build};
use crate::time::{Duration, Instant};

/// How long a network may be silent before somebody looks closely: the gateway is asked for its
/// Ethernet address then.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long it may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What is seen of one interface since its link last changed.
pub(super) struct Silence {
    since: Instant,
    /// What was counted then.
    before: Counters,
    /// What was counted when somebody last looked closely.
    closely: Counters,
    gateway: Option<(Ipv4Addr, Answered)>,
    clash: Option<Clash>,
    /// When to look.
    at: Option<Instant>,
    /// Whether the gateway was asked because it was time to look.
    is_looking: bool,
}

impl Silence {
    /// Watches from now on, with the link down.
    pub(super) fn new(now: Instant) -> Self {
        Self::since(now, Counters::default())
    }

    fn since(now: Instant, counters: Counters) -> Self {
        Self {
            since: now,
            before: counters,
            closely: counters,
            gateway: None,
            clash: None,
            at: Some(now + PATIENCE),
            is_looking: false,
        }
    }

    /// The link came up or went down: whatever was seen was seen before. `is_present` tells whether there is
    /// a device at all.
    pub(super) fn link_changed(&mut self, now: Instant, counters: Counters, is_present: bool) {
        *self = Self::since(now, counters);
        if !is_present {
            self.at = None;
        }
    }

    /// A neighbour says that it has `address`.
    pub(super) fn heard(&mut self, address: IpAddr) {
        if let Some((gateway, answered)) = &mut self.gateway
            && IpAddr::V4(*gateway) == address
        {
            *answered = Answered::Yes;
        }
    }

    /// Somebody else has one of our addresses.
    pub(super) fn clashes(&mut self, clash: Clash) {
        self.clash.get_or_insert(clash);
    }

    /// Looks closely: asks the gateway, and takes from now on what is for us alone as a sign of life.
    pub(super) fn look(&mut self, engine: &mut Engine) {
        self.closely = engine.port.counters;
        let own = engine.addresses.iter().find_map(|own| match own.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        self.gateway = None;
        if let (Some(gateway), Some(own)) = (engine.gateways().0, own)
            && engine.port.device.link_is_up()
        {
            // Without memory it was not asked.
            if let Ok(question) = build::arp_request(engine.mac(), own, gateway) {
                engine.port.send(&question);
                self.gateway = Some((gateway, Answered::No));
            }
        }
    }

    /// Does what is to do now. What is wrong, and for how long, if it is to be said.
    pub(super) fn work(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        ipv4: Ipv4Facts,
    ) -> Option<(Diagnosis, Duration)> {
        if self.at.is_none_or(|at| at > now) {
            return None;
        }
        self.at = None;
        let is_heard = self.facts(engine, ipv4).received_for_us > 0 && ipv4 != Ipv4Facts::Asking;
        if !self.is_looking && is_heard {
            return None;
        }
        if !self.is_looking {
            self.is_looking = true;
            self.look(engine);
            self.at = Some(now + ANSWER_TIME);
            return None;
        }
        let diagnosis = self.diagnose(engine, ipv4);
        diagnosis
            .is_fault()
            .then(|| (diagnosis, now.duration_since(self.since)))
    }

    /// What is wrong, as far as is known now.
    pub(super) fn diagnose(&self, engine: &Engine, ipv4: Ipv4Facts) -> Diagnosis {
        diagnose(&self.facts(engine, ipv4))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.at
    }

    fn facts(&self, engine: &Engine, ipv4: Ipv4Facts) -> Facts {
        let device = &engine.port.device;
        let counters = &engine.port.counters;
        Facts {
            link: match device.link_is_up() {
                true => LinkFacts::Up,
                false => LinkFacts::Down {
                    because: device.explain_link(),
                },
            },
            ipv4,
            clash: self.clash,
            gateway: self.gateway,
            sent_frames: counters.sent_frames - self.before.sent_frames,
            received_frames: counters.received_frames - self.before.received_frames,
            received_for_us: counters.received_for_us - self.closely.received_for_us,
        }
    }
}
