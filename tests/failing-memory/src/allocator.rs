//! The system's allocator, which refuses where [`state`] says so.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::state;

/// The system's allocator, but for what a [`Trial`](crate::Trial) has it refuse. To be named as the
/// `#[global_allocator]` of a test.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

// SAFETY: every block is the system allocator's, by the same layout; a refusal is a null pointer, and
// what decides on it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if state::refuses(layout) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc(layout) };
        state::took(block.addr());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if state::refuses(layout) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        state::took(block.addr());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        state::gave(block.addr(), layout);
        // SAFETY: the caller's promise is passed on; the block is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Shrinking needs no memory.
        if size > layout.size()
            && Layout::from_size_align(size, layout.align()).is_ok_and(state::refuses)
        {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on; the block is the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}
