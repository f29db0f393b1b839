//! What travels in the two rings, as bytes and as values (`xen/include/public/io/netif.h`).
//!
//! Flags mean different things in each direction, so they are different types. Lengths of
//! received data stay signed until they are checked. The tests hold all of it against
//! `xen_proto::vectors`, which Xen's own header made.

use core::fmt;
use core::num::NonZeroU16;

use xen_proto::hypervisor::GrantReference;
use xen_proto::ring::Slot;

use crate::checksum::IpVersion;
use crate::settings::ETHERNET_HEADER;

/// Bytes of one slot in the transmit ring (`union netif_tx_sring_entry`).
pub const TRANSMIT_SLOT_BYTES: usize = 12;

/// Bytes of one slot in the receive ring (`union netif_rx_sring_entry`).
pub const RECEIVE_SLOT_BYTES: usize = 8;

/// Slots in either ring: the largest power of two of either slot size that fits in a page.
pub const RING_SLOTS: usize = 256;

/// Slots a packet may take: what every backend accepts (`XEN_NETIF_NR_SLOTS_MIN`).
pub const MAXIMUM_SLOTS_PER_PACKET: usize = 18;

/// Largest packet a transmit request can name, in bytes (`XEN_NETIF_MAX_TX_SIZE`).
pub const MAXIMUM_TRANSMIT_BYTES: usize = 0xffff;

/// Largest packet there is, in bytes: IP's, with its Ethernet header. Backends send it, with
/// segments put together, though no transmit request could name it.
pub const MAXIMUM_RECEIVE_BYTES: usize = 0xffff + ETHERNET_HEADER;

bitflags::bitflags! {
    /// Flags of a transmit request (`NETTXF_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct TransmitFlags: u16 {
        /// The checksum field holds only the pseudo-header's sum: the backend completes it.
        const CHECKSUM_BLANK = 1 << 0;
        /// The data is known to be good, whatever the checksum field says.
        const DATA_VALIDATED = 1 << 1;
        /// The packet continues in the next request.
        const MORE_DATA = 1 << 2;
        /// The next slot holds an [`ExtraInfo`].
        const EXTRA_INFO = 1 << 3;
    }
}

bitflags::bitflags! {
    /// Flags of a receive response (`NETRXF_*`). The lowest two are swapped against
    /// [`TransmitFlags`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ReceiveFlags: u16 {
        /// The backend vouches for the data.
        const DATA_VALIDATED = 1 << 0;
        /// The checksum field holds only the pseudo-header's sum: nobody completed it.
        const CHECKSUM_BLANK = 1 << 1;
        /// The packet continues in the next response.
        const MORE_DATA = 1 << 2;
        /// The next slot holds an [`ExtraInfo`].
        const EXTRA_INFO = 1 << 3;
        /// This slot only announces segmentation: a form of before `EXTRA_INFO`.
        const SEGMENTATION_PREFIX = 1 << 4;
    }
}

/// One slot of a packet to send (`struct netif_tx_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitRequest {
    /// The page with the data.
    pub grant: GrantReference,
    /// Where in the page the data starts, in bytes.
    pub offset: u16,
    /// How to treat the packet, and what follows.
    pub flags: TransmitFlags,
    /// Echoed in the response.
    pub id: u16,
    /// Bytes of the whole packet in its first slot, of this fragment in the others.
    pub size: u16,
}

impl TransmitRequest {
    /// The bytes of the slot.
    pub fn to_bytes(self) -> [u8; TRANSMIT_SLOT_BYTES] {
        let mut bytes = [0; TRANSMIT_SLOT_BYTES];
        bytes[0..4].copy_from_slice(&self.grant.0.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.offset.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.bits().to_le_bytes());
        bytes[8..10].copy_from_slice(&self.id.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// Reads a slot; unknown flags are kept.
    pub fn from_bytes(bytes: &[u8; TRANSMIT_SLOT_BYTES]) -> Self {
        Self {
            grant: GrantReference(u32_at(bytes, 0)),
            offset: u16_at(bytes, 4),
            flags: TransmitFlags::from_bits_retain(u16_at(bytes, 6)),
            id: u16_at(bytes, 8),
            size: u16_at(bytes, 10),
        }
    }
}

/// What became of one slot of a packet that was sent (`NETIF_RSP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitStatus {
    /// The slot was consumed.
    Okay,
    /// The backend could not send the packet.
    Error,
    /// The backend chose not to send the packet.
    Dropped,
    /// The answer to an [`ExtraInfo`] slot, which has no id.
    Null,
    /// A value that the interface does not define.
    Unknown(i16),
}

impl TransmitStatus {
    /// Understands the number in the slot.
    pub fn from_number(number: i16) -> Self {
        match number {
            0 => Self::Okay,
            -1 => Self::Error,
            -2 => Self::Dropped,
            1 => Self::Null,
            other => Self::Unknown(other),
        }
    }

