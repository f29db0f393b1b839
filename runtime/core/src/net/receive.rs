//! A received frame finds its socket.

use alloc::rc::Rc;

use super::announcements::{self, Claim};
use super::build;
use super::connection::{Connection, Stage};
use super::engine::{Engine, LONGEST_REASSEMBLED};
use super::frame::{Arrival, Class, Classified, classify};
use super::interface::Interface;
use super::listener::{Admission, Backlog};
use super::pages;
use crate::time::Instant;

/// Fragmented packets whose ports are remembered.
const MOST_FRAGMENTED: usize = 8;

impl Interface {
    /// Hands one frame to the socket it is for, or to nobody, and lets smoltcp answer it.
    pub(super) fn receive(&self, engine: &mut Engine, now: Instant, frame: &[u8]) {
        let Some(class) = self.class_of(engine, frame) else {
            engine.port.counters.dropped_receives += 1;
            return;
        };
        match class {
            Class::Tcp(arrival) => self.receive_segment(engine, now, frame, arrival),
            Class::Udp { flow } => {
                if !self
                    .addressing
                    .borrow_mut()
                    .receive(engine, now, frame, &flow)
                {
                    self.datagrams.receive(self, engine, now, frame, &flow);
                }
            }
            Class::Neighbour => {
                if let Some(claim) = announcements::claim(frame) {
                    self.examine_neighbour(engine, claim);
                }
                engine.receive(now, frame, None);
                self.schedule.borrow_mut().neighbour_spoke();
                self.datagrams.neighbour_spoke();
            }
            Class::RouterAdvertisement => {
                self.addressing
                    .borrow_mut()
                    .receive_advertisement(self, engine, now, frame);
            }
            Class::Other => engine.receive(now, frame, None),
        }
    }

    /// Looks at what a neighbour says about itself.
    fn examine_neighbour(&self, engine: &Engine, claim: Claim) {
        let mut silence = self.silence.borrow_mut();
        silence.heard(claim.address);
        let clash = self
            .addressing
            .borrow_mut()
            .examine_neighbour(&self.name, engine, claim);
        if let Some(clash) = clash {
            silence.clashes(clash);
        }
    }

    /// The class of a frame; for a fragment, that of the packet it belongs to. `None` for a fragment of a
    /// packet longer than those that are put together: smoltcp takes them, and memory for them, up to
    /// the 64 KiB that IP allows.
    fn class_of(&self, engine: &mut Engine, frame: &[u8]) -> Option<Class> {
        let Classified { class, fragment } = classify(frame);
        engine.expects_fragment = fragment.is_some();
        let Some(fragment) = fragment else {
            return Some(class);
        };
        if fragment.end > LONGEST_REASSEMBLED {
            return None;
        }
        let mut known = self.fragmented.borrow_mut();
        if fragment.is_first {
            known.retain(|(packet, _)| *packet != fragment.of);
            if known.len() >= MOST_FRAGMENTED {
                known.pop_front();
            }
            // Unknown, what follows goes to nobody.
            if known.try_reserve(1).is_ok() {
                known.push_back((fragment.of, class));
            }
            return Some(class);
        }
        let known = known
            .iter()
            .find(|(packet, _)| *packet == fragment.of)
            .map_or(class, |(_, class)| *class);
        Some(known)
    }

