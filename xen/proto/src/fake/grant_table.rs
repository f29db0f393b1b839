//! The grant table: who may map which page.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use failing_memory::unharmed;

use super::page::Memory;
use crate::hypervisor::{
    Access, DomainId, GrantReference, GrantedPage, PAGE_SIZE, ResourceError, SharedPage,
};

/// The first reference that guests may use (`GNTTAB_NR_RESERVED_ENTRIES`).
const FIRST_REFERENCE: u32 = 8;

pub(super) struct GrantTable {
    state: RefCell<State>,
}

struct State {
    /// Counts the domains that the guest has been. What is of an earlier one is nothing to this one.
    life: u32,
    entries: BTreeMap<u32, Entry>,
    /// Last freed, first used again: what still uses a freed one is found out soon.
    free_references: Vec<u32>,
    next_reference: u32,
    free_pages: Vec<Rc<Memory>>,
    /// Pages that may still be made.
    pages_left: usize,
    lies: bool,
    /// Of pages that are not granted any more.
    double_reads: u64,
}

struct Entry {
    peer: DomainId,
    access: Access,
    memory: Rc<Memory>,
    mappings: u32,
    /// The guest ended it while the peer had it mapped.
    quarantined: bool,
}

impl GrantTable {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                life: 1,
                entries: BTreeMap::new(),
                free_references: Vec::new(),
                next_reference: FIRST_REFERENCE,
                free_pages: Vec::new(),
                pages_left: 64 * 1024,
                lies: false,
                double_reads: 0,
            }),
        })
    }

    pub(super) fn grant(
        self: &Rc<Self>,
        peer: DomainId,
        access: Access,
    ) -> Result<FakeGrantedPage, ResourceError> {
        let mut state = self.state.borrow_mut();
        let memory = match state.free_pages.pop() {
            Some(memory) => memory,
            None if state.pages_left == 0 => return Err(ResourceError::OutOfPages),
            None => {
                state.pages_left -= 1;
                Memory::zeroed()
            }
        };
        memory.zero();
        memory.lie_at_second_read(state.lies);
        let reference = state.free_references.pop().unwrap_or_else(|| {
            state.next_reference += 1;
            state.next_reference - 1
        });
        let entry = Entry {
            peer,
            access,
            memory: memory.clone(),
            mappings: 0,
            quarantined: false,
        };
        state.entries.insert(reference, entry);
        Ok(FakeGrantedPage {
            life: state.life,
            table: self.clone(),
            memory,
            reference: GrantReference(reference),
        })
    }

    pub(super) fn map(
        self: &Rc<Self>,
        peer: DomainId,
        reference: GrantReference,
    ) -> Result<MappedPage, MapError> {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.entries.get_mut(&reference.0) else {
            return Err(MapError::NotGranted);
        };
        if entry.quarantined {
            return Err(MapError::Ended);
        }
        if entry.peer != peer {
            return Err(MapError::GrantedTo(entry.peer));
        }
        entry.mappings += 1;
        let memory = entry.memory.clone();
        let access = entry.access;
        Ok(MappedPage {
            life: state.life,
            table: self.clone(),
            memory,
            reference,
            access,
        })
    }

    /// The domain is a new one: nothing is granted. Pages in quarantine are free, those of grants that
    /// did not end yet are once they do.
    pub(super) fn forget_all(&self) {
        let mut state = self.state.borrow_mut();
        state.life += 1;
        let entries = core::mem::take(&mut state.entries);
        for (reference, entry) in entries {
            state.free_references.push(reference);
            if entry.quarantined {
                entry.memory.poison();
                state.free_pages.push(entry.memory);
            }
        }
    }

    pub(super) fn granted(&self) -> Vec<GrantReference> {
        self.references(false)
    }

    pub(super) fn quarantined(&self) -> Vec<GrantReference> {
        self.references(true)
    }

    /// Calls `look` with the content of each page that a peer can map or has mapped.
    pub(super) fn for_each_page(&self, mut look: impl FnMut(GrantReference, &[u8; PAGE_SIZE])) {
        let mut bytes = [0; PAGE_SIZE];
        for (reference, entry) in &self.state.borrow().entries {
            entry.memory.peer_read(0, &mut bytes);
            look(GrantReference(*reference), &bytes);
        }
    }

    pub(super) fn set_pages_left(&self, pages: usize) {
        let mut state = self.state.borrow_mut();
        let forgotten = core::mem::take(&mut state.free_pages);
        state.double_reads += forgotten
            .iter()
            .map(|page| page.double_reads())
            .sum::<u64>();
        state.pages_left = pages;
    }

    pub(super) fn lie_at_second_read(&self, lies: bool) {
        let mut state = self.state.borrow_mut();
        state.lies = lies;
        for entry in state.entries.values() {
            entry.memory.lie_at_second_read(lies);
        }
    }

    pub(super) fn double_reads(&self) -> u64 {
        let state = self.state.borrow();
        let granted = state.entries.values();
        let now: u64 = granted.map(|entry| entry.memory.double_reads()).sum();
        let free = state.free_pages.iter().map(|memory| memory.double_reads());
        now + free.sum::<u64>() + state.double_reads
    }

    fn references(&self, quarantined: bool) -> Vec<GrantReference> {
        let state = self.state.borrow();
        let wanted = state
            .entries
            .iter()
            .filter(|(_, entry)| entry.quarantined == quarantined);
        wanted
            .map(|(reference, _)| GrantReference(*reference))
            .collect()
    }

    fn end(&self, reference: GrantReference, life: u32, memory: &Rc<Memory>) {
        let mut state = self.state.borrow_mut();
        if life != state.life {
            memory.poison();
            state.free_pages.push(memory.clone());
            return;
        }
        let Some(entry) = state.entries.get_mut(&reference.0) else {
            panic!("grant {reference} ended, but it is not granted");
        };
        assert!(!entry.quarantined, "grant {reference} ended twice");
        entry.quarantined = true;
        state.free_if_unused(reference);
    }

    fn unmap(&self, reference: GrantReference, life: u32) {
        let mut state = self.state.borrow_mut();
        if life != state.life {
            return;
        }
        let Some(entry) = state.entries.get_mut(&reference.0) else {
            panic!("grant {reference} unmapped, but its entry is free");
        };
        assert!(entry.mappings > 0, "grant {reference} unmapped twice");
        entry.mappings -= 1;
        state.free_if_unused(reference);
    }
}

