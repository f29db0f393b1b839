//! What an interface counted and where it stands.

use core::fmt;

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
    /// Said to be several segments of TCP, and not one whole packet of that.
    pub segmentation: u64,
    /// There was no memory to put the frame in.
    pub memory: u64,
}

/// Frames that were given to send and did not reach the network, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitDrops {
    /// The link was down.
    pub link_down: u64,
    /// Shorter than an Ethernet header, or longer than the MTU allows.
    pub size: u64,
    /// To be cut into segments, which the backend cannot, or cannot with this packet.
    pub segmentation: u64,
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
    /// Frames received that are several segments of TCP.
    pub received_segmented: u64,
    /// Frames sent that the backend was to cut into segments of TCP.
    pub transmitted_segmented: u64,
    /// Times the queue was full.
    pub queue_full: u64,
    /// Events from the backend.
    pub events: u64,
    /// Those among the events that can only have been for the transmit ring: with one event
    /// channel for both, none.
    pub transmit_events: u64,
    /// Events after which nothing was found that had not been seen before.
    pub spurious_events: u64,
    /// Events sent to the backend.
    pub notifications: u64,
    /// Those among the notifications that told of pages to receive into.
    pub refill_notifications: u64,
    /// Connections made.
    pub connections: u32,
    /// Connections that ended because the backend broke the protocol.
    pub broken: u32,
    /// Attempts to connect that failed or timed out.
    pub failed_attempts: u32,
}

impl ReceiveDrops {
    fn total(&self) -> u64 {
        self.checksum + self.error + self.size + self.segmentation + self.memory
    }
}

impl TransmitDrops {
    /// Those that the link being down does not explain.
    fn while_up(&self) -> u64 {
        self.size + self.segmentation + self.memory + self.refused
    }
}

/// One line for people, of what tells how well frames flow.
impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "received {} frames ({} segmented, {} dropped) {} bytes, \
             transmitted {} frames ({} segmented, {} dropped) {} bytes, \
             {} events ({} spurious), {} notifications ({} of pages), {} times full, {} frames while down",
            self.received.frames,
            self.received_segmented,
            self.receive_drops.total(),
            self.received.bytes,
            self.transmitted.frames,
            self.transmitted_segmented,
            self.transmit_drops.while_up(),
            self.transmitted.bytes,
            self.events,
            self.spurious_events,
            self.notifications,
            self.refill_notifications,
            self.queue_full,
            self.transmit_drops.link_down,
        )
    }
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
