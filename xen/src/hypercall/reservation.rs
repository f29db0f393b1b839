//! How much memory the domain has, and the way of pages to the hypervisor and back.

use super::{Errno, Hypercalls};
use crate::abi;

impl Hypercalls {
    /// Pages that the domain has.
    pub(crate) fn current_reservation(self) -> Result<u64, Errno> {
        let mut domain = abi::DOMID_SELF;
        // SAFETY: the operation takes a pointer to a domain number, `domid_t`.
        unsafe { self.call_with(abi::MEMORY_OP, abi::XENMEM_CURRENT_RESERVATION, &mut domain) }
    }

    /// Gives 1 << `order` pages from `frame` on to Xen. Whether it took them: if not, some of them
    /// may be gone nevertheless.
    ///
    /// # Safety
    /// The pages are the caller's, who never accesses them again unless they are
    /// [populated](Self::populate).
    pub(crate) unsafe fn decrease_reservation(self, frame: u64, order: u32) -> Result<bool, Errno> {
        // SAFETY: the caller's duty.
        unsafe { self.reservation(abi::XENMEM_DECREASE_RESERVATION, frame, order) }
    }

    /// Has Xen put 1 << `order` pages at `frame`, all or none. Whether it did.
    ///
    /// # Safety
    /// Nobody accesses the frames: they were given to Xen.
    pub(crate) unsafe fn populate(self, frame: u64, order: u32) -> Result<bool, Errno> {
        // SAFETY: the caller's duty.
        unsafe { self.reservation(abi::XENMEM_POPULATE_PHYSMAP, frame, order) }
    }

    /// # Safety
    /// `operation` takes a `struct xen_memory_reservation`; what it does to the one extent is the
    /// caller's to answer for.
    unsafe fn reservation(self, operation: u64, frame: u64, order: u32) -> Result<bool, Errno> {
        let mut frame = frame;
        let frame: *mut u64 = &mut frame;
        let mut argument = abi::MemoryReservation {
            extent_start: frame as u64,
            extents: 1,
            extent_order: order,
            flags: 0,
            domain: abi::DOMID_SELF,
            padding: [0; 3],
        };
        // SAFETY: the structure of this operation, and a list of one extent, which Xen may write
        // to; the effect on memory is the caller's.
        let done = unsafe { self.call_with(abi::MEMORY_OP, operation, &mut argument)? };
        Ok(done == 1)
    }
}
