//! What the protocols need from the machine below them.
//!
//! Drivers are written against [`Hypervisor`] and never see a hypercall. The `xen` crate
//! implements it with real grants and event channels; `fake` (feature `fake`) implements it for
//! host tests, strictly: what Xen would refuse, the fake refuses too.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::sync::atomic::{Ordering, fence};
use core::task::{Context, Poll};
use core::time::Duration;

/// Bytes in a page, the unit in which Xen shares memory.
pub const PAGE_SIZE: usize = 4096;

/// Number of a domain (`domid_t` in `xen/include/public/xen.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u16);

impl fmt::Display for DomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Index of a grant table entry, as told to the peer (`grant_ref_t` in `grant_table.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantReference(pub u32);

impl fmt::Display for GrantReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Number of an event channel port (`evtchn_port_t` in `event_channel.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortNumber(pub u32);

impl fmt::Display for PortNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// What the peer may do with a granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The peer may read and write.
    ReadWrite,
    /// The peer may only read (`GTF_readonly`).
    ReadOnly,
}

/// One page of memory that another domain may read and write at any moment.
///
/// No reference into such memory is ever handed out. Every method moves bytes between the
/// page and private memory, touching each byte of the page exactly once, so a value that was
/// checked cannot change afterwards.
pub trait SharedPage {
    /// Loads the little-endian 32-bit word number `word` (0..1024) with acquire ordering.
    ///
    /// # Panics
    /// If `word >= 1024`: the caller's bug, never the peer's doing.
    fn load(&self, word: usize) -> u32;

    /// Stores the little-endian 32-bit word number `word` (0..1024) with release ordering.
    ///
    /// # Panics
    /// If `word >= 1024`.
    fn store(&self, word: usize, value: u32);

    /// Copies `into.len()` bytes out of the page, from byte `offset` on. Not ordered: call
    /// it after the [`load`](Self::load) that told that the bytes are there.
    ///
    /// # Panics
    /// If `offset + into.len() > 4096`.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// Like [`read`](Self::read), putting `length` bytes at the end of `into`. Pages that can
    /// write into memory that holds nothing yet do so, which saves zeroing it first.
    ///
    /// # Panics
    /// If `offset + length > 4096`.
    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        let start = into.len();
        into.resize(start + length, 0);
        self.read(offset, &mut into[start..]);
    }

    /// Copies `from` into the page, from byte `offset` on. Not ordered: the
    /// [`store`](Self::store) that publishes the bytes comes after it.
    ///
    /// # Panics
    /// If `offset + from.len() > 4096`.
    fn write(&self, offset: usize, from: &[u8]);

    /// Orders every store before it and every load after it, which acquire and release do not:
    /// what both ends need between telling their own news and looking for the other's.
    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl<P: SharedPage + ?Sized> SharedPage for &P {
    fn load(&self, word: usize) -> u32 {
        (**self).load(word)
    }

    fn store(&self, word: usize, value: u32) {
        (**self).store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        (**self).read(offset, into);
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        (**self).append(offset, length, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        (**self).write(offset, from);
    }

    fn full_fence(&self) {
        (**self).full_fence();
    }
}

impl<P: SharedPage + ?Sized> SharedPage for Rc<P> {
    fn load(&self, word: usize) -> u32 {
        (**self).load(word)
    }

    fn store(&self, word: usize, value: u32) {
        (**self).store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        (**self).read(offset, into);
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        (**self).append(offset, length, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        (**self).write(offset, from);
    }

    fn full_fence(&self) {
        (**self).full_fence();
    }
}

/// A page of our own, zeroed when it was granted, that one other domain may map.
///
/// Dropping it ends the grant. While the peer still has it mapped, page and reference are
/// kept in quarantine and neither is used again until the peer lets go.
pub trait GrantedPage: SharedPage {
    /// The reference to tell the peer.
    fn reference(&self) -> GrantReference;
}

/// One end of an event channel. Dropping it closes the port.
pub trait EventPort {
    /// The port's number, to tell the peer.
    fn number(&self) -> PortNumber;

    /// Sends an event to the peer. A peer that is gone is no error here: the bus says so.
    fn notify(&self);

    /// Ready once an event came since the last time this was ready; else arranges for the
    /// task to be woken by the next one. One task waits for a port at a time.
    fn poll_event(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Forgets nothing and waits for nothing: how many events have arrived so far (wraps).
    fn events(&self) -> u32;
}

/// Why the machine layer could not give what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceError {
    /// No page is left in the pool that grants are made from.
    OutOfPages,
    /// No entry is left in the grant table.
    OutOfGrants,
    /// The hypervisor refused; `operation` names the hypercall, `errno` is Xen's (positive).
    Refused {
        /// The hypercall and its sub-operation.
        operation: &'static str,
        /// Xen's error number, positive (`xen/include/public/errno.h`).
        errno: u32,
    },
}

impl fmt::Display for ResourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfPages => write!(formatter, "no page left to grant"),
            Self::OutOfGrants => write!(formatter, "no grant reference left"),
            Self::Refused { operation, errno } => {
                write!(formatter, "xen refused {operation} with errno {errno}")
            }
        }
    }
}

impl core::error::Error for ResourceError {}

/// Grants, event channels and time: all that a driver asks of the machine.
///
/// Cheap to clone; clones speak of the same machine.
pub trait Hypervisor: Clone + 'static {
    /// A page shared with a peer.
    type Page: GrantedPage + 'static;
    /// One end of an event channel.
    type Port: EventPort + 'static;
    /// A future that is ready at its deadline.
    type Sleep: Future<Output = ()> + Unpin;

    /// Takes a zeroed page from the pool and grants it to `peer`.
    ///
    /// # Errors
    /// [`ResourceError::OutOfPages`], [`ResourceError::OutOfGrants`].
    fn share_page(&self, peer: DomainId, access: Access) -> Result<Self::Page, ResourceError>;

    /// Allocates a port that `peer` may bind to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// [`ResourceError::Refused`].
    fn allocate_port(&self, peer: DomainId) -> Result<Self::Port, ResourceError>;

    /// Time since an arbitrary start, never going backwards.
    fn now(&self) -> Duration;

    /// Ready at `deadline`, on the scale of [`now`](Self::now).
    fn sleep_until(&self, deadline: Duration) -> Self::Sleep;
}
