//! 2-level event channels.
//!
//! [`Events::note`] moves what Xen marked pending into a bitmap of our own, counts, and masks the
//! ports it noted. [`Events::dispatch`], in the run loop, takes the bitmap and wakes tasks. Ports stay
//! masked until the run loop has nothing left to do ([`Events::prepare_to_sleep`]); until then it
//! looks at their pending bits itself, each turn. So a port interrupts at most once between two
//! sleeps of the processor, however many events a peer sends (XSA-332, XSA-391), and the storm is
//! slowed down to the pace at which we work.
//!
//! The handler takes no lock, calls no task code and allocates nothing.

mod port;

use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::task::Waker;

use spin::{Mutex, MutexGuard, Once};

use crate::abi::{EVENT_PORTS, shared_info, vcpu_info};
use crate::counter::Counter;
use crate::memory::Frame;
pub use port::Port;

/// The shared info page, once it is mapped.
pub(crate) static SHARED_INFO: Once<Frame> = Once::new();

/// The events of this machine.
pub(crate) static EVENTS: Events = Events::new();

const WORDS: usize = (EVENT_PORTS / 64) as usize;
// Of vCPU 0, the only one.
const UPCALL_PENDING: usize = offset_of!(vcpu_info, evtchn_upcall_pending);
const SELECTOR: usize = offset_of!(vcpu_info, evtchn_pending_sel);
const PENDING: usize = offset_of!(shared_info, evtchn_pending);
const MASK: usize = offset_of!(shared_info, evtchn_mask);

/// The handler of the callback vector: notes which ports have events, and returns. For the wake-up
/// from a sleep; while the run loop works it looks itself.
///
/// Runs with interrupts off. Needs no end-of-interrupt: Xen injects the vector for as long as
/// `evtchn_upcall_pending` is set, and this clears it.
pub fn upcall() {
    if let Some(shared) = SHARED_INFO.get() {
        EVENTS.upcalls.add();
        EVENTS.note(shared);
    }
}

/// Events that were noted and not yet dispatched, counters, and who waits for them.
pub(crate) struct Events {
    /// Bit n: `noted[n]` is not zero.
    words: AtomicU64,
    /// Bit n of word w: port 64 w + n had an event since the last dispatch.
    noted: [AtomicU64; WORDS],
    /// Bit n: `masked[n]` is not zero.
    masked_words: AtomicU64,
    /// Ports that are masked because they were noted since the last sleep.
    masked: [AtomicU64; WORDS],
    /// Events per port; wrap.
    counters: [AtomicU32; EVENT_PORTS as usize],
    /// Interrupts taken.
    upcalls: Counter,
    /// Counts the domains that this guest has been. Ports of an earlier one mean nothing, or another's.
    life: AtomicU32,
    /// Ports of this life that are open.
    open: AtomicUsize,
    /// The task that waits for a port, by port number. Never locked by the handler. Made when
    /// first used: an empty vector is not all zeros, and one byte that is not zero would put
    /// the counters into the program's file.
    wakers: Once<Mutex<Vec<Option<Waker>>>>,
}

impl Events {
    const fn new() -> Self {
        Self {
            words: AtomicU64::new(0),
            noted: [const { AtomicU64::new(0) }; WORDS],
            masked_words: AtomicU64::new(0),
            masked: [const { AtomicU64::new(0) }; WORDS],
            counters: [const { AtomicU32::new(0) }; EVENT_PORTS as usize],
            upcalls: Counter::new(),
            life: AtomicU32::new(0),
            open: AtomicUsize::new(0),
            wakers: Once::new(),
        }
    }

    /// Notes everything that Xen marked pending.
    ///
    /// The order matters. First `evtchn_upcall_pending`, then the selector, then the pending
    /// bits are cleared, each before what it announces is looked at: an event that comes in
    /// between sets them again and leads to another interrupt. The other way round it would be
    /// lost. All four are locked instructions, which x86 does not reorder.
    fn note(&self, shared: &Frame) {
        shared.byte(UPCALL_PENDING).swap(0, Ordering::SeqCst);
        let selected = shared.word64(SELECTOR).swap(0, Ordering::SeqCst);
        for word in bits(selected) {
            let mask = || shared.word64(MASK + word * 8);
            let pending = || shared.word64(PENDING + word * 8);
            let ports = pending().load(Ordering::SeqCst) & !mask().load(Ordering::SeqCst);
            if ports == 0 {
                continue;
            }
            mask().fetch_or(ports, Ordering::SeqCst);
            // What is set after this was sent after this.
            pending().fetch_and(!ports, Ordering::SeqCst);
            self.masked[word].fetch_or(ports, Ordering::Release);
            self.masked_words.fetch_or(1 << word, Ordering::Release);
            self.remember(word, ports);
        }
    }

    fn remember(&self, word: usize, ports: u64) {
        self.count(word, ports);
        // Release: who takes the bit sees the counter.
        self.noted[word].fetch_or(ports, Ordering::Release);
        self.words.fetch_or(1 << word, Ordering::Release);
    }

    /// Whether there is anything for [`dispatch`](Self::dispatch).
    pub(crate) fn any_noted(&self) -> bool {
        self.words.load(Ordering::Acquire) != 0
    }