    fn receive_segment(&self, engine: &mut Engine, now: Instant, frame: &[u8], arrival: Arrival) {
        let Arrival { flow, opens, .. } = arrival;
        let connection = self.connections.borrow().find(&flow);
        if let Some(connection) = connection {
            if connection.is_beyond_first_window(&arrival) {
                return;
            }
            if connection.has_receive_pages && pages::room_for(arrival.payload) < arrival.payload {
                engine.port.counters.dropped_receives += 1;
                return;
            }
            connection.expect_segment(&arrival);
            self.receive_steps(engine, now, frame, &connection, &arrival);
            if let Some(closed) = connection.behind_closed_window(&arrival)
                && let Some(mut acknowledgement) = build::Acknowledgement::without_payload(
                    frame,
                    engine.port.vouches_for_checksums(),
                )
            {
                let frame = acknowledgement.at(closed);
                connection.with_sockets(|sockets| engine.receive(now, frame, Some(sockets)));
            }
            connection.with_sockets(|sockets| engine.receive(now, frame, Some(sockets)));
            connection.has_sent(&engine.port.observed);
            connection.take_note(now, Some(&arrival));
            self.advance(&connection, now);
            // What the segment made it want to say goes out once the device has no more frames.
            if connection.stage.get() != Stage::Gone {
                self.schedule.borrow_mut().make_ready(&connection);
            }
            return;
        }
        let ended = self.time_wait.borrow_mut().find(now, &flow);
        if opens && engine.has_address(flow.local.address) && engine.is_host(flow.peer.address) {
            let listener = self.stack.upgrade().and_then(|stack| stack.listener(&flow));
            if let Some(listener) = listener {
                self.open(engine, now, frame, &arrival, &listener);
                return;
            }
        }
        match ended {
            Some(last) => {
                if engine.has_address(flow.local.address)
                    && let Some(answer) = build::last_acknowledgement(frame, &flow, last)
                {
                    engine.port.send(&answer);
                }
            }
            // Nobody is there: smoltcp answers with a reset.
            None => engine.receive(now, frame, None),
        }
    }

    /// Hands smoltcp what a segment acknowledges in smaller steps first, if its connection is to
    /// grow by that.
    fn receive_steps(
        &self,
        engine: &mut Engine,
        now: Instant,
        frame: &[u8],
        connection: &Connection,
        arrival: &Arrival,
    ) {
        let Some(acknowledgement) = arrival
            .acknowledgement
            .filter(|_| connection.stage.get() == Stage::Open)
        else {
            return;
        };
        let size = connection.peer_segment.get();
        let mut steps = connection
            .growth
            .steps(acknowledgement, size.into())
            .peekable();
        if steps.peek().is_none() {
            return;
        }
        let is_verified = engine.port.vouches_for_checksums();
        let Some(mut step) = build::Acknowledgement::without_payload(frame, is_verified) else {
            return;
        };
        connection.with_sockets(|sockets| {
            for acknowledgement in steps {
                let frame = step.of(acknowledgement);
                engine.receive(now, frame, Some(&mut *sockets));
            }
        });
    }

    /// A SYN for a listener.
    fn open(
        &self,
        engine: &mut Engine,
        now: Instant,
        frame: &[u8],
        arrival: &Arrival,
        listener: &Rc<Backlog>,
    ) {
        let flow = arrival.flow;
        match listener.admit() {
            Admission::Full => {
                engine.port.counters.refused_connections += 1;
                return;
            }
            Admission::Instead(oldest) => withdraw(&oldest),
            Admission::Free => {}
        }
        let create = || {
            let stack = self.stack.upgrade()?;
            let interface = stack.interface(self.number)?;
            let backlog = Some(Rc::downgrade(listener));
            Connection::new(&stack, &interface, flow, &listener.options, backlog)
        };
        let connection = create().or_else(|| {
            // Memory, too, goes to who may complete the handshake rather than to who did not.
            withdraw(&listener.oldest_half_open()?);
            create()
        });
        let Some(connection) = connection else {
            engine.port.counters.refused_connections += 1;
            log::debug!(target: "net", "{}: no memory for a connection", self.name);
            return;
        };
        connection.peer_opens(arrival);
        let local = (flow.local.address, flow.local.port);
        if connection
            .with_socket(|socket| socket.listen(core::net::SocketAddr::from(local)))
            .is_err()
        {
            return;
        }
        let received = listener.reserve().and_then(|()| {
            connection.with_sockets(|sockets| engine.receive_syn(now, frame, sockets))
        });
        if received.is_err() {
            engine.port.counters.refused_connections += 1;
            return;
        }
        if connection.with_socket(|socket| socket.is_listening()) {
            // smoltcp saw something wrong with it, such as its checksum.
            return;
        }
        if !self
            .connections
            .borrow_mut()
            .insert(flow, connection.clone())
        {
            engine.port.counters.refused_connections += 1;
            return;
        }
        self.time_wait.borrow_mut().remove(&flow);
        connection.start_handshake_limit(now);
        listener.begin(now, &connection);
        self.schedule.borrow_mut().make_ready(&connection);
    }
}

/// Ends a connection whose handshake is not complete, without a word.
fn withdraw(connection: &Rc<Connection>) {
    if let Some(interface) = connection.interface.upgrade() {
        interface.remove(connection);
    }
}
