//! Which allocation of a thread fails.
//!
//! Called by the allocator, so nothing here allocates: the thread's variables are plain cells that
//! need no set-up and no destructor.

use std::alloc::Layout;
use std::cell::Cell;

/// Blocks of this size in bytes serve smaller requests, too, one after the other: heaps cut those from pages.
const PAGE: usize = 4096;

/// Blocks of which it is remembered that they were taken, or given back, a moment ago.
const REMEMBERED: usize = 16;

thread_local! {
    static THREAD: State = const { State::new() };
}

struct State {
    /// Allocations count.
    counts: Cell<bool>,
    /// Allocations that were counted.
    count: Cell<u64>,
    /// The number of the one that fails, from 0.
    fails_at: Cell<u64>,
    /// Show where it is.
    shows: Cell<bool>,
    /// Addresses of the blocks taken last, the eldest at `next`.
    taken: [Cell<usize>; REMEMBERED],
    next: Cell<usize>,
    /// What was given back of those since the last allocation that counted.
    given: [Cell<Option<Layout>>; REMEMBERED],
}

impl State {
    const fn new() -> Self {
        Self {
            counts: Cell::new(false),
            count: Cell::new(0),
            fails_at: Cell::new(u64::MAX),
            shows: Cell::new(false),
            taken: [const { Cell::new(0) }; REMEMBERED],
            next: Cell::new(0),
            given: [const { Cell::new(None) }; REMEMBERED],
        }
    }

    fn forget_blocks(&self) {
        self.taken.iter().for_each(|address| address.set(0));
        self.given.iter().for_each(|layout| layout.set(None));
    }

    fn refuses(&self, layout: Layout) -> bool {
        if !self.counts.get() {
            return false;
        }
        if self.given.iter().any(|free| take_from(free, layout)) {
            return false;
        }
        self.given.iter().for_each(|free| free.set(None));
        let number = self.count.replace(self.count.get() + 1);
        let fails = number == self.fails_at.get();
        if fails && self.shows.get() {
            self.counts.set(false);
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
            self.counts.set(true);
        }
        fails
    }

    fn took(&self, address: usize) {
        if self.counts.get() {
            let next = self.next.replace((self.next.get() + 1) % REMEMBERED);
            self.taken[next].set(address);
        }
    }

    fn gave(&self, address: usize, layout: Layout) {
        if !self.counts.get() {
            return;
        }
        let Some(taken) = self.taken.iter().find(|taken| taken.get() == address) else {
            return;
        };
        taken.set(0);
        if let Some(place) = self.given.iter().find(|free| free.get().is_none()) {
            place.set(Some(layout));
        }
    }
}

/// Serves a request from a block that was given back, if it can: with the whole block, or with a part of
/// a large one.
fn take_from(free: &Cell<Option<Layout>>, wanted: Layout) -> bool {
    let Some(block) = free.get() else {
        return false;
    };
    if block == wanted {
        free.set(None);
        return true;
    }
    // Heaps round up: ours by a quarter at most.
    let part = wanted.size() / 4 * 5 + 16;
    let rest = block.size().saturating_sub(part);
    let serves = block.size() >= PAGE && rest > 0 && wanted.align() <= PAGE;
    if serves {
        free.set(Layout::from_size_align(rest, block.align()).ok());
    }
    serves
}

/// Whether this allocation is to fail.
pub(crate) fn refuses(layout: Layout) -> bool {
    THREAD.with(|state| state.refuses(layout))
}

/// A block was taken.
pub(crate) fn took(address: usize) {
    THREAD.with(|state| state.took(address));
}

/// A block is given back.
pub(crate) fn gave(address: usize, layout: Layout) {
    THREAD.with(|state| state.gave(address, layout));
}

/// Counts the allocations of this thread, from `already` on; the one with the number `fails_at` fails.
pub(crate) fn begin(already: u64, fails_at: u64, shows: bool) {
    THREAD.with(|state| {
        state.forget_blocks();
        state.count.set(already);
        state.fails_at.set(fails_at);
        state.shows.set(shows);
        state.counts.set(true);
    });
}

/// Allocations do not fail any more. Returns how far they were counted.
pub(crate) fn end() -> u64 {
    THREAD.with(|state| {
        state.counts.set(false);
        state.count.get()
    })
}

/// Does `work` with memory that does not run out: what the other side of a wire or ring does, and
/// the test itself.
pub fn unharmed<R>(work: impl FnOnce() -> R) -> R {
    /// Also when `work` panics.
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            THREAD.with(|state| state.counts.set(self.0));
        }
    }

    let _before = Before(THREAD.with(|state| state.counts.replace(false)));
    work()
}
