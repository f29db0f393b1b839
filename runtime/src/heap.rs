//! The heap: all of RAM but the program, the loader's data, and the pages set apart for
//! devices and peers.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use pvh_boot::BootInfo;
use rekernel_heap::Memory;
use spin::Mutex;

use crate::buffers;
use crate::dma::PAGE_SIZE;

/// Bounds of what is set apart for devices and peers, in bytes.
///
/// An eighth of RAM, because a program's own buffers are about as large as what is under way
/// on its interfaces. At least 1 MiB, of which a Xen interface takes 328 KiB at first and up
/// to 2 MiB under load if it can get them, a virtio interface 280 KiB and up to 2 MiB; at
/// most 64 MiB, since rings do not grow with RAM.
const SHARED_BYTES: (usize, usize) = (1 << 20, 64 << 20);
const SHARED_PART: usize = 8;

#[global_allocator]
static ALLOCATOR: GuestHeap = GuestHeap;

/// Taken once for each allocation. `buffers` takes its pages from here, too.
pub(crate) static MEMORY: Mutex<Memory> = Mutex::new(Memory::new());

/// RAM in too many places to be used.
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);

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

/// RAM that must not be touched, as there is no memory for it yet. The heap knows: it is absent.
#[derive(Debug)]
pub(crate) struct AbsentRam(Vec<Range<usize>>);

impl AbsentRam {
    /// The addresses, in whole pages.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }
}

/// Gives usable RAM to the heap, except the shared pages that are returned. `absent` bytes of it,
/// those at the end, must not be touched.
///
/// # Panics
/// When called twice: the second time it would give away memory in use.
pub(crate) fn start(boot: &BootInfo, absent: u64) -> (SharedPages, AbsentRam) {
    let mut memory = MEMORY.lock();
    let before = memory.information().total;
    assert_eq!(before, 0, "the heap was started twice");
    let regions = || {
        let regions = boot.usable_memory();
        regions.map(|region| region.start as usize..region.end as usize)
    };
    let total: usize = regions().map(|region| region.len()).sum();
    let largest = regions().max_by_key(ExactSizeIterator::len).unwrap_or(0..0);
    let present = total.saturating_sub(absent as usize);
    let wanted = (present / SHARED_PART).clamp(SHARED_BYTES.0, SHARED_BYTES.1);
    let bytes = wanted.min(largest.len() / 2) & !(PAGE_SIZE - 1);
    let shared = largest.end - bytes..largest.end;
    let ours = || {
        regions().map(|region| match region == largest {
            true => region.start..shared.start,
            false => region,
        })
    };
    let present_end = end_of_first(present - bytes.min(present), ours());
    // SAFETY: 1. and 2. pvh-boot mapped usable RAM writable at its physical address and uses it
    // for nothing. 3. The assertion above.
    let left_out = unsafe { memory.start(ours, present_end) };
    LEFT_OUT.store(left_out, Ordering::Relaxed);
    // Allocates from now on.
    drop(memory);
    let absent = ours().map(|region| {
        let start = region.start.max(present_end.min(region.end));
        start.next_multiple_of(PAGE_SIZE)..region.end & !(PAGE_SIZE - 1)
    });
    let absent = absent.filter(|region| !region.is_empty()).collect();
    (SharedPages(shared), AbsentRam(absent))
}

/// The address up to which `regions`, in ascending order, have `bytes` bytes; a whole page.
fn end_of_first(mut bytes: usize, regions: impl Iterator<Item = Range<usize>>) -> usize {
    for region in regions {
        if bytes < region.len() {
            return (region.start + bytes) & !(PAGE_SIZE - 1);
        }
        bytes -= region.len();
    }
    usize::MAX
}

/// Logs what is wrong with the memory, once there is a log.
pub(crate) fn complain() {
    match LEFT_OUT.load(Ordering::Relaxed) {
        0 => {}
        bytes => log::warn!(
            "{} KiB of RAM lie in too many places to be used",
            bytes >> 10
        ),
    }
}

/// What the heap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapInformation {
    /// Bytes in all, without those that the host has back.
    pub total: usize,
    /// Bytes in use: whole pages, also where only some objects of a page are in use.
    pub used: usize,
    /// Bytes that the host has back (`xl mem-set`), or never gave.
    pub absent: usize,
}

impl HeapInformation {
    /// Whether there is memory to take on new work: a sixteenth is free, half of what the host leaves
    /// when it takes memory back. The network refuses connections while there is not; a program may refuse
    /// requests.
    pub fn has_headroom(&self) -> bool {
        const HEADROOM_PART: usize = 16;
        self.total - self.used >= self.total / HEADROOM_PART
    }

    fn of(memory: &Memory) -> Self {
        let rekernel_heap::Information {
            total,
            free,
            absent,
        } = memory.information();
        Self {
            total,
            used: total - free,
            absent,
        }
    }
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
    HeapInformation::of(&MEMORY.lock())
}

/// Size in bytes of the last request if it could not be met, and the heap at this moment, for
/// the report of a crash. Takes no lock that a crashing program may hold.
pub(crate) fn last_refusal() -> Option<(usize, Option<HeapInformation>)> {
    let size = REFUSED.load(Ordering::Relaxed);
    let heap = MEMORY.try_lock().map(|memory| HeapInformation::of(&memory));
    (size != 0).then_some((size, heap))
}

struct GuestHeap;

// SAFETY: `Memory` hands out disjoint blocks of the RAM it was given, at least as large and
// aligned as the layout; `buffers` hands out addresses of its own, which it takes back here. What
// panics in there ends the guest: nothing unwinds.
unsafe impl GlobalAlloc for GuestHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = MEMORY.lock().alloc(layout);
        // Forgotten by the next success: who asked could do without.
        REFUSED.store(block.map_or(layout.size(), |_| 0), Ordering::Relaxed);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if buffers::is_ours(block.addr()) {
            buffers::retire(block.addr(), layout.size());
        } else if let Some(block) = NonNull::new(block) {
            // SAFETY: by this function's contract the block is from `alloc` with this layout, or
            // from `realloc`, which keeps a block only where both layouts fit.
            unsafe { MEMORY.lock().dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(larger) = Layout::from_size_align(size, layout.align()) else {
            return ptr::null_mut();
        };
        if !buffers::is_ours(block.addr()) && Memory::fits_the_same_place(layout, larger) {
            return block;
        }
        // SAFETY: the size is not 0, by this function's contract.
        let new = unsafe { self.alloc(larger) };
        if !new.is_null() {
            // SAFETY: both are live, as long, and apart.
            unsafe { new.copy_from_nonoverlapping(block, size.min(layout.size())) };
            // SAFETY: this function's contract.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}
