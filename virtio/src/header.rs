//! The header in front of each frame (virtio 1.2, 5.1.6).

use core::num::NonZeroU16;

use bitflags::bitflags;

bitflags! {
    /// What is said of a frame's checksum.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HeaderFlags: u8 {
        /// The checksum is that of the pseudo-header only; the rest is to be added.
        const NEEDS_CSUM = 1;
        /// The checksum was verified.
        const DATA_VALID = 2;
    }
}

/// What an unsegmented frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

impl SegmentKind {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp4 => 1,
            Self::Tcp6 => 4,
        }
    }
}

/// Longest header.
pub(crate) const LONGEST: usize = 12;

/// In the number of a segment's kind: there is a segment that says "congestion".
const ECN: u8 = 0x80;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What is said of the checksum.
    pub flags: HeaderFlags,
    /// Number of the kind of an unsegmented frame; 0 for an ordinary one.
    segment_kind: u8,
    /// Bytes of the frame's headers, Ethernet to TCP.
    header_length: u16,
    /// Bytes of payload in each segment.
    segment_payload: u16,
    /// Where what is summed begins in the frame.
    checksum_start: u16,
    /// Where the checksum is, from there.
    checksum_offset: u16,
    /// What the checksum field has to hold. In the frame itself, not in its header.
    pseudo_header_sum: u16,
    /// Buffers that hold the frame. Only of received frames.
    pub buffers: u16,
}

impl Header {
    /// For a frame that is complete.
    pub const COMPLETE: Self = Self {
        flags: HeaderFlags::empty(),
        segment_kind: 0,
        header_length: 0,
        segment_payload: 0,
        checksum_start: 0,
        checksum_offset: 0,
        pseudo_header_sum: 0,
        buffers: 0,
    };

    /// For a frame whose checksum, `offset` bytes behind `start`, where TCP or UDP begins, the
    /// device completes. It gets the sum of the pseudo-header there.
    pub const fn partial_checksum(start: u16, offset: u16, pseudo_header_sum: u16) -> Self {
        Self {
            flags: HeaderFlags::NEEDS_CSUM,
            checksum_start: start,
            checksum_offset: offset,
            pseudo_header_sum,
            ..Self::COMPLETE
        }
    }

    /// For a frame with such a checksum, to be cut into segments of `payload` bytes; its headers, to
    /// that of TCP, have `header_length` bytes.
    pub const fn segments(
        self,
        kind: SegmentKind,
        header_length: u16,
        payload: NonZeroU16,
    ) -> Self {
        Self {
            segment_kind: kind.number(),
            header_length,
            segment_payload: payload.get(),
            ..self
        }
    }

    /// Where in the frame two bytes are to be replaced, and by what.
    pub(crate) fn partial(&self) -> Option<(usize, [u8; 2])> {
        let field = usize::from(self.checksum_start) + usize::from(self.checksum_offset);
        let partial = self.flags.contains(HeaderFlags::NEEDS_CSUM);
        partial.then(|| (field, self.pseudo_header_sum.to_be_bytes()))
    }

    /// Whether the frame is an ordinary one or unsegmented TCP: all that is negotiated.
    pub(crate) fn is_understood(&self) -> bool {
        let kinds = [SegmentKind::Tcp4, SegmentKind::Tcp6];
        let kind = self.segment_kind & !ECN;
        self.segment_kind == 0 || kinds.iter().any(|known| known.number() == kind)
    }

    /// As bytes; a device without the count of buffers takes the first ten.
    pub(crate) fn emit(&self) -> [u8; LONGEST] {
        let mut bytes = [0; LONGEST];
        bytes[0] = self.flags.bits();
        bytes[1] = self.segment_kind;
        let numbers = [
            self.header_length,
            self.segment_payload,
            self.checksum_start,
            self.checksum_offset,
            self.buffers,
        ];
        for (place, number) in bytes[2..].chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From bytes. Flags that are not known mean nothing to the driver (5.1.6.4.2).
    pub(crate) fn parse(bytes: &[u8; LONGEST]) -> Self {
        let number = |place: usize| u16::from_le_bytes([bytes[place], bytes[place + 1]]);
        Self {
            flags: HeaderFlags::from_bits_truncate(bytes[0]),
            segment_kind: bytes[1],
            header_length: number(2),
            segment_payload: number(4),
            checksum_start: number(6),
            checksum_offset: number(8),
            pseudo_header_sum: 0,
            buffers: number(10),
        }
    }
}
