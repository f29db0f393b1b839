//! The data path: frames in, frames out.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

use xen_proto::hypervisor::Hypervisor;

use crate::settings::{DEFAULT_MTU, Settings};
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
/// It exists whether or not there is a backend; while there is none the link is down.
pub struct Device<H: Hypervisor> {
    shared: Rc<RefCell<Shared<H>>>,
    name: String,
    /// What the host said last, as far as this side has been told.
    settings: Option<Rc<Settings>>,
}

impl<H: Hypervisor> Device<H> {
    pub(crate) fn new(shared: Rc<RefCell<Shared<H>>>) -> Self {
        let name = shared.borrow().name.clone();
        Self {
            shared,
            name,
            settings: None,
        }
    }

    /// What the interface is called in messages: `vif0` for `device/vif/0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the Ethernet address is known, which does not take a backend.
    pub async fn identified(&self) {
        poll_fn(|context| self.shared.borrow_mut().poll_identity(context)).await;
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

    /// Whether frames can flow.
    pub fn link_is_up(&self) -> bool {
        matches!(self.shared.borrow().link, Link::Up(_))
    }

    /// The address that the host assigned (xl's `vif = ['ip=...']`), as it is written there:
    /// not checked, perhaps several with spaces between them. Changes within
    /// [`poll_event`](Self::poll_event), and is known when that has shown the link to be up.
    pub fn assigned_address(&self) -> Option<&str> {
        self.settings.as_ref()?.assigned_address.as_deref()
    }

    /// Takes the next received frame, starting with its Ethernet header, replacing what
    /// `frame` held. False when there is none.
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

    /// Queues one frame, starting with its Ethernet header. If `device_completes_checksum`,
    /// its TCP or UDP checksum field may hold anything; otherwise it is complete.
    ///
    /// While the link is down frames are dropped, as are frames that no MTU allows; both are
    /// counted and `Ok`.
    ///
    /// # Errors
    /// [`QueueFull`] when there is no room; the frame was not queued.
    pub fn transmit(
        &mut self,
        frame: &[u8],
        device_completes_checksum: bool,
    ) -> Result<(), QueueFull> {
        let shared = &mut *self.shared.borrow_mut();
        let Link::Up(connection) = &mut shared.link else {
            shared.counters.transmit_drops.link_down += 1;
            return Ok(());
        };
        match connection.transmit(frame, device_completes_checksum, &mut shared.counters) {
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
    /// that was refused fits now, the link went up or down, the settings changed. Otherwise
    /// wakes the task when it does. One task at a time.
    ///
    /// Frames that wait to be taken make it ready at once.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let shared = &mut *self.shared.borrow_mut();
        let change = shared.poll_change(context);
        if change.is_ready() {
            self.settings = shared.settings.clone();
            return Poll::Ready(());
        }
        let Link::Up(connection) = &mut shared.link else {
            return Poll::Pending;
        };
        if let Err(error) = connection.grow_under_load() {
            let (pages, _) = connection.page_counts();
            log::info!(
                "{}: stays at {pages} pages to receive into: {error}",
                shared.name
            );
        }
        match connection.poll_event(context, &mut shared.counters) {
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

    /// One line for people: why the network does or does not work.
    pub fn describe(&self) -> String {
        let shared = self.shared.borrow();
        let statistics = shared.statistics();
        let link = match &shared.link {
            Link::Down => "down",
            Link::Up(_) => "up",
            Link::Broken(_) => "broken",
        };
        let problem = shared.last_problem.as_deref().unwrap_or("none");
        alloc::format!(
            "{}: link {link}, frontend {}, backend {}, {} received, {} transmitted, last problem: {problem}",
            self.name,
            statistics.frontend,
            statistics.backend,
            statistics.counters.received.frames,
            statistics.counters.transmitted.frames,
        )
    }
}
