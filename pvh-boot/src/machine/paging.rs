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

/// Makes the program's own tables those of the first 512 GiB of the upper half of the address space,
/// 0xffff_8000_0000_0000 and up: `table` is the physical address of a page table of the third level.
/// Nothing there is executable, whatever the tables say.
///
/// # Safety
/// 1. `table` and the tables that it leads to are page tables for good, or until [`forget`] was
///    called for an address on the way to them and they are in no other table any more.
/// 2. They map pages that nothing else uses, or whose other uses bear it.
pub unsafe fn attach_upper_half(table: u64) {
    if let Some(space) = ADDRESS_SPACE.value() {
        space.attach_upper_half(table);
    }
}

/// Has the processor forget how the page at `address` was mapped, and all that it knows of tables
/// above the last level. To be called when a page or a table in the upper half was taken out of its
/// table, before it is used for anything else.
pub fn forget(address: usize) {
    x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address as u64));
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
