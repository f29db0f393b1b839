//! A heap that takes back only its last block: the probe lives for seconds. The last is what drivers ask for and
//! give back to see whether there is memory.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use pvh_boot::BootInfo;

const HEAP: usize = 6 << 20;
const PAGES: usize = 4 << 20;

#[global_allocator]
static BUMP: Bump = Bump {
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

/// Sets the heap up and returns a range of pages that is not part of it.
pub(crate) fn set_up(boot: &BootInfo) -> Range<usize> {
    let region = boot
        .usable_memory()
        .find(|region| region.length() >= (HEAP + PAGES) as u64)
        .expect("10 MiB of memory in one piece");
    let start = region.start as usize;
    BUMP.next.store(start, Ordering::Relaxed);
    BUMP.end.store(start + HEAP, Ordering::Relaxed);
    start + HEAP..start + HEAP + PAGES
}

// SAFETY: each allocation gets bytes of its own, aligned as asked, from RAM that pvh-boot mapped
// and nobody else uses; only the last ones are given away again, once they were freed.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self
            .next
            .load(Ordering::Relaxed)
            .next_multiple_of(layout.align());
        let end = start + layout.size();
        if end > self.end.load(Ordering::Relaxed) {
            return ptr::null_mut();
        }
        // One vCPU, and no allocation in the interrupt handler.
        self.next.store(end, Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block.addr() + layout.size() == self.next.load(Ordering::Relaxed) {
            self.next.store(block.addr(), Ordering::Relaxed);
        }
    }
}