    /// The number in the slot.
    pub fn number(self) -> i16 {
        match self {
            Self::Okay => 0,
            Self::Error => -1,
            Self::Dropped => -2,
            Self::Null => 1,
            Self::Unknown(number) => number,
        }
    }
}

/// The backend is done with a transmit request (`struct netif_tx_response`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitResponse {
    /// The request's id.
    pub id: u16,
    /// What became of it.
    pub status: TransmitStatus,
}

impl TransmitResponse {
    /// The bytes of the slot.
    pub fn to_bytes(self) -> [u8; TRANSMIT_SLOT_BYTES] {
        let mut bytes = [0; TRANSMIT_SLOT_BYTES];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.status.number().to_le_bytes());
        bytes
    }

    /// Reads a slot.
    pub fn from_bytes(bytes: &[u8; TRANSMIT_SLOT_BYTES]) -> Self {
        Self {
            id: u16_at(bytes, 0),
            status: TransmitStatus::from_number(i16::from_le_bytes([bytes[2], bytes[3]])),
        }
    }
}

/// A page offered for received data (`struct netif_rx_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// Echoed in the response.
    pub id: u16,
    /// The page to fill.
    pub grant: GrantReference,
}

impl ReceiveRequest {
    /// The bytes of the slot.
    pub fn to_bytes(self) -> [u8; RECEIVE_SLOT_BYTES] {
        let mut bytes = [0; RECEIVE_SLOT_BYTES];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.grant.0.to_le_bytes());
        bytes
    }

    /// Reads a slot.
    pub fn from_bytes(bytes: &[u8; RECEIVE_SLOT_BYTES]) -> Self {
        Self {
            id: u16_at(bytes, 0),
            grant: GrantReference(u32_at(bytes, 4)),
        }
    }
}

/// One fragment of a received packet (`struct netif_rx_response`), nothing of it checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveResponse {
    /// The request's id.
    pub id: u16,
    /// Where in the page the data starts, in bytes.
    pub offset: u16,
    /// What is known about the data, and what follows.
    pub flags: ReceiveFlags,
    /// Bytes of this fragment, or an error when negative.
    pub status: i16,
}

impl ReceiveResponse {
    /// The bytes of the slot.
    pub fn to_bytes(self) -> [u8; RECEIVE_SLOT_BYTES] {
        let mut bytes = [0; RECEIVE_SLOT_BYTES];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.flags.bits().to_le_bytes());
        bytes[6..8].copy_from_slice(&self.status.to_le_bytes());
        bytes
    }

    /// Reads a slot; unknown flags are kept.
    pub fn from_bytes(bytes: &[u8; RECEIVE_SLOT_BYTES]) -> Self {
        Self {
            id: u16_at(bytes, 0),
            offset: u16_at(bytes, 2),
            flags: ReceiveFlags::from_bits_retain(u16_at(bytes, 4)),
            status: i16::from_le_bytes([bytes[6], bytes[7]]),
        }
    }
}

/// How a large packet is to be cut into segments of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The IP version below TCP (`XEN_NETIF_GSO_TYPE_*`).
    pub ip_version: IpVersion,
    /// Payload of each segment but the last, in bytes.
    pub segment_bytes: NonZeroU16,
}

/// What an [`ExtraInfo`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraKind {
    /// The packet is larger than a segment (`XEN_NETIF_EXTRA_TYPE_GSO`).
    Segmentation(Segmentation),
    /// Something we did not ask for and may ignore: a multicast list entry, a hash value, the
    /// room that Linux leaves for XDP. Holds the type number.
    Ignored(u8),
}

/// A descriptor that takes the place of a request or response (`struct netif_extra_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraInfo {
    /// What it says.
    pub kind: ExtraKind,
    /// Another one follows (`XEN_NETIF_EXTRA_FLAG_MORE`).
    pub more: bool,
}