impl State {
    fn free_if_unused(&mut self, reference: GrantReference) {
        let unused = |entry: &Entry| entry.quarantined && entry.mappings == 0;
        if !self.entries.get(&reference.0).is_some_and(unused) {
            return;
        }
        if let Some(entry) = self.entries.remove(&reference.0) {
            entry.memory.poison();
            self.free_pages.push(entry.memory);
            self.free_references.push(reference.0);
        }
    }
}

/// A page of the guest's that a peer may map. See [`GrantedPage`].
pub struct FakeGrantedPage {
    life: u32,
    table: Rc<GrantTable>,
    memory: Rc<Memory>,
    reference: GrantReference,
}

impl GrantedPage for FakeGrantedPage {
    fn reference(&self) -> GrantReference {
        self.reference
    }
}

impl SharedPage for FakeGrantedPage {
    fn load(&self, word: usize) -> u32 {
        self.memory.load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.memory.guest_store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.memory.guest_read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.memory.guest_write(offset, from);
    }
}

impl Drop for FakeGrantedPage {
    fn drop(&mut self) {
        unharmed(|| self.table.end(self.reference, self.life, &self.memory));
    }
}

/// A granted page as a peer sees it. Dropping it unmaps it; while it is kept, the guest's page
/// stays in quarantine.
pub struct MappedPage {
    life: u32,
    table: Rc<GrantTable>,
    memory: Rc<Memory>,
    reference: GrantReference,
    access: Access,
}

impl MappedPage {
    /// The reference it was mapped by.
    pub fn reference(&self) -> GrantReference {
        self.reference
    }

    fn check_writable(&self) {
        assert_eq!(
            self.access,
            Access::ReadWrite,
            "peer wrote to grant {}, which is read-only",
            self.reference
        );
    }
}

impl SharedPage for MappedPage {
    fn load(&self, word: usize) -> u32 {
        self.memory.load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.check_writable();
        self.memory.peer_store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.memory.peer_read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.check_writable();
        self.memory.peer_write(offset, from);
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        self.table.unmap(self.reference, self.life);
    }
}

/// Why a peer could not map a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The reference was never granted, or ended and is free.
    NotGranted,
    /// The guest has ended the grant; other mappings still exist.
    Ended,
    /// It is for another domain.
    GrantedTo(DomainId),
}

impl fmt::Display for MapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => write!(formatter, "it is not granted"),
            Self::Ended => write!(formatter, "it has ended"),
            Self::GrantedTo(domain) => write!(formatter, "it is granted to domain {domain}"),
        }
    }
}

impl core::error::Error for MapError {}
