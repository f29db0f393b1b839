//! The heap: which layer serves which request.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use crate::PAGE_SIZE;
use crate::pages::{LONGEST_RUN, Pages};
use crate::slabs::{Class, LARGEST, Slabs};

/// All memory of the guest that is not set apart.
pub struct Memory {
    pages: Pages,
    slabs: Slabs,
}

/// How much memory there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    /// In all, without what is absent.
    pub total: usize,
    /// In pages of which nobody uses a byte.
    pub free: usize,
    /// In pages that are withdrawn: addresses of RAM with none behind them.
    pub absent: usize,
}

/// The part of the memory that is left to small requests, and the most of it in bytes.
const RESERVE_PART: usize = 32;
const LARGEST_RESERVE: usize = 128 * 1024;

/// What serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Slab(Class),
    Run(usize),
    Block(Layout),
}

impl Route {
    #[inline]
    fn of(layout: Layout) -> Self {
        let (size, align) = (layout.size(), layout.align());
        // Objects are aligned to 16, and to their size if that is a power of two.
        let size = match align {
            ..=16 => size,
            _ => size.max(align).checked_next_power_of_two().unwrap_or(size),
        };
        if size <= LARGEST {
            return Self::Slab(Class::of(size.max(1)));
        }
        if size <= LONGEST_RUN * PAGE_SIZE {
            return Self::Run(layout.size().max(align).div_ceil(PAGE_SIZE));
        }
        Self::Block(layout)
    }
}

impl Memory {
    /// No memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pages: Pages::new(),
            slabs: Slabs::new(),
        }
    }

    /// Takes over the RAM at `regions`, which are the same at each call and in ascending order. What lies from the
    /// address `present_end` on is absent until it is [restored](Self::restore), and not touched before. Returns the
    /// bytes left out, which is 0 unless RAM lies in more than eight places far from each other.
    ///
    /// # Safety
    /// 1. The regions are RAM, mapped writable at these addresses for good, unless absent.
    /// 2. Nobody uses them for anything else.
    /// 3. It is called once.
    pub unsafe fn start<I: Iterator<Item = Range<usize>>>(
        &mut self,
        regions: impl Fn() -> I,
        present_end: usize,
    ) -> usize {
        // SAFETY: the same contract.
        unsafe { self.pages.start(regions, present_end) }
    }

    /// Takes a run of free pages out of the heap, as long as can be had but at most `most` pages and 2 MiB: absent
    /// from now on. The length is a power of two, and the start a multiple of it. `None`: no page is free.
    pub fn withdraw(&mut self, most: usize) -> Option<Range<usize>> {
        self.pages.withdraw(most).or_else(|| {
            self.slabs
                .give_empty_slabs_back(&mut self.pages)
                .then(|| self.pages.withdraw(most))?
        })
    }

    /// A run of absent pages, at most `most` and 2 MiB, with length and start as those of
    /// [`withdraw`](Self::withdraw). It stays absent. `None`: no page is absent.
    pub fn absent_run(&mut self, most: usize) -> Option<Range<usize>> {
        self.pages.absent_run(most)
    }

    /// Takes absent pages back into the heap.
    ///
    /// # Safety
    /// `run` is from [`withdraw`](Self::withdraw) or [`absent_run`](Self::absent_run), or the part of such a run that
    /// is as long as its start is aligned; all of it is absent, and RAM again, mapped writable at its addresses.
    ///
    /// # Panics
    /// If a page is not absent.
    pub unsafe fn restore(&mut self, run: Range<usize>) {
        // SAFETY: the same contract.
        unsafe { self.pages.restore(run) };
    }

    /// Memory for `layout`, or `None` if there is none. The content is left over from earlier use.
    #[inline]
    pub fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc(layout)
            .or_else(|| self.alloc_after_cleaning(layout))
    }

    #[inline]
    fn try_alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        match Route::of(layout) {
            Route::Slab(class) => self.slabs.take(class, &mut self.pages),
            Route::Run(count) => {
                self.leaves_reserve(count * PAGE_SIZE)?;
                self.pages.take(count)
            }
            Route::Block(layout) => {
                self.leaves_reserve(layout.size())?;
                self.pages.take_block(layout)
            }
        }
    }

    /// `None` if the last pages would go to a request of a page or more. They are for small ones: those of the run
    /// loop, the network and the drivers, whose failure would end the guest, where a large request can be refused.
    #[inline]
    fn leaves_reserve(&self, bytes: usize) -> Option<()> {
        let reserve = (self.pages.total() / RESERVE_PART).min(LARGEST_RESERVE);
        let left = self.pages.free().checked_sub(bytes)?;
        (left >= reserve).then_some(())
    }

    #[cold]
    fn alloc_after_cleaning(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.slabs
            .give_empty_slabs_back(&mut self.pages)
            .then(|| self.try_alloc(layout))?
    }

    /// Takes memory back.
    ///
    /// # Safety
    /// `start` is from [`alloc`](Self::alloc) of this value with a layout that
    /// [fits the same place](Self::fits_the_same_place), and nobody uses it any more.
    #[inline]
    pub unsafe fn dealloc(&mut self, start: NonNull<u8>, layout: Layout) {
        match Route::of(layout) {
            // SAFETY: the same contract: the route is that of `alloc`.
            Route::Slab(class) => unsafe { self.slabs.give_back(start, class, &mut self.pages) },
            // SAFETY: the same.
            Route::Run(count) => unsafe { self.pages.give_back(start, count) },
            // SAFETY: the same.
            Route::Block(layout) => unsafe { self.pages.give_block_back(start, layout) },
        }
    }

    /// Whether memory for the one layout serves the other, too, as rounding up leaves room.
    #[must_use]
    pub fn fits_the_same_place(one: Layout, other: Layout) -> bool {
        Route::of(one) == Route::of(other)
    }

    /// How much there is.
    #[must_use]
    pub fn information(&self) -> Information {
        Information {
            total: self.pages.total(),
            free: self.pages.free(),
            absent: self.pages.absent(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "absent_tests.rs"]
mod absent_tests;
#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
