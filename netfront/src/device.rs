//! The data path: frames in, frames out.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::num::NonZeroU16;
use core::task::{Context, Poll};

use xen_proto::hypervisor::Hypervisor;

use crate::settings::DEFAULT_MTU;
use crate::shared::{Link, Shared};
use crate::statistics::Statistics;
use crate::transmit::Outcome;

/// Checksum work that the device takes off the stack's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumOffload {
    /// TCP and UDP checksums of frames to send over IPv4.
    pub transmit_ipv4: bool,
    /// TCP and UDP checksums of frames to send over IPv6.
    pub transmit_ipv6: bool,
    /// Frames received have TCP and UDP checksums that hold: the driver verified them, or the
    /// host vouches for them. Fragments of IP packets are the exception: their checksum covers
    /// more than one frame.
    pub receive_verified: bool,
}

/// Frames longer than the MTU that the device cuts into segments of TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentationOffload {
    /// Over IPv4; only together with [`ChecksumOffload::transmit_ipv4`].
    pub transmit_ipv4: bool,
    /// Over IPv6; only together with [`ChecksumOffload::transmit_ipv6`].
    pub transmit_ipv6: bool,
}

/// What a frame to send leaves to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Nothing: it is complete.
    None,
    /// Its TCP or UDP checksum, whose field may hold anything.
    Checksum,
    /// To be cut into segments of TCP, each with headers and a checksum of its own. The frame
    /// is one IP packet, whose length fields tell the length of the whole, and has at most
    /// [`MAXIMUM_TRANSMIT_BYTES`](crate::wire::MAXIMUM_TRANSMIT_BYTES).
    Segments {
        /// Bytes of payload in each segment but the last.
        payload: NonZeroU16,
    },
}

/// There is no room for a frame now; [`Device::poll_event`] tells when there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "transmit queue is full")
    }
}

impl core::error::Error for QueueFull {}

/// One network interface, as the network stack sees it.
///
/// It exists whether or not there is a backend; while there is none the link is down. Dropping it
/// ends the connection and the [`Control`](crate::Control).
pub struct Device<H: Hypervisor> {
    shared: Rc<RefCell<Shared<H>>>,
    name: String,
    /// What the host assigned last, as far as this side has been told.
    assigned_address: Option<Rc<str>>,
}

impl<H: Hypervisor> Device<H> {
    pub(crate) fn new(shared: Rc<RefCell<Shared<H>>>) -> Self {
        let name = shared.borrow().name.clone();
        Self {
            shared,
            name,
            assigned_address: None,
        }
    }

    /// What the interface is called in messages: `vif0` for `device/vif/0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the Ethernet address and [the host's](Self::assigned_address) are known, which
    /// does not take a backend. False when the device is not there, in which case it may come.
    pub async fn identified(&mut self) -> bool {
        let is_there = poll_fn(|context| self.shared.borrow_mut().poll_identity(context)).await;
        self.assigned_address = self.shared.borrow().assigned_address.clone();
        is_there
    }

    /// Whether the device is there. When it was taken away its link is down, and everything that
    /// it took is given back; it may come back, as another one.
    pub fn is_present(&self) -> bool {
        self.shared.borrow().is_present()
    }

    /// The Ethernet address; all zero until it is [known](Self::identified). Changes only
    /// while the link is down.
    pub fn mac(&self) -> [u8; 6] {
        self.shared.borrow().mac.unwrap_or_default()
    }

    /// Largest IP packet in bytes, the Ethernet header not counted. Changes only while the
    /// link is down.
    pub fn mtu(&self) -> usize {
        match &self.shared.borrow().settings {
            Some(settings) => settings.mtu,
            None => DEFAULT_MTU,
        }
    }

    /// Checksum work the device does. Changes only while the link is down.
    pub fn checksum_offload(&self) -> ChecksumOffload {
        let shared = self.shared.borrow();
        let settings = shared.settings.as_ref();
        ChecksumOffload {
            transmit_ipv4: settings.is_some_and(|settings| settings.checksum_ipv4),
            transmit_ipv6: settings.is_some_and(|settings| settings.checksum_ipv6),
            receive_verified: true,
        }
    }

    /// Segmentation work the device does. Changes only while the link is down.
    pub fn segmentation_offload(&self) -> SegmentationOffload {
        let shared = self.shared.borrow();
        let settings = shared.settings.as_ref();
        SegmentationOffload {
            transmit_ipv4: settings.is_some_and(|settings| settings.segmentation_ipv4),
            transmit_ipv6: settings.is_some_and(|settings| settings.segmentation_ipv6),
        }
    }

    /// Whether frames can flow.
    pub fn link_is_up(&self) -> bool {
        matches!(self.shared.borrow().link, Link::Up(_))
    }

