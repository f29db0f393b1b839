//! The life tier: what a host's operator does to a guest, with the real `xl`, on the Xen that the
//! Xen tier uses too.

mod another_network;
mod bridge;
mod devices;
mod driver_domain;
mod memory;
mod operator;
mod power;
mod silence;
mod suspend;
mod xenstore;

use crate::xen::Test;

/// The tests of every subject, in the order in which they run.
pub(crate) fn tests() -> Vec<Test> {
    [
        power::TESTS,
        operator::TESTS,
        silence::TESTS,
        devices::TESTS,
        another_network::TESTS,
        driver_domain::TESTS,
        memory::TESTS,
        suspend::TESTS,
        xenstore::TESTS,
    ]
    .concat()
}
