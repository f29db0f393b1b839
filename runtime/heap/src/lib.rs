//! The guest's memory: who has which page, and which bytes of it.
//!
//! | layer | gives out | from |
//! |---|---|---|
//! | `slabs` | objects of up to 3.5 KiB, in 27 sizes | `pages` |
//! | `pages` | runs of up to 32 pages | `buddy_system_allocator` |
//! | `buddy_system_allocator` | larger blocks | RAM |
//! | [`lazy`] | buffers whose pages are taken at first touch | `pages` |
//!
//! The first two answer in constant time: no list is searched, none is longer the more memory
//! is in use. What is freed goes back down when its page, and its window of 64 pages, is empty.
//!
//! Pages can be withdrawn, so that nothing here touches them until they are restored: the host has
//! them meanwhile. How many, [`balloon`] decides.
//!
//! Nothing here touches the machine, so all of it runs in ordinary tests on the host.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(not(test))]
extern crate alloc;
#[cfg(test)]
extern crate std as alloc;

pub mod balloon;
pub mod lazy;
#[expect(unsafe_code, reason = "hands out raw memory")]
mod memory;
#[expect(unsafe_code, reason = "hands out raw pages")]
mod pages;
#[expect(unsafe_code, reason = "keeps its lists in free memory")]
mod slabs;

pub use memory::{Information, Memory};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// Bytes of the longest run of pages that is withdrawn or restored at a time: the processor's large
/// page, so that the hypervisor's own tables stay as coarse as they can be.
const LARGE_SIZE: usize = 2 << 20;