    /// How often the link came up so far: an interruption may be over before anybody looks.
    pub fn connections(&self) -> u32 {
        self.shared.borrow().counters.connections
    }

    /// The address that the host assigned (xl's `vif = ['ip=...']`), as it is written there:
    /// not checked, perhaps several with spaces between them. Changes within
    /// [`poll_event`](Self::poll_event), and is known when that has shown the link to be up.
    pub fn assigned_address(&self) -> Option<&str> {
        self.assigned_address.as_deref()
    }

    /// Takes the next received frame, starting with its Ethernet header, replacing what
    /// `frame` held. False when there is none.
    ///
    /// A frame of TCP may be longer than the MTU: several segments that the host put together,
    /// or never took apart, up to [`MAXIMUM_RECEIVE_BYTES`](crate::wire::MAXIMUM_RECEIVE_BYTES).
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        let shared = &mut *self.shared.borrow_mut();
        let Link::Up(connection) = &mut shared.link else {
            return false;
        };
        match connection.receive(frame, &mut shared.counters) {
            Ok(received) => received,
            Err(misbehaviour) => {
                shared.break_off(misbehaviour);
                false
            }
        }
    }

    /// Queues one frame, starting with its Ethernet header.
    ///
    /// While the link is down frames are dropped, as are frames that no MTU allows or that
    /// cannot be cut into segments; all are counted and `Ok`.
    ///
    /// # Errors
    /// [`QueueFull`] when there is no room; the frame was not queued.
    pub fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), QueueFull> {
        let shared = &mut *self.shared.borrow_mut();
        let Link::Up(connection) = &mut shared.link else {
            shared.counters.transmit_drops.link_down += 1;
            return Ok(());
        };
        match connection.transmit(frame, offload, &mut shared.counters) {
            Ok(Outcome::Queued | Outcome::Dropped) => Ok(()),
            Ok(Outcome::Full) => Err(QueueFull),
            Err(misbehaviour) => {
                shared.counters.transmit_drops.link_down += 1;
                shared.break_off(misbehaviour);
                Ok(())
            }
        }
    }

    /// Shows the backend everything queued, and notifies it if it asked for that.
    pub fn flush(&mut self) {
        let shared = &mut *self.shared.borrow_mut();
        if let Link::Up(connection) = &mut shared.link {
            connection.publish(&mut shared.counters);
        }
    }

    /// Ready when something may have changed since the last call: a frame arrived, a frame
    /// that was refused fits now, the device came or went, its link went up or
    /// down, the settings changed. Otherwise
    /// wakes the task when it does. One task at a time.
    ///
    /// Frames that wait to be taken make it ready at once.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let shared = &mut *self.shared.borrow_mut();
        let change = shared.poll_change(context);
        if change.is_ready() {
            self.assigned_address = shared.assigned_address.clone();
            return Poll::Ready(());
        }
        let Link::Up(connection) = &mut shared.link else {
            return Poll::Pending;
        };
        let grown = connection.grow_under_load();
        if let Err(error) = &grown {
            let (pages, _) = connection.page_counts();
            log::info!(
                "{}: stays at {pages} pages to receive into: {error}",
                shared.name
            );
        }
        let readiness = connection.poll_event(context, &mut shared.counters);
        shared.note_growth();
        match readiness {
            Ok(readiness) => readiness,
            Err(misbehaviour) => {
                shared.break_off(misbehaviour);
                Poll::Ready(())
            }
        }
    }

    /// What was counted, and where both ends stand.
    pub fn statistics(&self) -> Statistics {
        self.shared.borrow().statistics()
    }

    /// Whether there is a connection: `up`, `down`, or `broken` by what the backend did.
    pub fn link_state(&self) -> &'static str {
        match self.shared.borrow().link {
            Link::Down => "down",
            Link::Up(_) => "up",
            Link::Broken(_) => "broken",
        }
    }

    /// Why there is no connection, or was none before this one, for people.
    pub fn last_problem(&self) -> Option<String> {
        self.shared.borrow().last_problem.clone()
    }

    /// One line for people: why the network does or does not work.
    pub fn describe(&self) -> String {
        let statistics = self.statistics();
        alloc::format!(
            "{}: link {}, frontend {}, backend {}, {}, {} and {} pages, last problem: {}",
            self.name,
            self.link_state(),
            statistics.frontend,
            statistics.backend,
            statistics.counters,
            statistics.receive_pages,
            statistics.transmit_pages,
            self.last_problem().as_deref().unwrap_or("none"),
        )
    }
}

impl<H: Hypervisor> Drop for Device<H> {
    fn drop(&mut self) {
        self.shared.borrow_mut().abandon();
    }
}
