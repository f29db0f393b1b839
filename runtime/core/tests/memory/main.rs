//! An allocation fails, whichever: the guest goes on, and what it was for is refused, dropped or
//! tried again.

mod executor;
mod link;
#[allow(
    dead_code,
    reason = "the tests of the network use all of it, these some of it"
)]
#[path = "../network/support.rs"]
mod support;
mod tcp;
mod udp;

#[global_allocator]
static MEMORY: failing_memory::Allocator = failing_memory::Allocator;
