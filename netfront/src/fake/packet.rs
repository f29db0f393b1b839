//! Packets in both directions, as tests make and see them.

use alloc::vec;
use alloc::vec::Vec;

use xen_proto::hypervisor::PAGE_SIZE;

use crate::wire::{ExtraInfo, ExtraKind, ReceiveFlags, Segmentation, TransmitFlags};

/// A piece of a packet for the guest, to lie in one page.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Where in the page it starts, in bytes.
    pub offset: u16,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Told in place of the length: an error.
    pub error: Option<i16>,
}

/// A packet for the guest.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its pieces, each in a slot.
    pub fragments: Vec<Fragment>,
    /// What the backend knows about its checksum.
    pub flags: ReceiveFlags,
    /// Descriptors after the first piece; their `more` is set by itself.
    pub extras: Vec<ExtraInfo>,
}

impl Packet {
    /// A packet cut into pieces of at most `piece` bytes.
    pub fn cut(frame: &[u8], piece: usize, flags: ReceiveFlags) -> Self {
        let fragment = |bytes: &[u8]| Fragment {
            offset: 0,
            bytes: bytes.to_vec(),
            error: None,
        };
        Self {
            fragments: frame.chunks(piece).map(fragment).collect(),
            flags,
            extras: Vec::new(),
        }
    }

    /// A packet in as few pieces as possible.
    pub fn whole(frame: &[u8], flags: ReceiveFlags) -> Self {
        Self::cut(frame, PAGE_SIZE, flags)
    }

    /// A packet of several segments of TCP, which nobody took apart or computed a checksum of.
    pub fn segmented(frame: &[u8], segmentation: Segmentation) -> Self {
        let blank = ReceiveFlags::CHECKSUM_BLANK | ReceiveFlags::DATA_VALIDATED;
        Self {
            extras: vec![ExtraInfo {
                kind: ExtraKind::Segmentation(segmentation),
                more: false,
            }],
            ..Self::whole(frame, blank)
        }
    }
}

/// A frame that the guest sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// As it would leave the host: blank checksums are completed.
    pub bytes: Vec<u8>,
    /// The flags of its first slot.
    pub flags: TransmitFlags,
    /// Slots it took, descriptors not among them.
    pub slots: usize,
    /// How it is to be cut. [`segments`](Self::segments) does.
    pub segmentation: Option<Segmentation>,
}
