//! What an interface counted and where it stands.

use xen_proto::xenbus::State;

/// Frames and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames handed on.
    pub frames: u64,
    /// Bytes in them, the Ethernet header included.
    pub bytes: u64,
}

/// Frames that came in and were not handed on, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveDrops {
    /// The TCP or UDP checksum was wrong, and nobody vouched for it.
    pub checksum: u64,
    /// The backend reported an error in place of data.
    pub error: u64,
    /// Shorter than an Ethernet header, or longer than any frame.
    pub size: u64,
    /// A packet to be segmented, which was not asked for.
    pub segmentation: u64,
}

/// Frames that were given to send and did not reach the network, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitDrops {
    /// The link was down.
    pub link_down: u64,
    /// Shorter than an Ethernet header, or longer than the MTU allows.
    pub size: u64,
    /// No page was left to put the frame in.
    pub memory: u64,
    /// Slots that the backend answered with an error, or with "dropped".
    pub refused: u64,
}

/// Counters of an interface since it was made; they survive reconnecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: Traffic,
    /// Frames put into the ring.
    pub transmitted: Traffic,
    /// Received frames that were dropped.
    pub receive_drops: ReceiveDrops,
    /// Frames to send that were dropped.
    pub transmit_drops: TransmitDrops,
    /// Frames whose TCP or UDP checksum the driver verified itself.
    pub verified: u64,
    /// Frames that came with a blank checksum, for which the backend vouches.
    pub blank: u64,
    /// Times the queue was full.
    pub queue_full: u64,
    /// Events from the backend.
    pub events: u64,
    /// Events that announced nothing.
    pub spurious_events: u64,
    /// Events sent to the backend.
    pub notifications: u64,
    /// Connections made.
    pub connections: u32,
    /// Connections that ended because the backend broke the protocol.
    pub broken: u32,
    /// Attempts to connect that failed or timed out.
    pub failed_attempts: u32,
}

/// A picture of an interface at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// What was counted so far.
    pub counters: Counters,
    /// State that the frontend last wrote.
    pub frontend: State,
    /// State that the backend last showed.
    pub backend: State,
    /// Whether frames can flow.
    pub link_is_up: bool,
    /// Pages granted for receiving.
    pub receive_pages: usize,
    /// Pages granted for transmitting.
    pub transmit_pages: usize,
}
