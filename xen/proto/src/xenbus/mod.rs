//! The handshake by which a frontend and a backend come together and part
//! (`xen/include/public/io/xenbus.h`).
//!
//! Each end has a node in xenstore that says its [`State`]. [`Frontend`] decides what a
//! frontend does next, for a whole life and any number of reconnects, without I/O;
//! [`Device`] and [`Follower`] are the I/O.

mod device;
mod frontend;
mod nonsense;
#[cfg(test)]
mod tests;

use core::fmt;

pub use self::device::{Device, Follower};
pub use self::frontend::{Action, Frontend, Observation, Phase};

/// What one end says about itself (`enum xenbus_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum State {
    /// There is no such end, or its state makes no sense.
    #[default]
    Unknown = 0,
    /// Starting.
    Initialising = 1,
    /// Ready to be told the details by the other end.
    InitWait = 2,
    /// Details are there; waiting for the other end to connect.
    Initialised = 3,
    /// In use.
    Connected = 4,
    /// Going away, because of an error or because someone asked for it.
    Closing = 5,
    /// Gone; may come back.
    Closed = 6,
    /// Being changed while in use.
    Reconfiguring = 7,
    /// Was changed.
    Reconfigured = 8,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// The state that a node's value names: a decimal number 0 to 8.
    pub fn parse(text: &str) -> Option<Self> {
        let &[digit @ b'0'..=b'8'] = text.as_bytes() else {
            return None;
        };
        Some(Self::ALL[usize::from(digit - b'0')])
    }

    /// The value to write into a node.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "0",
            Self::Initialising => "1",
            Self::InitWait => "2",
            Self::Initialised => "3",
            Self::Connected => "4",
            Self::Closing => "5",
            Self::Closed => "6",
            Self::Reconfiguring => "7",
            Self::Reconfigured => "8",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
