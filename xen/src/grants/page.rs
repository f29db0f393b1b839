//! A granted page, as drivers hold it.

use alloc::vec::Vec;

use xen_proto::hypervisor::{
    Access, DomainId, GrantReference, GrantedPage, ResourceError, SharedPage,
};

use crate::machine::Machine;
use crate::pages::OwnedPage;

/// A page of our own that one other domain may map, until this is dropped.
#[derive(Debug)]
pub struct GrantedMemory {
    machine: &'static Machine,
    reference: GrantReference,
    /// `None` only while being dropped.
    page: Option<OwnedPage>,
}

impl GrantedMemory {
    pub(crate) fn new(
        machine: &'static Machine,
        peer: DomainId,
        access: Access,
    ) -> Result<Self, ResourceError> {
        let (reference, page) = machine.grant(peer, access)?;
        Ok(Self {
            machine,
            reference,
            page: Some(page),
        })
    }

    fn page(&self) -> &OwnedPage {
        self.page.as_ref().expect("a granted page after its drop")
    }
}

impl SharedPage for GrantedMemory {
    fn load(&self, word: usize) -> u32 {
        self.page().memory().load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.page().memory().store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page().memory().copy_out(offset, into);
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        self.page().memory().append_to(offset, length, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page().memory().copy_in(offset, from);
    }
}

impl GrantedPage for GrantedMemory {
    fn reference(&self) -> GrantReference {
        self.reference
    }
}

impl Drop for GrantedMemory {
    fn drop(&mut self) {
        if let Some(page) = self.page.take() {
            self.machine.end_grant(self.reference, page);
        }
    }
}
