//! The frontend's machine: every state, and any interleaving with a backend that behaves as
//! Linux's `xen-netback` does.

use alloc::vec::Vec;

use proptest::prelude::*;

use crate::fake::Random;
use crate::xenbus::{Action, Frontend, Observation, Phase, State};

#[test]
fn only_single_digits_are_states() {
    for text in [
        "", "-1", "9", "999", "04", " 4", "4 ", "4\n", "+4", "４", "four",
    ] {
        assert_eq!(State::parse(text), None, "{text:?}");
    }
    assert_eq!(State::parse("7"), Some(State::Reconfiguring));
}

/// All observations there are.
fn observations() -> Vec<Observation> {
    let mut all = Vec::new();
    for present in [false, true] {
        for backend in State::ALL {
            for online in [false, true] {
                all.push(Observation {
                    present,
                    backend,
                    online,
                });
            }
        }
    }
    all
}

/// Machines in every phase that observations lead to.
fn machines() -> Vec<Frontend> {
    let mut known: Vec<Frontend> = Vec::from([Frontend::new()]);
    let mut next = 0;
    while next < known.len() {
        for seen in observations() {
            let mut machine = known[next].clone();
            machine.step(&seen);
            if known.iter().all(|other| other.phase() != machine.phase()) {
                known.push(machine);
            }
        }
        next += 1;
    }
    known
}

#[test]
fn every_phase_is_reached() {
    assert_eq!(machines().len(), 5);
}

#[test]
fn the_machine_comes_to_rest_while_the_world_stands_still() {
    for machine in machines() {
        for seen in observations() {
            let mut machine = machine.clone();
            let steps = (0..10).take_while(|_| machine.step(&seen) != Action::Wait);
            assert!(steps.count() <= 4, "{machine:?} {seen:?}");
        }
    }
}

#[test]
fn a_device_that_is_gone_is_released_once_and_never_written() {
    for mut machine in machines() {
        let before = machine.phase();
        let gone = Observation {
            present: false,
            backend: State::Connected,
            online: true,
        };
        let action = machine.step(&gone);
        let expected = match before {
            Phase::Absent => Action::Wait,
            _ => Action::Release,
        };
        assert_eq!(action, expected);
        assert_eq!(machine.phase(), Phase::Absent);
        assert_eq!(machine.fail(), Action::Wait, "nothing is written");
    }
}

#[test]
fn data_flows_only_while_both_ends_are_connected() {
    for machine in machines() {
        for seen in observations() {
            let mut machine = machine.clone();
            machine.step(&seen);
            let connected = matches!(
                seen.backend,
                State::Connected | State::Reconfiguring | State::Reconfigured
            );
            if machine.phase() == Phase::Running {
                assert!(seen.present && connected, "{seen:?}");
            }
        }
    }
}

#[test]
fn a_closed_backend_that_is_to_go_is_left_alone() {
    let mut machine = Frontend::new();
    let seen = |backend, online| Observation {
        present: true,
        backend,
        online,
    };
    assert_eq!(machine.step(&seen(State::InitWait, true)), Action::Begin);
    assert_eq!(machine.step(&seen(State::InitWait, true)), Action::Publish);
    assert_eq!(machine.step(&seen(State::Connected, true)), Action::Start);
    assert_eq!(machine.step(&seen(State::Closing, false)), Action::Close);
    assert_eq!(machine.step(&seen(State::Closed, false)), Action::Wait);
    assert_eq!(
        machine.step(&seen(State::Closed, true)),
        Action::Restart { acknowledged: true }
    );
}

