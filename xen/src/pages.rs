//! The pool of pages that are shared with others.
//!
//! Pages in it are used for nothing else, ever: a peer that maps one sees zeros and what was
//! written for it, never a neighbour on the heap (XSA-403). The bookkeeping is apart from the
//! pages, so no pointer of ours is in them.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};

use xen_proto::hypervisor::PAGE_SIZE;

use crate::memory::Frame;

/// Free pages, by frame number. The one given back last is handed out first: it is in cache.
#[derive(Debug, Default)]
pub(crate) struct PagePool {
    free: Vec<u32>,
    pages: usize,
}

/// Why a range was not taken into the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// Start or end is not a multiple of 4096, or the range is empty or includes address 0.
    Malformed,
    /// Beyond 16 TiB: a version 1 grant entry has 32 bits for a frame number.
    TooHigh,
    /// No heap for the bookkeeping.
    NoMemory,
}

impl fmt::Display for RangeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "range is empty, not page-aligned or starts at address 0",
            Self::TooHigh => "range ends above 16 TiB, where frames cannot be granted",
            Self::NoMemory => "no heap left for the bookkeeping of the range",
        })
    }
}

impl core::error::Error for RangeError {}

impl From<TryReserveError> for RangeError {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}

impl PagePool {
    /// Adds the pages of a range of addresses.
    ///
    /// # Safety
    /// 1. The range is mapped readable and writable RAM, virtual addresses equal to physical
    ///    ones, for as long as the program runs.
    /// 2. Nothing else in this program accesses it, and it was not added before.
    ///
    /// # Errors
    /// [`RangeError`]; the pool is unchanged.
    pub(crate) unsafe fn add(&mut self, range: Range<usize>) -> Result<(), RangeError> {
        let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
        if !aligned || range.is_empty() || range.start == 0 {
            return Err(RangeError::Malformed);
        }
        let end = u32::try_from(range.end / PAGE_SIZE).map_err(|_| RangeError::TooHigh)?;
        let first = end - (range.len() / PAGE_SIZE) as u32;
        // Room for every page of the pool, so that giving one back never allocates.
        let pages = self.pages + (end - first) as usize;
        self.free.try_reserve_exact(pages - self.free.len())?;
        self.free.extend((first..end).rev());
        self.pages = pages;
        Ok(())
    }

    /// A zeroed page, or `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<OwnedPage> {
        let page = OwnedPage {
            frame: page_at(self.free.pop()?),
        };
        page.frame.clear();
        Some(page)
    }

    /// Takes a page back.
    pub(crate) fn give_back(&mut self, page: OwnedPage) {
        self.free.push(page.number());
    }

    /// Pages not in use.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages in all.
    pub(crate) fn total(&self) -> usize {
        self.pages
    }
}

/// A page taken from the pool: there is one value per page. Dropping it loses the page.
#[derive(Debug)]
pub(crate) struct OwnedPage {
    frame: Frame,
}

impl OwnedPage {
    /// The guest frame number.
    pub(crate) fn number(&self) -> u32 {
        // `PagePool::add` refused what does not fit.
        (self.frame.address() / PAGE_SIZE) as u32
    }

    /// Gives the page up for good: its place is taken by another one.
    pub(crate) fn into_frame(self) -> Frame {
        self.frame
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &Frame {
        &self.frame
    }
}

/// The memory of a frame of the pool.
fn page_at(number: u32) -> Frame {
    let address = NonNull::new(ptr::with_exposed_provenance_mut(
        number as usize * PAGE_SIZE,
    ));
    // Not zero: `PagePool::add` refuses frame 0.
    let address = address.expect("frame 0 in the page pool");
    // SAFETY: `number` came from `PagePool::free`, so from a range given to `PagePool::add`:
    // 1. and 2. are what its caller promised; it was taken off the list, so this is the only
    // value that refers to it.
    unsafe { Frame::new(address) }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::memory::test_page::frames;

    fn pool(pages: usize) -> PagePool {
        let mut pool = PagePool::default();
        // SAFETY: leaked memory that only the pool knows, user space is mapped once.
        unsafe { pool.add(frames(pages)) }.unwrap();
        pool
    }

    #[test]
    fn every_page_is_handed_out_once_and_zeroed() {
        let mut pool = pool(3);
        let taken: Vec<_> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 3);
        assert!(pool.take().is_none());
        let mut numbers: Vec<_> = taken.iter().map(OwnedPage::number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), 3);
        for page in taken {
            page.memory().word64(4088).store(u64::MAX, Relaxed);
            pool.give_back(page);
        }
        assert_eq!((pool.free(), pool.total()), (3, 3));
        let page = pool.take().unwrap();
        assert_eq!(page.memory().word64(4088).load(Relaxed), 0);
    }

    #[test]
    fn giving_back_does_not_allocate() {
        let mut pool = pool(64);
        let capacity = pool.free.capacity();
        let taken: Vec<_> = core::iter::from_fn(|| pool.take()).collect();
        taken.into_iter().for_each(|page| pool.give_back(page));
        assert_eq!(pool.free.capacity(), capacity);
    }

    #[test]
    fn bad_ranges_are_refused() {
        let mut pool = PagePool::default();
        let mut add = |range| {
            // SAFETY: none of these ranges is taken, so none is ever accessed.
            unsafe { pool.add(range) }
        };
        assert_eq!(add(4096..4096), Err(RangeError::Malformed));
        assert_eq!(add(0..4096), Err(RangeError::Malformed));
        assert_eq!(add(4097..8192), Err(RangeError::Malformed));
        assert_eq!(add(4096..8191), Err(RangeError::Malformed));
        assert_eq!(add(4096..1 << 44), Err(RangeError::TooHigh));
        assert_eq!(pool.total(), 0);
    }
}
