//! Pages that are addresses of RAM but have none behind them: the balloon's.
//!
//! They are bits in their windows, so that giving memory back needs none, however much it is.
//! An absent page is in no free list, and nothing reads or writes it until it is restored.

use core::alloc::Layout;
use core::ops::Range;

use super::{LONGEST_RUN, ORDERS, Pages, Span, WINDOW_PAGES, WINDOW_SIZE, Window, mask, runs};
use crate::{LARGE_SIZE, PAGE_SIZE};

/// Pages of the longest run that is withdrawn or restored at a time.
const LARGE_PAGES: usize = LARGE_SIZE / PAGE_SIZE;
const LARGE_WINDOWS: usize = LARGE_SIZE / WINDOW_SIZE;

const _: () = assert!(LONGEST_RUN < WINDOW_PAGES && LARGE_WINDOWS * WINDOW_PAGES == LARGE_PAGES);

impl Pages {
    /// Bytes of absent pages.
    pub(crate) fn absent(&self) -> usize {
        self.absent * PAGE_SIZE
    }

    /// Takes a run of free pages out of the heap, as long as can be had but at most `most` pages:
    /// absent from now on. The length is a power of two, and the start a multiple of it.
    pub(crate) fn withdraw(&mut self, most: usize) -> Option<Range<usize>> {
        let lengths = [LARGE_PAGES, 64, 32, 16, 8, 4, 2, 1];
        let mut lengths = lengths.into_iter().filter(|&length| length <= most);
        lengths.find_map(|length| {
            let start = match length {
                LARGE_PAGES => self.take_block(large()?)?,
                length => self.take(length)?,
            };
            let start = start.addr().get();
            let run = start..start + length * PAGE_SIZE;
            self.each_window(&run, |window, pages| {
                window.owned &= !pages;
                window.absent |= pages;
            });
            self.absent += length;
            self.withdrawn += run.len();
            Some(run)
        })
    }

    /// A run of absent pages, at most `most`, with length and start as those of
    /// [`withdraw`](Self::withdraw). It stays absent.
    pub(crate) fn absent_run(&mut self, most: usize) -> Option<Range<usize>> {
        if most == 0 {
            return None;
        }
        let found = self.windows.iter().skip(self.first_absent);
        let skipped = found.take_while(|window| window.absent == 0).count();
        self.first_absent += skipped;
        if most >= LARGE_PAGES
            && let Some(start) = self.large_absent_run()
        {
            return Some(start..start + LARGE_SIZE);
        }
        let window = self.windows.get(self.first_absent)?;
        let longest = most.min(WINDOW_PAGES).ilog2() as usize;
        let order = (0..=longest.min(ORDERS - 1))
            .rev()
            .find(|&order| runs(window.absent, order) != 0)?;
        let first = runs(window.absent, order).trailing_zeros() as usize;
        let start = self.address_of(self.first_absent as u32)? + first * PAGE_SIZE;
        Some(start..start + (PAGE_SIZE << order))
    }

    /// Takes back absent pages.
    ///
    /// # Safety
    /// `run` is of [`absent_run`](Self::absent_run) or [`withdraw`](Self::withdraw), still absent,
    /// and RAM again, mapped writable at its addresses.
    ///
    /// # Panics
    /// If the pages are not absent.
    pub(crate) unsafe fn restore(&mut self, run: Range<usize>) {
        self.each_window(&run, |window, pages| {
            assert!(
                window.absent & pages == pages,
                "pages are restored that are not absent"
            );
            window.absent &= !pages;
        });
        self.absent -= run.len() / PAGE_SIZE;
        // SAFETY: RAM by the caller's duty; the buddy allocator has no record of it, as it has
        // none of blocks in use.
        unsafe { self.buddy.add_to_heap(run.start, run.end) };
        // Adding does not join a block with its neighbour, giving back does. What was added last
        // is given out first; were it not, joining is all that would be missed.
        let Ok(layout) = Layout::from_size_align(run.len(), run.len()) else {
            return;
        };
        if let Ok(block) = self.buddy.alloc(layout) {
            // SAFETY: just taken, with this layout.
            unsafe { self.buddy.dealloc(block, layout) };
        }
    }

    /// Marks what was never in the heap.
    pub(super) fn mark_absent(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let pages = range.len() / PAGE_SIZE;
        self.each_window(&range, |window, pages| window.absent |= pages);
        self.absent += pages;
    }

    /// The first run of a large page from where absent pages begin.
    fn large_absent_run(&self) -> Option<usize> {
        let whole = |windows: &[Window]| windows.iter().all(|window| window.absent == u64::MAX);
        self.spans.iter().find_map(|span: &Span| {
            let last = span.first + span.bytes / WINDOW_SIZE;
            let from = span.first.max(self.first_absent);
            let start = span.start + (from.min(last) - span.first) * WINDOW_SIZE;
            let first_large = start.next_multiple_of(LARGE_SIZE);
            (first_large..span.start + span.bytes)
                .step_by(LARGE_SIZE)
                .find(|start| {
                    let first = span.first + (start - span.start) / WINDOW_SIZE;
                    let windows = self.windows.get(first..first + LARGE_WINDOWS);
                    first + LARGE_WINDOWS <= last && windows.is_some_and(whole)
                })
        })
    }

    /// Shows `change` each window that has pages of the range, and which.
    fn each_window(&mut self, range: &Range<usize>, change: impl Fn(&mut Window, u64)) {
        let mut start = range.start;
        while start < range.end {
            let Some(span) = self.span_of(start) else {
                return;
            };
            let number = span.first + (start - span.start) / WINDOW_SIZE;
            let first = start / PAGE_SIZE % WINDOW_PAGES;
            let count = ((range.end - start) / PAGE_SIZE).min(WINDOW_PAGES - first);
            if let Some(window) = self.windows.get_mut(number) {
                change(window, mask(count) << first);
                if window.absent != 0 {
                    self.first_absent = self.first_absent.min(number);
                }
            }
            start += count * PAGE_SIZE;
        }
    }
}

/// The layout of a large page.
fn large() -> Option<Layout> {
    Layout::from_size_align(LARGE_SIZE, LARGE_SIZE).ok()
}
