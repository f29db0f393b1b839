//! Runs of pages: bitmaps over windows of RAM, filled from the buddy allocator and emptied back
//! into it.
//!
//! A window is 256 KiB of RAM, aligned: one bit per page in a word. Windows with free pages are
//! in lists by their largest free run of 1, 2, 4 ... 64 aligned pages, so a window with a run
//! long enough is the head of a list, and the run's place a matter of bit arithmetic.

mod absent;

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::slice;

use buddy_system_allocator::Heap;

use crate::PAGE_SIZE;

/// Pages in a window.
const WINDOW_PAGES: usize = 64;
const WINDOW_SIZE: usize = WINDOW_PAGES * PAGE_SIZE;
/// The longest run. Longer ones waste at most half in the buddy allocator, and are rare.
pub(crate) const LONGEST_RUN: usize = 32;
/// Largest free runs have 1 << 0 to 1 << 6 pages.
const ORDERS: usize = 7;
/// Pieces of RAM far from each other. Xen and QEMU make three at most.
const SPANS: usize = 8;
/// Pieces nearer to each other than this share a span: the windows in between cost 8 KiB.
const NEAR: usize = 64 << 20;

const NONE: u32 = u32::MAX;

/// What is known of a window.
#[derive(Clone, Copy)]
struct Window {
    /// Pages that came from the buddy allocator.
    owned: u64,
    /// Those of them that nobody uses.
    free: u64,
    /// Pages that the heap must not touch: see [`absent`].
    absent: u64,
    previous: u32,
    next: u32,
}

const EMPTY: Window = Window {
    owned: 0,
    free: 0,
    absent: 0,
    previous: NONE,
    next: NONE,
};

/// Consecutive windows, from the address `start` on.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    bytes: usize,
    /// Number of its first window.
    first: usize,
}

/// All RAM that was given to the heap.
pub(crate) struct Pages {
    buddy: Heap<48>,
    windows: &'static mut [Window],
    spans: [Span; SPANS],
    /// First window of each list, by the order of the largest free run.
    lists: [u32; ORDERS],
    /// Free pages in windows.
    loose: usize,
    /// A window all of whose pages are free, kept so that a page taken and given back in turn does
    /// not make the buddy allocator split and merge each time.
    spare: u32,
    /// Pages that are absent now.
    absent: usize,
    /// Bytes that were ever withdrawn: the buddy allocator counts them as in use for good.
    withdrawn: usize,
    /// The window from which on absent pages are looked for: none before it has any.
    first_absent: usize,
}

impl Pages {
    pub(crate) const fn new() -> Self {
        Self {
            buddy: Heap::new(),
            windows: &mut [],
            spans: [Span {
                start: 0,
                bytes: 0,
                first: 0,
            }; SPANS],
            lists: [NONE; ORDERS],
            loose: 0,
            spare: NONE,
            absent: 0,
            withdrawn: 0,
            first_absent: 0,
        }
    }

    /// Takes over the RAM at `regions`, which are the same at each call and in ascending order;
    /// what lies from the address `present_end` on is absent, and not touched. Returns the bytes left
    /// out because they lie in too many far places.
    ///
    /// # Safety
    /// 1. The regions are RAM, mapped writable at these addresses for good.
    /// 2. Nobody uses them for anything else.
    /// 3. It is called once.
    pub(crate) unsafe fn start<I: Iterator<Item = Range<usize>>>(
        &mut self,
        regions: impl Fn() -> I,
        present_end: usize,
    ) -> usize {
        let regions = || {
            let whole = regions().map(whole_pages);
            whole.filter(|region| !region.is_empty())
        };
        let windows = self.lay_out(regions());
        let bytes = (windows * size_of::<Window>()).next_multiple_of(PAGE_SIZE);
        let mut unplaced = Some(bytes);
        let mut left_out = 0;
        for mut region in regions() {
            if self.span_of(region.start).is_none() {
                left_out += region.len();
                continue;
            }
            let absent = region.start.max(present_end)..region.end;
            region.end = region.end.min(present_end);
            if unplaced.is_some_and(|bytes| region.len() > bytes) {
                let start: *mut Window = ptr::with_exposed_provenance_mut(region.start);
                for index in 0..windows {
                    let place = start.wrapping_add(index);
                    // SAFETY: inside the region, which is ours by the caller's duties 1 and 2.
                    unsafe { place.write(EMPTY) };
                }
                // SAFETY: just written; the region is shortened below, so nobody else gets it.
                self.windows = unsafe { slice::from_raw_parts_mut(start, windows) };
                region.start += bytes;
                unplaced = None;
            }
            if !region.is_empty() {
                // SAFETY: the caller's duties; the windows' own pages were cut off.
                unsafe { self.buddy.add_to_heap(region.start, region.end) };
            }
            self.mark_absent(absent);
        }
        left_out
    }

