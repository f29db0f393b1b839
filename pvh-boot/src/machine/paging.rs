//! More mappings, and a look at those there are.
//!
//! RAM and the program are mapped from the start, at their physical addresses. Devices and pages
//! shared with the hypervisor are mapped here, at their physical addresses too.

use core::ptr::{self, NonNull};
use core::sync::atomic::{Ordering, compiler_fence};

use x86_64::instructions::interrupts::without_interrupts;

use super::boot_cell::BootCell;
use crate::address_space::AddressSpace;
pub use crate::address_space::MapError;
use crate::page_tables::Access;
pub use crate::page_tables::Protection;

pub(super) static ADDRESS_SPACE: BootCell<AddressSpace<'static>> = BootCell::new();

/// Maps the registers of a device, `length` bytes at physical address `start`: not cached, not
/// executable. Mapping the same range again is no error.
///
/// # Errors
/// [`MapError`], above all if the range is RAM.
pub fn map_device(start: u64, length: u64) -> Result<NonNull<u8>, MapError> {
    map(start, length, Access::Device)
}

/// Maps memory outside of RAM that a hypervisor or firmware filled, `length` bytes at physical
/// address `start`: cached, not executable. Mapping the same range again is no error.
///
/// # Errors
/// [`MapError`], above all if the range is RAM, which is mapped already.
pub fn map_shared(start: u64, length: u64) -> Result<NonNull<u8>, MapError> {
    map(start, length, Access::Data)
}

/// What the page tables say of the page at `address`; `None` if nothing is mapped there.
#[must_use]
pub fn protection(address: usize) -> Option<Protection> {
    ADDRESS_SPACE.value()?.protection(address as u64)
}

fn map(start: u64, length: u64, access: Access) -> Result<NonNull<u8>, MapError> {
    let out_of_range = MapError::OutOfRange { start, length };
    let space = ADDRESS_SPACE.value().ok_or(out_of_range)?;
    without_interrupts(|| space.map(start, length, access))?;
    // The processor caches no absent pages, so nothing is to be flushed; the compiler must not move
    // accesses through the pointer before the stores to the tables.
    compiler_fence(Ordering::SeqCst);
    let pointer = ptr::with_exposed_provenance_mut(start as usize);
    NonNull::new(pointer).ok_or(out_of_range)
}
