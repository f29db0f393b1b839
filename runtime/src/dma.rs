//! Pages that a device may read and write: a range of their own, apart from the heap, zeroed
//! before every use.
//!
//! The allocator keeps its free list in the free pages themselves. A device that is given a
//! page sees zeros; one that keeps writing to a page after it was taken back could confuse the
//! list, which is why grants, whose peers are not trusted, come from `xen`'s own pool.

use core::alloc::Layout;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use spin::Mutex;

use crate::heap::SharedPages;

/// Bytes in a page.
pub(crate) const PAGE_SIZE: usize = 4096;

/// Blocks are up to 2^30 bytes.
static POOL: Mutex<Heap<31>> = Mutex::new(Heap::new());

/// Adds pages to the pool.
pub(crate) fn add(pages: SharedPages) {
    let range = pages.into_range();
    // SAFETY: they are mapped RAM, and `SharedPages` made this the one place to use them.
    unsafe { POOL.lock().add_to_heap(range.start, range.end) };
}

/// `pages` zeroed pages next to each other, or `None` if there are none.
pub(crate) fn take(pages: usize) -> Option<NonNull<u8>> {
    let start = POOL.lock().alloc(layout(pages)?).ok()?;
    // SAFETY: the block is that long and nobody else's.
    unsafe { start.write_bytes(0, pages * PAGE_SIZE) };
    Some(start)
}

/// Returns pages to the pool.
///
/// # Safety
/// `start` is from [`take`] with the same `pages`, and no device has it any more.
pub(crate) unsafe fn give_back(start: NonNull<u8>, pages: usize) {
    if let Some(layout) = layout(pages) {
        // SAFETY: the same contract.
        unsafe { POOL.lock().dealloc(start, layout) };
    }
}

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}
