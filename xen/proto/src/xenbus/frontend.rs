//! What a frontend does next.

use super::State;

/// What a frontend knows of the world outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Whether the device's own nodes exist. When they go, the device was taken away.
    pub present: bool,
    /// The backend's state; [`State::Unknown`] if there is no backend.
    pub backend: State,
    /// Whether the toolstack means the device to stay: the backend's `online` node. While it
    /// is not, a closed backend will not return.
    pub online: bool,
}

/// Where a frontend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The device is not there. Our state node does not exist.
    Absent,
    /// Nothing is published. Our state is `Initialising`.
    Initialising,
    /// Rings are published, the backend has not connected yet. Our state is `Connected`.
    Published,
    /// Both ends are connected: data may flow.
    Running,
    /// Everything is torn down. Our state is `Closed`.
    Closed,
}

/// What a frontend does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing, until something changes.
    Wait,
    /// The device has appeared: write state `Initialising`.
    Begin,
    /// Set up rings, write them and the features, then state `Connected`.
    Publish,
    /// The backend has connected: link up, data may flow.
    Start,
    /// Link down, stop using the rings, write state `Closed`, take the rings back.
    Close,
    /// Write state `Initialising`: lets a closed backend start again.
    Restart {
        /// Whether the backend has closed too. A backend that is ready without may have been started again,
        /// and be taking up rings that were just taken back: it would take the next ones for those. So the driver
        /// gives it time to close before it takes this step.
        acknowledged: bool,
    },
    /// The device was taken away: link down, take the rings back, write nothing. Writing would
    /// create the nodes again.
    Release,
}

/// A frontend's machine. It starts before the device was looked for.
///
/// The driver awaits observations, calls [`step`](Self::step) for each, and performs the
/// action; it calls `step` again until the action is [`Action::Wait`]. While it has awaited
/// nothing since, an observation may be used again.
#[derive(Clone, Debug)]
pub struct Frontend {
    phase: Phase,
}

impl Default for Frontend {
    fn default() -> Self {
        Self::new()
    }
}

impl Frontend {
    /// A frontend that has seen nothing yet.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Absent,
        }
    }

    /// Where the frontend stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What [`step`](Self::step) would return: for a driver that may put it off.
    pub fn peek(&self, seen: &Observation) -> Action {
        decide(self.phase, seen)
    }

    /// What to do now, taken as done.
    pub fn step(&mut self, seen: &Observation) -> Action {
        let action = self.peek(seen);
        self.phase = phase_after(self.phase, action);
        action
    }

    /// The driver could not go on: setting up failed, or the peer broke the device's protocol.
    /// Returns what to do now; afterwards the frontend connects again when the backend is ready
    /// for it. The driver should wait a little before, so that a hostile peer cannot keep it busy.
    pub fn fail(&mut self) -> Action {
        let action = match self.phase {
            Phase::Absent | Phase::Closed => Action::Wait,
            Phase::Initialising | Phase::Published | Phase::Running => Action::Close,
        };
        self.phase = phase_after(self.phase, action);
        action
    }
}

fn decide(phase: Phase, seen: &Observation) -> Action {
    if !seen.present {
        return match phase {
            Phase::Absent => Action::Wait,
            _ => Action::Release,
        };
    }
    match phase {
        Phase::Absent => Action::Begin,
        Phase::Initialising => match seen.backend {
            State::InitWait | State::Initialised => Action::Publish,
            // `Connected` is left from an earlier life of ours whose rings are gone: only a
            // full round makes the backend forget them.
            State::Connected | State::Closing | State::Reconfiguring | State::Reconfigured => {
                Action::Close
            }
            State::Unknown | State::Initialising | State::Closed => Action::Wait,
        },
        Phase::Published => match seen.backend {
            State::Connected | State::Reconfiguring | State::Reconfigured => Action::Start,
            State::Initialising | State::InitWait | State::Initialised => Action::Wait,
            State::Unknown | State::Closing | State::Closed => Action::Close,
        },
        Phase::Running => match seen.backend {
            State::Connected | State::Reconfiguring | State::Reconfigured => Action::Wait,
            // The early states mean that the backend died and was started again between two
            // looks of ours.
            State::Unknown
            | State::Initialising
            | State::InitWait
            | State::Initialised
            | State::Closing
            | State::Closed => Action::Close,
        },
        Phase::Closed => match seen.backend {
            State::Closed if seen.online => Action::Restart { acknowledged: true },
            State::Initialising | State::InitWait | State::Initialised => Action::Restart {
                acknowledged: false,
            },
            _ => Action::Wait,
        },
    }
}

const fn phase_after(phase: Phase, action: Action) -> Phase {
    match action {
        Action::Wait => phase,
        Action::Begin | Action::Restart { .. } => Phase::Initialising,
        Action::Publish => Phase::Published,
        Action::Start => Phase::Running,
        Action::Close => Phase::Closed,
        Action::Release => Phase::Absent,
    }
}
