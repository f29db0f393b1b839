//! The life tier: what a host's operator does to a guest, with the real `xl`, on the Xen that the
//! Xen tier uses too.

mod devices;
mod power;
mod suspend;

use crate::xen::Test;

/// The tests of every subject, in the order in which they run.
pub(crate) fn tests() -> Vec<Test> {
    [devices::TESTS, power::TESTS, suspend::TESTS].concat()
}