/// Both ends, the nodes between them, and what each believes of the rings.
struct World {
    random: Random,
    frontend: Frontend,
    /// Which setting up of ours the rings are from; 0 while there are none.
    rings: u32,
    setups: u32,
    our_node: State,
    backend: State,
    backend_alive: bool,
    /// Whether our node has changed since the backend last read it.
    backend_notified: bool,
    /// What it read there and has not acted on, and which rings our other nodes named then.
    backend_noticed: Option<(State, u32)>,
    /// Which rings the backend has mapped.
    mapped: u32,
    online: bool,
    present: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            frontend: Frontend::new(),
            rings: 0,
            setups: 0,
            our_node: State::Initialising,
            backend: State::Initialising,
            backend_alive: true,
            backend_notified: true,
            backend_noticed: None,
            mapped: 0,
            online: true,
            present: true,
        }
    }

    fn frontend_runs(&mut self) -> Action {
        let seen = Observation {
            present: self.present,
            backend: self.backend,
            online: self.online,
        };
        // This backend closes as soon as it knows that we have.
        let unacknowledged = Action::Restart {
            acknowledged: false,
        };
        if self.frontend.peek(&seen) == unacknowledged {
            return Action::Wait;
        }
        let action = self.frontend.step(&seen);
        self.perform(action);
        action
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Wait => {}
            Action::Start => assert_ne!(self.rings, 0, "nothing to start"),
            Action::Begin | Action::Restart { .. } => {
                assert_eq!(self.rings, 0, "rings were not taken back");
                self.write(State::Initialising);
            }
            Action::Publish => {
                assert_eq!(self.rings, 0, "rings were not taken back");
                self.setups += 1;
                self.rings = self.setups;
                self.write(State::Connected);
            }
            Action::Close => {
                self.rings = 0;
                self.write(State::Closed);
            }
            Action::Release => self.rings = 0,
        }
    }

    fn write(&mut self, state: State) {
        self.our_node = state;
        self.backend_notified = true;
    }

    /// Linux's drivers/net/xen-netback/xenbus.c, in effect: `frontend_changed` is given the state that stands in
    /// our node when a watch tells of it, and we may have changed it again before it acts on that.
    /// True if the backend did something.
    fn backend_runs(&mut self) -> bool {
        if !self.backend_alive {
            return false;
        }
        if self.backend == State::Initialising {
            self.backend = State::InitWait;
            return true;
        }
        if let Some((ours, rings)) = self.backend_noticed.take() {
            self.backend_acts_on(ours, rings);
            return true;
        }
        if self.backend_notified {
            self.backend_notified = false;
            self.backend_noticed = Some((self.our_node, self.rings));
            return true;
        }
        false
    }

    fn backend_acts_on(&mut self, ours: State, rings: u32) {
        match ours {
            State::Initialising if self.backend == State::Closed => self.backend = State::InitWait,
            State::Connected if self.backend != State::Connected && self.online => {
                // Connected all the same if these rings were taken back, and it could not map them.
                self.backend = State::Connected;
                self.mapped = if rings == self.rings { rings } else { 0 };
            }
            State::Closed => {
                self.backend = State::Closed;
                self.mapped = 0;
                if !self.online {
                    self.backend = State::Unknown;
                    self.backend_alive = false;
                }
            }
            _ => {}
        }
    }

    /// The backend's driver finds the device, as at its start.
    fn backend_starts(&mut self) {
        self.backend_alive = true;
        self.backend = State::Initialising;
        self.backend_notified = true;
        self.backend_noticed = None;
        self.mapped = 0;
    }

    fn disturb(&mut self) {
        match self.random.below(5) {
            // The driver domain dies: its nodes stay as they were, or go.
            0 => self.backend_alive = false,
            1 if !self.backend_alive => self.backend = State::Unknown,
            // It starts again.
            2 => self.backend_starts(),
            // It fails, and asks for the device to be closed. It has no reason to once we have.
            3 if self.our_node != State::Closed => self.backend = State::Closing,
            // We find the backend breaking the protocol.
            _ => {
                let action = self.frontend.fail();
                self.perform(action);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// After any disturbance, the two ends find together again, on the same rings.
    #[test]
    fn both_ends_find_together_again(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..60 {
            match world.random.below(8) {
                0 => world.disturb(),
                1..=4 => { world.frontend_runs(); }
                _ => { world.backend_runs(); }
            }
        }
        // The disturbances end; a backend that died is started again.
        if !world.backend_alive {
            world.backend_starts();
        }
        for _ in 0..100 {
            let moved = world.frontend_runs() != Action::Wait;
            if !world.backend_runs() && !moved {
                break;
            }
        }
        prop_assert_eq!(world.frontend.phase(), Phase::Running);
        prop_assert_eq!(world.backend, State::Connected);
        prop_assert_eq!(world.mapped, world.rings);
    }

    /// `xl network-detach` ends in silence, whatever went before.
    #[test]
    fn a_detached_device_ends_in_silence(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..40 {
            match world.random.below(8) {
                0 => world.disturb(),
                1..=4 => { world.frontend_runs(); }
                _ => { world.backend_runs(); }
            }
        }
        if world.backend_alive {
            world.online = false;
            world.backend = State::Closing;
        }
        for _ in 0..40 {
            world.frontend_runs();
            world.backend_runs();
        }
        world.present = false;
        let before = world.our_node;
        world.frontend_runs();
        prop_assert_eq!(world.frontend_runs(), Action::Wait);
        prop_assert_eq!(world.frontend.phase(), Phase::Absent);
        prop_assert_eq!(world.our_node, before, "nothing was written");
        prop_assert_eq!(world.rings, 0);
    }
}
