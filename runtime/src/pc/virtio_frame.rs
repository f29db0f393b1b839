//! What a frame tells the device that completes it.

use netfront::checksum::{IpVersion, Segment, Transport};
use rekernel_core::net::device::Completion;
use virtio_net::{Header, SegmentKind};

/// Where in a TCP header its length is: the upper half of this byte, in words (RFC 9293).
const DATA_OFFSET: usize = 12;

/// The header in front of `frame`. One without what is to be completed goes out as it is.
pub(crate) fn header(frame: &[u8], completion: Completion) -> Header {
    partial(frame, completion).unwrap_or(Header::COMPLETE)
}

fn partial(frame: &[u8], completion: Completion) -> Option<Header> {
    if completion == Completion::None {
        return None;
    }
    let segment = Segment::locate(frame).ok()?;
    let start = u16::try_from(segment.range.start).ok()?;
    let offset = u16::try_from(segment.field - segment.range.start).ok()?;
    let header = Header::partial_checksum(start, offset, segment.pseudo_header_sum());
    let Completion::Segments { payload } = completion else {
        return Some(header);
    };
    if segment.transport != Transport::Tcp {
        return None;
    }
    let words = frame.get(segment.range.start + DATA_OFFSET)? >> 4;
    let kind = match segment.ip_version {
        IpVersion::V4 => SegmentKind::Tcp4,
        IpVersion::V6 => SegmentKind::Tcp6,
    };
    Some(header.segments(kind, start.checked_add(4 * u16::from(words))?, payload))
}
