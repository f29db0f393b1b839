//! The grant table, version 1: which pages which domain may map.

mod page;

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use xen_proto::hypervisor::{Access, DomainId, GrantReference, ResourceError};

use crate::abi::{
    GRANT_ENTRIES_PER_FRAME, GRANT_ENTRIES_RESERVED, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_WRITING, GrantEntry,
};
use crate::hypercall::Errno;
use crate::memory::Frame;
use crate::pages::{OwnedPage, PagePool};
pub use page::GrantedMemory;

/// Quarantined entries tried again each time a page is granted or a grant ends: enough to drain
/// the quarantine faster than it fills, few enough that nobody notices.
const RETRIES: usize = 4;

/// The table, the references into it, and what is in quarantine.
///
/// A reference is free, granted, or in quarantine; the latter two own a page. Free references
/// and the quarantine are lists threaded through `slots`, so ending a grant never allocates.
#[derive(Debug)]
pub(crate) struct GrantTable {
    /// The pages of the table that are mapped so far.
    frames: Vec<Frame>,
    /// What the hypervisor allows.
    max_frames: u32,
    /// One per entry of `frames`.
    slots: Vec<Slot>,
    free: List,
    quarantine: List,
}

/// What is remembered of an entry, apart from what it says in the shared table.
#[derive(Debug, Default)]
struct Slot {
    /// The next of the list that this entry is on.
    next: Option<u32>,
    /// The page, while the entry is in quarantine.
    page: Option<OwnedPage>,
}

/// How the table grows: makes page `index` of the grant table appear at a frame that is given up
/// for it.
pub(crate) type MapTable<'a> = &'a mut dyn FnMut(u32, &OwnedPage) -> Result<(), Errno>;

impl GrantTable {
    /// A table without entries that may grow to `max_frames` pages.
    pub(crate) fn new(max_frames: u32) -> Self {
        Self {
            frames: Vec::new(),
            max_frames,
            slots: Vec::new(),
            free: List::default(),
            quarantine: List::default(),
        }
    }

    /// Grants a zeroed page of `pool` to `peer`.
    ///
    /// # Errors
    /// [`ResourceError`]; nothing was granted.
    pub(crate) fn share(
        &mut self,
        pool: &mut PagePool,
        map: MapTable<'_>,
        peer: DomainId,
        access: Access,
    ) -> Result<(GrantReference, OwnedPage), ResourceError> {
        self.retry_quarantine(pool, RETRIES);
        if self.free.is_empty() || pool.free() == 0 {
            // Before giving up on anything, whatever can be had back.
            self.retry_quarantine(pool, usize::MAX);
        }
        if self.free.is_empty() {
            self.grow(pool, map)?;
        }
        let page = pool.take().ok_or(ResourceError::OutOfPages)?;
        let Some(reference) = self.free.pop(&mut self.slots) else {
            pool.give_back(page);
            return Err(ResourceError::OutOfGrants);
        };
        self.permit(reference, &page, peer, access);
        Ok((GrantReference(reference), page))
    }

    /// Ends a grant. Page and reference are free again, or in quarantine for as long as the
    /// peer has the page mapped.
    pub(crate) fn end(&mut self, pool: &mut PagePool, reference: GrantReference, page: OwnedPage) {
        self.retry_quarantine(pool, RETRIES);
        if self.revoke(reference.0) {
            pool.give_back(page);
            self.free.push_front(&mut self.slots, reference.0);
        } else {
            self.slots[reference.0 as usize].page = Some(page);
            self.quarantine.push_back(&mut self.slots, reference.0);
        }
    }

    /// Tries up to `attempts` entries of the quarantine again, oldest first.
    pub(crate) fn retry_quarantine(&mut self, pool: &mut PagePool, attempts: usize) {
        for _ in 0..attempts.min(self.quarantine.length) {
            let Some(reference) = self.quarantine.pop(&mut self.slots) else {
                return;
            };
            if !self.revoke(reference) {
                self.quarantine.push_back(&mut self.slots, reference);
                continue;
            }
            if let Some(page) = self.slots[reference as usize].page.take() {
                pool.give_back(page);
            }
            self.free.push_front(&mut self.slots, reference);
        }
    }

    /// The guest is another domain now, whose table is empty: has its pages appear where those of the
    /// old table were. Nobody has a page of ours mapped any more, so the quarantine ends.
    /// References granted before stay taken until their owners end them.
    ///
    /// # Errors
    /// The first that `map` reports; the table is of no use then.
    pub(crate) fn resume(
        &mut self,
        pool: &mut PagePool,
        map: &mut dyn FnMut(u32, &Frame) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        // The last page first: the table then grows to its size at once.
        for (index, frame) in self.frames.iter().enumerate().rev() {
            map(index as u32, frame)?;
        }
        self.retry_quarantine(pool, usize::MAX);
        Ok(())
    }

