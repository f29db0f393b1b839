//! The driver against a device that obeys the standard, and against one that does not.

mod fake;
mod misbehaviour;
mod receiving;
mod sending;

use super::{Features, Header, SegmentKind};
use core::num::NonZeroU16;

#[test]
fn features_without_what_they_build_on_are_left_out() {
    let all = Features::all();
    assert_eq!(Features::choose(u64::MAX), all);
    let host = Features::HOST_TSO4 | Features::HOST_TSO6;
    let guest = Features::GUEST_TSO4 | Features::GUEST_TSO6;
    for (absent, gone) in [
        (Features::CSUM, host),
        (Features::GUEST_CSUM, guest),
        (Features::MRG_RXBUF, guest | Features::MTU),
    ] {
        let chosen = Features::choose((all - absent).bits());
        assert_eq!(chosen, all - absent - gone, "without {absent:?}");
    }
    assert_eq!(Features::MRG_RXBUF.header_length(), 12);
    assert_eq!(Features::CSUM.header_length(), 10);
}

#[test]
fn headers_are_as_the_standard_lays_them_out() {
    let payload = NonZeroU16::new(1448).unwrap();
    let header = Header::partial_checksum(34, 16, 0).segments(SegmentKind::Tcp6, 74, payload);
    let bytes = [1, 4, 74, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    assert_eq!(header.emit(), bytes);
    assert_eq!(Header::parse(&bytes), header);
    assert_eq!(Header::COMPLETE.emit(), [0; 12]);
}