impl ExtraInfo {
    /// Number of types that exist, the one that Linux added (`XEN_NETIF_EXTRA_TYPE_XDP`, 5)
    /// among them. A packet carries each at most once.
    pub const KINDS: usize = 5;

    /// Reads a slot of the receive ring, or the start of one of the transmit ring.
    ///
    /// # Errors
    /// [`ExtraInfoError`] for a descriptor that no conforming backend writes.
    pub fn from_bytes(bytes: &[u8; RECEIVE_SLOT_BYTES]) -> Result<Self, ExtraInfoError> {
        let kind = match bytes[0] {
            EXTRA_TYPE_SEGMENTATION => {
                let segment_bytes = u16_at(bytes, 2);
                let segment_bytes =
                    NonZeroU16::new(segment_bytes).ok_or(ExtraInfoError::SegmentSizeZero)?;
                let ip_version = match bytes[4] {
                    SEGMENTATION_TCP_IPV4 => IpVersion::V4,
                    SEGMENTATION_TCP_IPV6 => IpVersion::V6,
                    other => return Err(ExtraInfoError::UnknownSegmentation(other)),
                };
                ExtraKind::Segmentation(Segmentation {
                    ip_version,
                    segment_bytes,
                })
            }
            other @ 2..=5 => ExtraKind::Ignored(other),
            other => return Err(ExtraInfoError::UnknownType(other)),
        };
        Ok(Self {
            kind,
            more: bytes[1] & EXTRA_FLAG_MORE != 0,
        })
    }

    /// The bytes of a slot of the receive ring, and the first of one of the transmit ring; what an ignored type carries is zero.
    pub fn to_bytes(self) -> [u8; RECEIVE_SLOT_BYTES] {
        let mut bytes = [0; RECEIVE_SLOT_BYTES];
        match self.kind {
            ExtraKind::Segmentation(segmentation) => {
                bytes[0] = EXTRA_TYPE_SEGMENTATION;
                bytes[2..4].copy_from_slice(&segmentation.segment_bytes.get().to_le_bytes());
                bytes[4] = match segmentation.ip_version {
                    IpVersion::V4 => SEGMENTATION_TCP_IPV4,
                    IpVersion::V6 => SEGMENTATION_TCP_IPV6,
                };
            }
            ExtraKind::Ignored(number) => bytes[0] = number,
        }
        if self.more {
            bytes[1] = EXTRA_FLAG_MORE;
        }
        bytes
    }
}

const EXTRA_TYPE_SEGMENTATION: u8 = 1;
const EXTRA_FLAG_MORE: u8 = 1;
const SEGMENTATION_TCP_IPV4: u8 = 1;
const SEGMENTATION_TCP_IPV6: u8 = 2;

/// An extra-info descriptor that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraInfoError {
    /// The type is not one of `XEN_NETIF_EXTRA_TYPE_*`.
    UnknownType(u8),
    /// Segments of no bytes.
    SegmentSizeZero,
    /// The segmentation type is not one of `XEN_NETIF_GSO_TYPE_*`.
    UnknownSegmentation(u8),
}

impl fmt::Display for ExtraInfoError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(number) => write!(formatter, "extra info of unknown type {number}"),
            Self::SegmentSizeZero => write!(formatter, "extra info with segment size 0"),
            Self::UnknownSegmentation(number) => {
                write!(
                    formatter,
                    "extra info with unknown segmentation type {number}"
                )
            }
        }
    }
}

impl core::error::Error for ExtraInfoError {}

/// The ring module hands over exactly as many bytes as `SIZE` says.
macro_rules! slot {
    ($message:ty, $size:expr) => {
        impl Slot for $message {
            const SIZE: usize = $size;

            fn decode(bytes: &[u8]) -> Self {
                let mut exact = [0; $size];
                exact.copy_from_slice(bytes);
                Self::from_bytes(&exact)
            }

            fn encode(&self, into: &mut [u8]) {
                into.copy_from_slice(&self.to_bytes());
            }
        }
    };
}

slot!(TransmitRequest, TRANSMIT_SLOT_BYTES);
slot!(TransmitResponse, TRANSMIT_SLOT_BYTES);
slot!(ReceiveRequest, RECEIVE_SLOT_BYTES);
slot!(ReceiveResponse, RECEIVE_SLOT_BYTES);

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([
        bytes[offset],
        bytes[offset + 1],
        bytes[offset + 2],
        bytes[offset + 3],
    ])
}

#[cfg(test)]
mod tests;
