//! The network frontend: one virtual interface of a Xen guest.
//!
//! [`NetFront::new`] makes two halves. The [`Control`] is a task that deals with xenstore: it
//! reads what the host says ([`settings`]), offers rings to the backend, follows its state, and
//! connects again whenever it returns. The [`Device`] moves Ethernet frames; while there is no
//! connection its link is down.
//!
//! Nothing of what the backend writes is believed before it was copied out and checked. A
//! backend that breaks the protocol ([`Misbehaviour`]) disables the device: link down, one line
//! in the log, a counter; the control task then asks it for a new connection, ever more rarely
//! the more often this happens.
//!
//! A device may be taken away and given back at any time. While it is away everything is given
//! back, and the same two halves serve the next one of its name. Dropping the [`Device`] ends both.
//!
//! # Long packets
//! A frame of up to 64 KiB goes out as one packet, which the backend cuts into segments of TCP
//! ([`Offload::Segments`]), over IPv4 and IPv6, where it offers to. In the other direction long
//! packets are taken whole.
//!
//! # Memory
//! Pages are granted once and reused; no packet costs a grant operation. An interface begins
//! with 82 pages (two rings, 64 to receive into, 16 to transmit from) and grows only under load, to
//! at most 514: 256 to receive into, 256 to transmit from. Some time after the load, the pages above
//! those of the beginning are given back, the receiving ones as the backend fills them. The
//! others are kept over reconnects to the same domain, until the device is taken away or its
//! backend moves.
//!
//! A frame received is copied once, out of the shared page into the caller's buffer; a frame
//! sent once, into the shared page.
//!
//! # Testing
//! With the feature `fake`, `fake::FakeBackend` is a strict backend for host tests.
//!
//! # Not done
//! Multiple queues, multicast filters, the control ring, `carrier`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod checksum;
mod connection;
mod control;
mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod misbehaviour;
mod receive;
pub mod settings;
mod shared;
pub mod statistics;
mod transmit;
pub mod wire;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::ring::RingIndex;
use xen_proto::xenstore::{Store, StoreError};

pub use self::control::{CONNECT_TIMEOUT, Control, ResumeHandle};
pub use self::device::{ChecksumOffload, Device, Offload, QueueFull, SegmentationOffload};
pub use self::misbehaviour::Misbehaviour;
pub use self::statistics::{Counters, Statistics};

use self::shared::Shared;

/// The network frontend.
pub struct NetFront;

impl NetFront {
    /// The interface that xenstore calls `device/vif/<handle>`: what moves its frames, and the
    /// task that connects it, which the caller must [run](Control::run).
    #[expect(
        clippy::new_ret_no_self,
        reason = "two halves are made, neither of them a NetFront"
    )]
    pub fn new<H: Hypervisor>(
        hypervisor: H,
        store: Store<H>,
        handle: u32,
    ) -> (Device<H>, Control<H>) {
        Self::starting_at(hypervisor, store, handle, RingIndex::ZERO)
    }

    /// Like [`new`](Self::new), with all ring positions starting at `start`: lets tests begin
    /// close to the wrap.
    pub fn starting_at<H: Hypervisor>(
        hypervisor: H,
        store: Store<H>,
        handle: u32,
        start: RingIndex,
    ) -> (Device<H>, Control<H>) {
        let shared = Rc::new(RefCell::new(Shared::new(alloc::format!("vif{handle}"))));
        let control = Control::new(hypervisor, store, handle, shared.clone(), start);
        (Device::new(shared), control)
    }
}

/// The handles of the interfaces that this guest has now, in ascending order.
///
/// # Errors
/// [`StoreError`]. Having no interface is none.
pub async fn list_vifs<H: Hypervisor>(store: &Store<H>) -> Result<Vec<u32>, StoreError> {
    let names = match store.directory("device/vif").await {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut handles: Vec<u32> = Vec::new();
    for name in names {
        let Ok(handle) = name.parse() else {
            log::warn!("device/vif/{name} is no interface: its name is not a number");
            continue;
        };
        if let Err(place) = handles.binary_search(&handle) {
            handles.insert(place, handle);
        }
    }
    Ok(handles)
}
