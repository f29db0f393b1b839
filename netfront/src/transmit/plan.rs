//! What to change in a frame, and what to tell the backend about it.

use crate::checksum::{IpVersion, Segment, Transport};
use crate::device::Offload;
use crate::settings::{ETHERNET_HEADER, Settings};
use crate::statistics::Counters;
use crate::wire::{
    ExtraInfo, ExtraKind, MAXIMUM_TRANSMIT_BYTES, RECEIVE_SLOT_BYTES, Segmentation, TransmitFlags,
};

/// How one frame goes into the ring.
pub(super) struct Plan {
    /// Flags of its first slot.
    pub(super) flags: TransmitFlags,
    /// Byte offset of the checksum field in the frame, and its new value.
    pub(super) field: Option<(usize, u16)>,
    /// How the backend is to cut it.
    pub(super) segmentation: Option<Segmentation>,
}

/// Why a frame cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No frame is that short, or no MTU allows one that long.
    Size,
    /// It cannot be cut into segments.
    Segmentation,
}

impl Flaw {
    pub(super) fn count(self, counters: &mut Counters) {
        let drops = &mut counters.transmit_drops;
        match self {
            Self::Size => drops.size += 1,
            Self::Segmentation => drops.segmentation += 1,
        }
    }
}

impl Plan {
    /// Plans for `frame`.
    ///
    /// # Errors
    /// [`Flaw`] if it cannot be sent.
    pub(super) fn new(frame: &[u8], offload: Offload, settings: &Settings) -> Result<Self, Flaw> {
        if frame.len() < ETHERNET_HEADER || frame.len() > MAXIMUM_TRANSMIT_BYTES {
            return Err(Flaw::Size);
        }
        if let Offload::Segments { payload } = offload {
            let segment = Segment::locate(frame).map_err(|_| Flaw::Segmentation)?;
            let carried = tcp_payload(frame, &segment).ok_or(Flaw::Segmentation)?;
            if carried > usize::from(payload.get()) {
                let headers = frame.len() - carried;
                if headers + usize::from(payload.get()) > settings.mtu + ETHERNET_HEADER {
                    return Err(Flaw::Size);
                }
                return Self::for_segments(frame, &segment, payload, settings);
            }
        }
        if frame.len() > settings.mtu + ETHERNET_HEADER {
            return Err(Flaw::Size);
        }
        Ok(match offload {
            Offload::None => Self::complete(),
            Offload::Checksum | Offload::Segments { .. } => Self::for_device(frame, settings),
        })
    }

    /// The descriptor that follows the first slot, as it lies in its own.
    pub(super) fn descriptor(&self) -> Option<[u8; RECEIVE_SLOT_BYTES]> {
        let extra = |segmentation| ExtraInfo {
            kind: ExtraKind::Segmentation(segmentation),
            more: false,
        };
        Some(extra(self.segmentation?).to_bytes())
    }

    /// The frame has all its checksums.
    fn complete() -> Self {
        Self {
            flags: TransmitFlags::empty(),
            field: None,
            segmentation: None,
        }
    }

    /// Leaves the checksum to the backend where it can complete it, else completes it here.
    fn for_device(frame: &[u8], settings: &Settings) -> Self {
        let Ok(segment) = Segment::locate(frame) else {
            return Self::complete();
        };
        let offered = match segment.ip_version {
            IpVersion::V4 => settings.checksum_ipv4,
            IpVersion::V6 => settings.checksum_ipv6,
        };
        // Backends sum from the transport header to the end of the frame: not if more follows.
        if offered && segment.range.end == frame.len() {
            return Self::blank(&segment);
        }
        Self {
            field: Some((segment.field, segment.checksum(frame))),
            ..Self::complete()
        }
    }

    /// Leaves cutting and checksums to the backend.
    fn for_segments(
        frame: &[u8],
        segment: &Segment,
        payload: core::num::NonZeroU16,
        settings: &Settings,
    ) -> Result<Self, Flaw> {
        let offered = match segment.ip_version {
            IpVersion::V4 => settings.segmentation_ipv4,
            IpVersion::V6 => settings.segmentation_ipv6,
        };
        if !offered || segment.range.end != frame.len() {
            return Err(Flaw::Segmentation);
        }
        // The pseudo-header has the length of the whole, as in Linux: who cuts it subtracts
        // what each segment is shorter.
        let mut plan = Self::blank(segment);
        plan.flags |= TransmitFlags::EXTRA_INFO;
        plan.segmentation = Some(Segmentation {
            ip_version: segment.ip_version,
            segment_bytes: payload,
        });
        Ok(plan)
    }

    /// Leaves the checksum to the backend.
    fn blank(segment: &Segment) -> Self {
        Self {
            flags: TransmitFlags::CHECKSUM_BLANK | TransmitFlags::DATA_VALIDATED,
            field: Some((segment.field, segment.pseudo_header_sum())),
            segmentation: None,
        }
    }
}

/// Bytes that a segment of TCP carries behind its header; `None` if it is no such segment.
fn tcp_payload(frame: &[u8], segment: &Segment) -> Option<usize> {
    /// Where the header says how long it is, in units of 4 bytes (RFC 9293, section 3.1).
    const DATA_OFFSET: usize = 12;
    if segment.transport != Transport::Tcp {
        return None;
    }
    let header = usize::from(frame[segment.range.start + DATA_OFFSET] >> 4) * 4;
    segment.range.len().checked_sub(header)
}