    /// Decides on the spans; returns the number of their windows.
    fn lay_out(&mut self, regions: impl Iterator<Item = Range<usize>>) -> usize {
        let mut used = 0;
        let mut windows = 0;
        for region in regions {
            let start = region.start & !(WINDOW_SIZE - 1);
            let end = region.end.next_multiple_of(WINDOW_SIZE);
            let last: Option<&mut Span> = self.spans[..used].last_mut();
            match last {
                Some(span) if start.saturating_sub(span.start + span.bytes) < NEAR => {
                    let bytes = end - span.start;
                    windows += (bytes - span.bytes) / WINDOW_SIZE;
                    span.bytes = bytes;
                }
                _ if used < SPANS => {
                    self.spans[used] = Span {
                        start,
                        bytes: end - start,
                        first: windows,
                    };
                    windows += (end - start) / WINDOW_SIZE;
                    used += 1;
                }
                _ => break,
            }
        }
        windows
    }

    /// `count` pages next to each other, at most [`LONGEST_RUN`], aligned to the next power of
    /// two of their number.
    pub(crate) fn take(&mut self, count: usize) -> Option<NonNull<u8>> {
        let order = count.next_power_of_two().trailing_zeros() as usize;
        let list = (order..ORDERS).find(|&order| self.lists[order] != NONE);
        let number = match list {
            Some(list) => self.lists[list],
            None => self.refill(order)?,
        };
        let window = self.windows.get_mut(number as usize)?;
        let first = runs(window.free, order).trailing_zeros() as usize;
        let before = largest(window.free);
        window.free &= !(mask(count) << first);
        let after = largest(window.free);
        self.loose -= count;
        if self.spare == number {
            self.spare = NONE;
        }
        self.relist(number, before, after);
        let start = self.address_of(number)? + first * PAGE_SIZE;
        NonNull::new(ptr::with_exposed_provenance_mut(start))
    }

    /// Takes back what [`take`](Self::take) gave.
    ///
    /// # Safety
    /// `start` is from `take` with the same `count`, and nobody uses the pages any more.
    ///
    /// # Panics
    /// If the pages are not in use.
    pub(crate) unsafe fn give_back(&mut self, start: NonNull<u8>, count: usize) {
        let address = start.addr().get();
        let number = self.span_of(address).map(|span| {
            let offset = address - span.start;
            span.first + offset / WINDOW_SIZE
        });
        let number = number.expect("a page that is freed is RAM");
        let window = &mut self.windows[number];
        let pages = mask(count) << (address / PAGE_SIZE % WINDOW_PAGES);
        assert!(
            window.owned & pages == pages && window.free & pages == 0,
            "pages are freed that are not in use"
        );
        let before = largest(window.free);
        window.free |= pages;
        let (after, all) = (largest(window.free), window.free == window.owned);
        self.loose += count;
        self.relist(number as u32, before, after);
        if all {
            let spare = core::mem::replace(&mut self.spare, number as u32);
            self.release(spare);
        }
    }

    /// A block for which runs are too short.
    pub(crate) fn take_block(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if let Ok(block) = self.buddy.alloc(layout) {
            return Some(block);
        }
        let spare = core::mem::replace(&mut self.spare, NONE);
        self.release(spare);
        self.buddy.alloc(layout).ok()
    }

    /// Takes back what [`take_block`](Self::take_block) gave.
    ///
    /// # Safety
    /// `start` is from `take_block` with the same layout, and nobody uses the block any more.
    pub(crate) unsafe fn give_block_back(&mut self, start: NonNull<u8>, layout: Layout) {
        // SAFETY: the same contract.
        unsafe { self.buddy.dealloc(start, layout) };
    }

    /// Bytes in all, without absent pages.
    pub(crate) fn total(&self) -> usize {
        self.buddy.stats_total_bytes() - self.withdrawn
    }

    /// Bytes in pages that nobody uses.
    pub(crate) fn free(&self) -> usize {
        self.buddy.stats_total_bytes() - self.buddy.stats_alloc_actual() + self.loose * PAGE_SIZE
    }

