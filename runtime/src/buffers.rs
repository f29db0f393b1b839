//! Buffers whose pages take RAM at first touch: the page faults, and the heap behind them.
//! What decides is in `rekernel_heap::lazy`. Public for the platforms' tests only.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pvh_boot::exceptions::{self, Answer};
use pvh_boot::paging;
use rekernel_heap::PAGE_SIZE;
use rekernel_heap::lazy::{self, Backing, Space, Table, Touch};
use spin::{Mutex, Once};

use crate::heap;

/// The part of the heap that [`can_back`] leaves to the rest of the program.
const RESERVE_PART: usize = 16;

/// Taken before the heap's lock, never while that is held.
static SPACE: Mutex<Space> = Mutex::new(Space::new());

/// Whether there are such buffers; known once one was asked for.
static WORKS: Once<bool> = Once::new();

/// The address that is touched to see whether faults tell their address, else 0.
static TRIED: AtomicUsize = AtomicUsize::new(0);
static ADDRESS_HIDDEN: AtomicBool = AtomicBool::new(false);

/// See `Platform::socket_buffer`.
#[must_use]
pub fn socket_buffer(bytes: usize) -> Option<Vec<u8>> {
    if !WORKS.call_once(start) {
        return None;
    }
    let start = SPACE.lock().issue(bytes, &mut Heap)?;
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: `bytes` bytes that no other object has, zero when they are touched. The global
    // allocator knows the address and takes them back with the layout of a vector's memory.
    Some(unsafe { Vec::from_raw_parts(start, bytes, bytes) })
}

/// See `Platform::can_back`.
#[must_use]
pub fn can_back(bytes: usize) -> bool {
    if WORKS.get() != Some(&true) {
        return true;
    }
    let memory = heap::MEMORY.lock().information();
    bytes
        .checked_next_multiple_of(PAGE_SIZE)
        .is_some_and(|bytes| memory.free.saturating_sub(memory.total / RESERVE_PART) >= bytes)
}

/// See `Platform::give_back`.
pub fn give_back(unused: &mut [u8]) {
    let range = unused.as_mut_ptr_range();
    let range = range.start.addr()..range.end.addr();
    if is_ours(range.start) {
        // All bytes of the pages that go are borrowed exclusively, and any value is a valid u8.
        SPACE.lock().release(range, &mut Heap);
    }
}

/// See `Platform::backed_bytes`.
#[must_use]
pub fn backed_bytes() -> usize {
    SPACE.lock().backed()
}

/// Whether the address lies where such buffers are.
pub(crate) fn is_ours(address: usize) -> bool {
    address >= lazy::ADDRESSES.start
}

/// Takes a buffer back that [`socket_buffer`] made.
pub(crate) fn retire(start: usize, bytes: usize) {
    SPACE.lock().retire(start, bytes, &mut Heap);
}

/// Makes faults back pages, and tries it. False where it cannot work: QEMU 10.0, emulating AMD's
/// virtualization, hides the address of a fault from guests of guests.
fn start() -> bool {
    let mut space = SPACE.lock();
    let Some(root) = space.root(&mut Heap) else {
        return false;
    };
    // SAFETY: `Space` is made to keep both duties: 1. its tables stay until it has called
    // `Backing::forget` and have no other use; 2. its pages are the heap's, handed out to it.
    unsafe { paging::attach_upper_half(root.address()) };
    exceptions::set_page_fault_handler(back);
    let Some(trial) = space.issue(PAGE_SIZE, &mut Heap) else {
        return false;
    };
    drop(space);
    TRIED.store(trial, Ordering::Relaxed);
    let place: *mut u8 = ptr::with_exposed_provenance_mut(trial);
    // SAFETY: a byte of the page just issued, which nobody else knows; the fault backs it.
    unsafe { place.write_volatile(1) };
    TRIED.store(0, Ordering::Relaxed);
    retire(trial, PAGE_SIZE);
    let works = !ADDRESS_HIDDEN.load(Ordering::Relaxed);
    if !works {
        log::warn!("page faults hide their address here: buffers take all of their memory at once");
    }
    works
}

/// Answers a page fault. Runs on the stack for exceptions: the locks are only tried. As they
/// guard code that touches no buffer, they are free unless that code is at fault.
fn back(mut address: usize) -> Answer {
    let tried = TRIED.load(Ordering::Relaxed);
    if address == 0 && tried != 0 {
        ADDRESS_HIDDEN.store(true, Ordering::Relaxed);
        address = tried;
    }
    if !is_ours(address) {
        return Answer::NotOurs;
    }
    let Some(mut space) = SPACE.try_lock() else {
        return Answer::NotOurs;
    };
    match space.touch(address, &mut Heap) {
        Touch::Backed => Answer::Mapped,
        Touch::NotOurs => Answer::NotOurs,
        Touch::NoMemory => Answer::NoMemory,
    }
}

/// Pages from the heap.
struct Heap;

const PAGE: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

impl Heap {
    fn take() -> Option<NonNull<u8>> {
        // Tried, not waited for: a fault may have come from within the heap.
        let page = heap::MEMORY.try_lock()?.alloc(PAGE)?;
        // SAFETY: a page of RAM that is ours alone.
        unsafe { page.write_bytes(0, PAGE_SIZE) };
        Some(page)
    }

    fn give_back(address: usize) {
        let page = NonNull::new(ptr::with_exposed_provenance_mut(address));
        let page = page.expect("page 0 is not of the heap");
        // SAFETY: by the contract of `Backing`, which `Space` keeps, `take` gave this page and
        // nobody has it any more.
        unsafe { heap::MEMORY.lock().dealloc(page, PAGE) };
    }
}

impl Backing for Heap {
    fn take_page(&mut self) -> Option<u64> {
        Some(Self::take()?.expose_provenance().get() as u64)
    }

    fn give_page_back(&mut self, address: u64) {
        Self::give_back(address as usize);
    }

    fn take_table(&mut self) -> Option<&'static Table> {
        let page = Self::take()?.cast::<Table>();
        // SAFETY: a zeroed page of its own is an empty table; it is given back only once nobody
        // has a reference any more.
        Some(unsafe { page.as_ref() })
    }

    fn give_table_back(&mut self, table: &'static Table) {
        Self::give_back((&raw const *table).expose_provenance());
    }

    fn forget(&mut self, address: usize) {
        paging::forget(address);
    }
}
