//! Lets the congestion window of a young connection grow with the bytes that are acknowledged
//! (RFC 3465) instead of the number of acknowledgements.
//!
//! smoltcp's grows by one segment with each acknowledgement, as in RFC 5681. But who receives
//! segments that were joined on the way acknowledges dozens with one: the window then grows by a
//! segment in each round trip instead of doubling. So such an acknowledgement is handed to
//! smoltcp in steps of one segment, as if the peer had not joined any: until the connection has
//! a large window or has lost a segment.

use core::cell::Cell;

use super::port::Segment;

/// Bytes acknowledged after which a connection is grown: its window has reached the size of the
/// largest send buffer.
const GROWN: u32 = 512 * 1024;

/// Steps of one acknowledgement; there are no more segments in a packet of the largest size.
const MOST_STEPS: u32 = 64;

/// How far a connection has grown.
pub(super) struct Growth {
    /// What the peer acknowledged last.
    acknowledged: Cell<Option<u32>>,
    /// Bytes until it is grown.
    left: Cell<u32>,
}

impl Growth {
    pub(super) fn new() -> Self {
        Self {
            acknowledged: Cell::new(None),
            left: Cell::new(GROWN),
        }
    }

    /// A segment with this acknowledgement arrived. The acknowledgements to put before it, for
    /// segments of `size` bytes.
    pub(super) fn steps(
        &self,
        acknowledgement: u32,
        size: u32,
    ) -> impl Iterator<Item = u32> + use<> {
        let before = self.acknowledged.get().unwrap_or(acknowledgement);
        let advance = acknowledgement.wrapping_sub(before);
        let is_new = i32::try_from(advance).is_ok();
        if is_new {
            self.acknowledged.set(Some(acknowledgement));
        }
        let size = size.max(1);
        let mut count = 0;
        if is_new && self.left.get() > 0 && advance > size {
            self.left.set(self.left.get().saturating_sub(advance));
            count = ((advance - 1) / size).min(MOST_STEPS);
        }
        (1..=count).map(move |step| before.wrapping_add(step * size))
    }

    /// A segment was sent, after `last`. One that goes back was lost: growth ends.
    pub(super) fn sent(&self, segment: Segment, last: Option<Segment>) {
        let goes_back = last.is_some_and(|last| {
            let advance = segment.next_sequence.wrapping_sub(last.next_sequence);
            i32::try_from(advance).is_err()
        });
        if goes_back {
            self.left.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn steps(growth: &Growth, acknowledgement: u32) -> Vec<u32> {
        growth.steps(acknowledgement, 1000).collect()
    }

    fn segment(next_sequence: u32) -> Segment {
        Segment {
            next_sequence,
            acknowledgement: 0,
        }
    }

    #[test]
    fn one_step_for_each_segment_but_the_last() {
        let growth = Growth::new();
        assert!(steps(&growth, u32::MAX - 500).is_empty());
        assert!(steps(&growth, 499).is_empty());
        assert_eq!(steps(&growth, 2499), [1499]);
        assert_eq!(steps(&growth, 5000), [3499, 4499]);
        // One that came late.
        assert!(steps(&growth, 2000).is_empty());
        assert_eq!(steps(&growth, 6001), [6000]);
    }

    #[test]
    fn steps_are_bounded() {
        let growth = Growth::new();
        steps(&growth, 0);
        assert_eq!(steps(&growth, 1 << 30).len(), MOST_STEPS as usize);
        assert!(steps(&growth, (1 << 30) + 9000).is_empty(), "it is grown");
    }

    #[test]
    fn loss_ends_it() {
        let growth = Growth::new();
        steps(&growth, 0);
        growth.sent(segment(2000), Some(segment(1000)));
        growth.sent(segment(2000), Some(segment(2000)));
        assert_eq!(steps(&growth, 2000), [1000]);
        growth.sent(segment(1000), Some(segment(4000)));
        assert!(steps(&growth, 4000).is_empty());
    }
}
