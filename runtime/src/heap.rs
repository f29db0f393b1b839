//! The heap: all of RAM but the program, the loader's data, and the pages set apart for
//! devices and peers.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use buddy_system_allocator::Heap;
use pvh_boot::BootInfo;
use spin::Mutex;

use crate::dma::PAGE_SIZE;

/// Bounds of what is set apart for devices and peers, in bytes.
///
/// An eighth of RAM, because a program's own buffers are about as large as what is under way
/// on its interfaces. At least 1 MiB, of which a Xen interface takes 328 KiB at first and up
/// to 2 MiB under load if it can get them, a virtio interface 280 KiB and up to 2 MiB; at most 64 MiB, since
/// rings do not grow with RAM.
const SHARED_BYTES: (usize, usize) = (1 << 20, 64 << 20);
const SHARED_PART: usize = 8;

#[global_allocator]
static ALLOCATOR: GuestHeap = GuestHeap;

/// Blocks are up to 2^47 bytes.
static HEAP: Mutex<Heap<48>> = Mutex::new(Heap::new());

/// Size of the last request if it could not be met, else 0.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Page-aligned RAM apart from the heap, mapped writable at its physical address, which nobody
/// but the owner of this value uses. To be shared with devices or peers.
#[derive(Debug)]
pub(crate) struct SharedPages(Range<usize>);

impl SharedPages {
    /// The addresses. Whoever calls this now has the pages.
    pub(crate) fn into_range(self) -> Range<usize> {
        self.0
    }
}

/// Gives usable RAM to the heap, except the pages that are returned.
///
/// # Panics
/// When called twice: the second time it would give away memory in use.
pub(crate) fn start(boot: &BootInfo) -> SharedPages {
    let mut heap = HEAP.lock();
    assert_eq!(heap.stats_total_bytes(), 0, "the heap was started twice");
    let regions = || {
        let regions = boot.usable_memory();
        regions.map(|region| region.start as usize..region.end as usize)
    };
    let total: usize = regions().map(|region| region.len()).sum();
    let largest = regions().max_by_key(ExactSizeIterator::len).unwrap_or(0..0);
    let wanted = (total / SHARED_PART).clamp(SHARED_BYTES.0, SHARED_BYTES.1);
    let bytes = wanted.min(largest.len() / 2) & !(PAGE_SIZE - 1);
    let shared = largest.end - bytes..largest.end;
    for region in regions() {
        let end = if region == largest {
            shared.start
        } else {
            region.end
        };
        // SAFETY: pvh-boot mapped usable RAM writable at its physical address and uses it for
        // nothing; the assertion above keeps a second call from giving it away again.
        unsafe { heap.add_to_heap(region.start, end) };
    }
    SharedPages(shared)
}

/// What the heap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapInformation {
    /// Bytes in all.
    pub total: usize,
    /// Bytes in use, rounding to powers of two included.
    pub used: usize,
}

impl fmt::Display for HeapInformation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} of {} KiB in use",
            self.used >> 10,
            self.total >> 10
        )
    }
}

/// What the heap holds now.
pub(crate) fn information() -> HeapInformation {
    let heap = HEAP.lock();
    HeapInformation {
        total: heap.stats_total_bytes(),
        used: heap.stats_alloc_actual(),
    }
}

/// Size in bytes of the last request if it could not be met, and the heap at this moment, for
/// the report of a crash. Takes no lock that a crashing program may hold.
pub(crate) fn last_refusal() -> Option<(usize, Option<HeapInformation>)> {
    let size = REFUSED.load(Ordering::Relaxed);
    let heap = HEAP.try_lock().map(|heap| HeapInformation {
        total: heap.stats_total_bytes(),
        used: heap.stats_alloc_actual(),
    });
    (size != 0).then_some((size, heap))
}

struct GuestHeap;

// SAFETY: the buddy allocator hands out disjoint blocks of the RAM it was given, at least as
// large and aligned as the layout, and nothing here unwinds.
unsafe impl GlobalAlloc for GuestHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = HEAP.lock().alloc(layout);
        // Forgotten by the next success: who asked could do without.
        REFUSED.store(block.map_or(layout.size(), |_| 0), Ordering::Relaxed);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by this function's contract the block is from `alloc` with this layout.
            unsafe { HEAP.lock().dealloc(block, layout) };
        }
    }
}
