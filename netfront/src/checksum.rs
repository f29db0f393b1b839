//! TCP and UDP checksums: where the field is, whether it holds, what to write into it.
//!
//! The driver needs this in both directions. A received frame that the backend does not vouch
//! for is [verified](verify) here, so that the stack need not look. A frame to send whose
//! checksum the device completes carries the sum of the pseudo-header in the field
//! ([`Segment::pseudo_header_sum`]); where the device cannot, [`Segment::checksum`] does.
//!
//! The parser ([`Segment::locate`]) believes nothing in the frame: every length is checked
//! against the bytes that are there.

mod locate;

use core::ops::Range;

/// The protocol whose checksum a [`Segment`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// The IP version below a [`Segment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// A TCP segment or UDP datagram within an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which protocol it is.
    pub transport: Transport,
    /// Over which IP version.
    pub ip_version: IpVersion,
    /// Where in the frame it lies, transport header and payload, in bytes.
    pub range: Range<usize>,
    /// Where in the frame the checksum field starts. Always even.
    pub field: usize,
    /// Sum of the pseudo-header, not complemented.
    pseudo_header: u16,
}

/// Why a frame has no [`Segment`] to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// Neither TCP nor UDP over IP, as far as the driver understands it.
    OtherProtocol,
    /// A part of a larger IP packet: its checksum covers data that is not here.
    Fragment,
    /// A length in an IP, TCP or UDP header does not fit the frame.
    Malformed,
}

/// What [`verify`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The checksum holds, or UDP over IPv4 carries none.
    Good,
    /// The checksum does not hold, or the frame is malformed.
    Bad,
    /// There is no TCP or UDP checksum that could be verified.
    NotApplicable,
}

/// Verifies the TCP or UDP checksum of an Ethernet frame.
pub fn verify(frame: &[u8]) -> Verdict {
    match Segment::locate(frame) {
        Ok(segment) if segment.holds(frame) => Verdict::Good,
        Ok(_) | Err(NoSegment::Malformed) => Verdict::Bad,
        Err(NoSegment::OtherProtocol | NoSegment::Fragment) => Verdict::NotApplicable,
    }
}

impl Segment {
    /// Finds the TCP or UDP part of an Ethernet frame, past IPv4 options and IPv6 extension
    /// headers.
    ///
    /// # Errors
    /// [`NoSegment`] when there is none, or none that is whole.
    pub fn locate(frame: &[u8]) -> Result<Self, NoSegment> {
        locate::locate(frame)
    }

    /// What the field must hold in a frame whose checksum a device completes: the folded sum
    /// of the pseudo-header, not complemented.
    pub fn pseudo_header_sum(&self) -> u16 {
        self.pseudo_header
    }

    /// The complete checksum, whatever `frame` has in the field now.
    ///
    /// # Panics
    /// If `frame` is not the frame this was located in.
    pub fn checksum(&self, frame: &[u8]) -> u16 {
        let before = &frame[self.range.start..self.field];
        let after = &frame[self.field + 2..self.range.end];
        let total = add(self.pseudo_header, add(sum(before), sum(after)));
        match (self.transport, !total) {
            // Zero means "no checksum" in UDP; its other representation is sent (RFC 768).
            (Transport::Udp, 0) => 0xffff,
            (_, checksum) => checksum,
        }
    }

    /// Whether the checksum in `frame` is right.
    fn holds(&self, frame: &[u8]) -> bool {
        let field = [frame[self.field], frame[self.field + 1]];
        match (self.transport, self.ip_version, field) {
            (Transport::Udp, IpVersion::V4, [0, 0]) => true,
            // RFC 8200 section 8.1: a UDP datagram over IPv6 without one is discarded.
            (Transport::Udp, IpVersion::V6, [0, 0]) => false,
            _ => add(self.pseudo_header, sum(&frame[self.range.clone()])) == 0xffff,
        }
    }
}

/// The ones' complement sum (RFC 1071) of `bytes` as big-endian 16-bit words, the last one
/// padded with zero.
fn sum(bytes: &[u8]) -> u16 {
    // The sum of byte-swapped words is the swapped sum, so whole little-endian words can be
    // added and the result swapped once. 2^32 words of 32 bits fit before the total wraps.
    let mut total = 0u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes([
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ]);
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let last = u64::from_le_bytes(last);
    total += (last & 0xffff_ffff) + (last >> 32);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // Cannot fail: the loop left at most 16 bits.
    u16::try_from(total).unwrap_or(u16::MAX).swap_bytes()
}

/// Adds two 16-bit words in ones' complement.
fn add(left: u16, right: u16) -> u16 {
    let (total, carried) = left.overflowing_add(right);
    total + u16::from(carried)
}

#[cfg(test)]
mod tests;
