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
    /// In all.
    pub total: usize,
    /// In pages of which nobody uses a byte.
    pub free: usize,
}

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

    /// Takes over the RAM at `regions`, which are the same at each call and in ascending order. Returns the bytes left
    /// out, which is 0 unless RAM lies in more than eight places far from each other.
    ///
    /// # Safety
    /// 1. The regions are RAM, mapped writable at these addresses for good.
    /// 2. Nobody uses them for anything else.
    /// 3. It is called once.
    pub unsafe fn start<I: Iterator<Item = Range<usize>>>(
        &mut self,
        regions: impl Fn() -> I,
    ) -> usize {
        // SAFETY: the same contract.
        unsafe { self.pages.start(regions) }
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
            Route::Run(count) => self.pages.take(count),
            Route::Block(layout) => self.pages.take_block(layout),
        }
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
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