    /// Looks for events, without an interrupt for them, and wakes the tasks that wait for those
    /// ports. Returns whether there were any. No port is unmasked.
    pub(crate) fn dispatch(&self, shared: &Frame) -> bool {
        if shared.byte(UPCALL_PENDING).load(Ordering::Acquire) != 0 {
            self.note(shared);
        }
        for word in bits(self.masked_words.load(Ordering::Acquire)) {
            self.take_pending(shared, word, self.masked[word].load(Ordering::Acquire));
        }
        if !self.any_noted() {
            return false;
        }
        let words = self.words.swap(0, Ordering::AcqRel);
        for word in bits(words) {
            let ports = self.noted[word].swap(0, Ordering::AcqRel);
            for bit in bits(ports) {
                self.wake(word * 64 + bit);
            }
        }
        words != 0
    }

    /// Lets all ports that were noted interrupt again. True when there is something to dispatch: then
    /// the processor must not sleep. Events that come after this raise an upcall, which ends a sleep.
    ///
    /// No hypercall: with one vCPU, which is this one, there is no other processor to tell.
    pub(crate) fn prepare_to_sleep(&self, shared: &Frame) -> bool {
        for word in bits(self.masked_words.swap(0, Ordering::AcqRel)) {
            let ports = self.masked[word].swap(0, Ordering::AcqRel);
            self.unmask(shared, word, ports);
        }
        self.any_noted() || shared.byte(UPCALL_PENDING).load(Ordering::Acquire) != 0
    }

    /// Clears mask bits. An event that came while they were set raised no upcall and never will, so
    /// look for it after.
    fn unmask(&self, shared: &Frame, word: usize, ports: u64) {
        // Locked, so it is done before the pending bits are read; Xen sets those before it
        // reads the mask. One of the two sees the other.
        shared
            .word64(MASK + word * 8)
            .fetch_and(!ports, Ordering::SeqCst);
        self.take_pending(shared, word, ports);
    }

    /// Remembers the events of `ports`, whose upcall, if there is one, has nothing left to note.
    fn take_pending(&self, shared: &Frame, word: usize, ports: u64) {
        let pending = || shared.word64(PENDING + word * 8);
        if pending().load(Ordering::SeqCst) & ports != 0 {
            // Cleared before the tasks look at what was announced.
            let found = pending().fetch_and(!ports, Ordering::SeqCst) & ports;
            self.remember(word, found);
        }
    }

    /// Lets a port that was just opened interrupt. Needs no hypercall either.
    pub(crate) fn open(&self, shared: &Frame, port: u32) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.unmask(shared, port as usize / 64, 1 << (port % 64));
    }

    /// Masks a port and forgets what was noted of it: it is about to be closed, or was just
    /// opened under a number that was used before. Nothing of it is noted or dispatched until
    /// it is unmasked.
    pub(crate) fn silence(&self, shared: &Frame, port: u32) {
        let (word, bit) = (port as usize / 64, 1_u64 << (port % 64));
        // Masked first, so that the handler, coming now, does not note it again.
        shared
            .word64(MASK + word * 8)
            .fetch_or(bit, Ordering::SeqCst);
        self.noted[word].fetch_and(!bit, Ordering::SeqCst);
        self.masked[word].fetch_and(!bit, Ordering::SeqCst);
        let waker = self.wakers().get_mut(port as usize).and_then(Option::take);
        drop(waker);
    }

    /// Which life of the guest this is: see [`start_over`](Self::start_over).
    pub(crate) fn life(&self) -> u32 {
        self.life.load(Ordering::Relaxed)
    }

    /// The guest is another domain now, with a shared info page of its own: all ports of before are
    /// gone, whatever their numbers mean here. All are masked, nothing is noted, and who waited for
    /// one is woken.
    pub(crate) fn start_over(&self, shared: &Frame) {
        self.life.fetch_add(1, Ordering::Relaxed);
        self.open.store(0, Ordering::Relaxed);
        self.mask_all(shared);
        self.words.store(0, Ordering::Relaxed);
        self.masked_words.store(0, Ordering::Relaxed);
        for bits in self.noted.iter().chain(&self.masked) {
            bits.store(0, Ordering::Relaxed);
        }
        let wakers = core::mem::take(&mut *self.wakers());
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    /// Ports that are open.
    pub(crate) fn open_ports(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Masks all ports.
    pub(crate) fn mask_all(&self, shared: &Frame) {
        for word in 0..WORDS {
            shared
                .word64(MASK + word * 8)
                .store(u64::MAX, Ordering::SeqCst);
        }
    }

    /// Silences a port that was [opened](Self::open), for good.
    pub(crate) fn close(&self, shared: &Frame, port: u32) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.silence(shared, port);
    }

    /// Events of a port so far; wraps.
    pub(crate) fn events(&self, port: u32) -> u32 {
        self.counters[port as usize].load(Ordering::Acquire)
    }

    /// Interrupts so far.
    pub(crate) fn upcalls(&self) -> u64 {
        self.upcalls.get()
    }

    /// Has `waker` woken by the next event of a port, in place of whoever waited before.
    pub(crate) fn wake_on_event(&self, port: u32, waker: &Waker) {
        let mut wakers = self.wakers();
        let index = port as usize;
        if wakers.len() <= index {
            wakers.resize(index + 1, None);
        }
        let previous = match &mut wakers[index] {
            Some(known) if known.will_wake(waker) => None,
            other => other.replace(waker.clone()),
        };
        // A waker's drop is foreign code: not under the lock.
        drop(wakers);
        drop(previous);
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        self.wakers.call_once(Mutex::default).lock()
    }

    fn wake(&self, port: usize) {
        let waker = self.wakers().get_mut(port).and_then(Option::take);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn count(&self, word: usize, ports: u64) {
        for bit in bits(ports) {
            self.counters[word * 64 + bit].fetch_add(1, Ordering::Release);
        }
    }
}

/// The numbers of the bits that are set, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