    /// Gets pages from the buddy allocator, a whole window if it has one, else as many as it
    /// can give in one piece but at least 1 << `order`; the window's number.
    fn refill(&mut self, order: usize) -> Option<u32> {
        if self.windows.is_empty() {
            // No piece of RAM had room for them: what is taken now could not be given back.
            return None;
        }
        let layout = |order| Layout::from_size_align(PAGE_SIZE << order, PAGE_SIZE << order).ok();
        let (order, block) = (order..ORDERS)
            .rev()
            .find_map(|order| Some((order, self.buddy.alloc(layout(order)?).ok()?)))?;
        let address = block.addr().get();
        let span = self.span_of(address)?;
        let number = span.first + (address - span.start) / WINDOW_SIZE;
        let window = self.windows.get_mut(number)?;
        let before = largest(window.free);
        let pages = mask(1 << order) << (address / PAGE_SIZE % WINDOW_PAGES);
        window.owned |= pages;
        window.free |= pages;
        let after = largest(window.free);
        self.loose += 1 << order;
        if self.spare == number as u32 {
            self.spare = NONE;
        }
        self.relist(number as u32, before, after);
        Some(number as u32)
    }

    /// Gives the pages of a window, all of which are free, back to the buddy allocator.
    fn release(&mut self, number: u32) {
        let Some(window) = self.windows.get_mut(number as usize) else {
            return;
        };
        if window.owned == 0 || window.free != window.owned {
            return;
        }
        let before = largest(window.free);
        let mut rest = window.owned;
        window.owned = 0;
        window.free = 0;
        self.loose -= rest.count_ones() as usize;
        self.relist(number, before, None);
        let Some(start) = self.address_of(number) else {
            return;
        };
        for order in (0..ORDERS).rev() {
            let size = PAGE_SIZE << order;
            while runs(rest, order) != 0 {
                let first = runs(rest, order).trailing_zeros() as usize;
                rest &= !(mask(1 << order) << first);
                let block: *mut u8 = ptr::with_exposed_provenance_mut(start + first * PAGE_SIZE);
                if let (Some(block), Ok(layout)) =
                    (NonNull::new(block), Layout::from_size_align(size, size))
                {
                    // SAFETY: these pages came from the buddy allocator, as a block of this size or
                    // as several or as part of one: it keeps no record of blocks in use. Nobody uses
                    // them.
                    unsafe { self.buddy.dealloc(block, layout) };
                }
            }
        }
    }

    /// Moves a window to the list of its largest free run.
    fn relist(&mut self, number: u32, before: Option<usize>, after: Option<usize>) {
        if before == after {
            return;
        }
        if let Some(list) = before {
            let Window { previous, next, .. } = self.windows[number as usize];
            match previous {
                NONE => self.lists[list] = next,
                previous => self.windows[previous as usize].next = next,
            }
            if next != NONE {
                self.windows[next as usize].previous = previous;
            }
        }
        if let Some(list) = after {
            let head = core::mem::replace(&mut self.lists[list], number);
            if head != NONE {
                self.windows[head as usize].previous = number;
            }
            let window = &mut self.windows[number as usize];
            window.previous = NONE;
            window.next = head;
        }
    }

    #[cfg(test)]
    pub(crate) fn lay_out_for_test(
        &mut self,
        regions: impl Iterator<Item = Range<usize>>,
    ) -> usize {
        self.lay_out(regions)
    }

    fn span_of(&self, address: usize) -> Option<&Span> {
        let around = |span: &&Span| address.wrapping_sub(span.start) < span.bytes;
        self.spans.iter().find(around)
    }

    fn address_of(&self, number: u32) -> Option<usize> {
        let number = number as usize;
        let around = |span: &&Span| number.wrapping_sub(span.first) < span.bytes / WINDOW_SIZE;
        let span = self.spans.iter().find(around)?;
        Some(span.start + (number - span.first) * WINDOW_SIZE)
    }
}

/// The lowest `count` bits.
fn mask(count: usize) -> u64 {
    u64::MAX >> (WINDOW_PAGES - count)
}

/// For each free aligned run of 1 << `order` pages, the bit of its first page.
fn runs(free: u64, order: usize) -> u64 {
    /// Bits at which aligned runs of this order may begin.
    const STARTS: [u64; ORDERS] = [
        u64::MAX,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001,
        1,
    ];
    (0..order).fold(free, |runs, lower| {
        runs & runs >> (1 << lower) & STARTS[lower + 1]
    })
}

/// The order of the largest free aligned run.
fn largest(free: u64) -> Option<usize> {
    let mut runs = free;
    if runs == 0 {
        return None;
    }
    if runs == u64::MAX {
        return Some(ORDERS - 1);
    }
    for (order, &starts) in [
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001_u64,
    ]
    .iter()
    .enumerate()
    {
        runs &= runs >> (1 << order) & starts;
        if runs == 0 {
            return Some(order);
        }
    }
    Some(ORDERS - 2)
}

fn whole_pages(region: Range<usize>) -> Range<usize> {
    let start = region.start.next_multiple_of(PAGE_SIZE);
    let end = region.end & !(PAGE_SIZE - 1);
    start..end.max(start)
}