    /// Grants that ended while the peer still had the page mapped.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantine.length
    }

    /// References that could be granted without growing the table.
    pub(crate) fn free(&self) -> usize {
        self.free.length
    }

    /// Maps one more page of the table, at the place of a page of the pool.
    pub(crate) fn grow(
        &mut self,
        pool: &mut PagePool,
        map: MapTable<'_>,
    ) -> Result<(), ResourceError> {
        let index = self.frames.len() as u32;
        if index >= self.max_frames {
            return Err(ResourceError::OutOfGrants);
        }
        let entries = GRANT_ENTRIES_PER_FRAME as usize;
        let reserved =
            self.frames.try_reserve(1).is_ok() && self.slots.try_reserve(entries).is_ok();
        if !reserved {
            return Err(ResourceError::OutOfGrants);
        }
        let page = pool.take().ok_or(ResourceError::OutOfPages)?;
        if let Err(Errno(errno)) = map(index, &page) {
            // Xen may or may not have taken the page already, so it is lost. Do not lose another.
            self.max_frames = index;
            return Err(ResourceError::Refused {
                operation: "XENMEM_add_to_physmap of a grant table page",
                errno,
            });
        }
        self.frames.push(page.into_frame());
        let first = index * GRANT_ENTRIES_PER_FRAME;
        let last = first + GRANT_ENTRIES_PER_FRAME;
        self.slots.resize_with(last as usize, Slot::default);
        for reference in (first.max(GRANT_ENTRIES_RESERVED)..last).rev() {
            self.free.push_front(&mut self.slots, reference);
        }
        Ok(())
    }

    /// Fills in an entry. Xen and the peer may use it from the last store on, so that one comes
    /// last (`grant_table.h`: domain, frame, barrier, flags).
    fn permit(&self, reference: u32, page: &OwnedPage, peer: DomainId, access: Access) {
        let (table, offset) = self.entry(reference);
        let flags = match access {
            Access::ReadWrite => GTF_PERMIT_ACCESS,
            Access::ReadOnly => GTF_PERMIT_ACCESS | GTF_READONLY,
        };
        table
            .half(offset + core::mem::offset_of!(GrantEntry, domain))
            .store(peer.0, Ordering::Relaxed);
        table
            .word32(offset + core::mem::offset_of!(GrantEntry, frame))
            .store(page.number(), Ordering::Relaxed);
        // Release: whoever sees the flags sees domain, frame, and the zeros in the page.
        table
            .half(offset + core::mem::offset_of!(GrantEntry, flags))
            .store(flags, Ordering::Release);
    }

    /// Ends an entry unless the peer has the page mapped. Atomic against a mapping that happens
    /// at the same time: asking first and revoking after would be a race (XSA-396).
    fn revoke(&self, reference: u32) -> bool {
        let (table, offset) = self.entry(reference);
        let flags = table.half(offset + core::mem::offset_of!(GrantEntry, flags));
        // Acquire and release: what the peer wrote before it let go is in the page by now, and
        // the page is cleared and used again only after.
        flags
            .try_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
                (flags & (GTF_READING | GTF_WRITING) == 0).then_some(0)
            })
            .is_ok()
    }

    /// The page of the table that holds an entry, and its offset there.
    fn entry(&self, reference: u32) -> (&Frame, usize) {
        let frame = &self.frames[(reference / GRANT_ENTRIES_PER_FRAME) as usize];
        let entry = (reference % GRANT_ENTRIES_PER_FRAME) as usize;
        (frame, entry * size_of::<GrantEntry>())
    }
}

/// A list of references, linked through their slots.
#[derive(Debug, Default)]
struct List {
    first: Option<u32>,
    last: Option<u32>,
    length: usize,
}

impl List {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push_front(&mut self, slots: &mut [Slot], reference: u32) {
        slots[reference as usize].next = self.first.replace(reference);
        self.last.get_or_insert(reference);
        self.length += 1;
    }

    fn push_back(&mut self, slots: &mut [Slot], reference: u32) {
        slots[reference as usize].next = None;
        match self.last.replace(reference) {
            Some(last) => slots[last as usize].next = Some(reference),
            None => self.first = Some(reference),
        }
        self.length += 1;
    }

    fn pop(&mut self, slots: &mut [Slot]) -> Option<u32> {
        let reference = self.first?;
        self.first = slots[reference as usize].next.take();
        if self.first.is_none() {
            self.last = None;
        }
        self.length -= 1;
        Some(reference)
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "makes a pool of pages")]
mod tests;
