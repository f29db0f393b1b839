//! What a backend can do wrong in the rings, each of which ends the connection.

use core::fmt;

use xen_proto::ring::RingError;

use crate::wire::ExtraInfoError;

/// The backend broke the protocol. The rings cannot be trusted any more: the device is
/// disabled until the backend has been through a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// The transmit ring's producer index is impossible.
    TransmitRing(RingError),
    /// The receive ring's producer index is impossible.
    ReceiveRing(RingError),
    /// A transmit response for a request that is not outstanding.
    TransmitId {
        /// The response's id.
        id: u16,
    },
    /// A transmit response with a status that does not exist, or not for this kind of request.
    TransmitStatus {
        /// The response's id.
        id: u16,
        /// The response's status.
        status: i16,
    },
    /// A receive response that does not answer the request of its slot.
    ReceiveId {
        /// The id of the request in that slot.
        expected: u16,
        /// The response's id.
        found: u16,
    },
    /// A receive response whose data does not lie within its page.
    ReceiveBounds {
        /// Where the data is said to start, in bytes.
        offset: u16,
        /// How many bytes it is said to have.
        length: u16,
    },
    /// A received packet of more slots than any packet has: perhaps one that never ends.
    EndlessPacket,
    /// More extra-info descriptors than there are kinds: perhaps a chain that never ends.
    EndlessExtraInfo,
    /// An extra-info descriptor that makes no sense.
    ExtraInfo(ExtraInfoError),
    /// A second descriptor of how to cut the same packet.
    RepeatedSegmentation,
    /// The old form of announcing segmentation, which was not asked for.
    SegmentationPrefix,
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TransmitRing(error) => write!(formatter, "transmit ring: {error}"),
            Self::ReceiveRing(error) => write!(formatter, "receive ring: {error}"),
            Self::TransmitId { id } => {
                write!(
                    formatter,
                    "transmit response with id {id}, which is not outstanding"
                )
            }
            Self::TransmitStatus { id, status } => {
                write!(
                    formatter,
                    "transmit response with id {id} has status {status}"
                )
            }
            Self::ReceiveId { expected, found } => write!(
                formatter,
                "receive response with id {found} in the slot of request {expected}"
            ),
            Self::ReceiveBounds { offset, length } => write!(
                formatter,
                "receive response with offset {offset} and length {length} leaves its page"
            ),
            Self::EndlessPacket => write!(formatter, "received packet of more than 18 slots"),
            Self::EndlessExtraInfo => {
                write!(
                    formatter,
                    "received packet with more than 5 extra-info slots"
                )
            }
            Self::ExtraInfo(error) => write!(formatter, "received packet has {error}"),
            Self::RepeatedSegmentation => {
                write!(formatter, "received packet is to be cut in two ways")
            }
            Self::SegmentationPrefix => {
                write!(
                    formatter,
                    "received packet announces segmentation by a prefix"
                )
            }
        }
    }
}

impl core::error::Error for Misbehaviour {}
