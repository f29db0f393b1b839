//! What the network stack asks of a network interface's driver.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::task::{Context, Poll};

use crate::report::Sink;

/// Checksums that the device takes off the stack's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumOffload {
    /// The device completes TCP and UDP checksums of frames to send over IPv4, where told to
    /// ([`Completion::Checksum`]).
    pub transmit_ipv4: bool,
    /// The same over IPv6.
    pub transmit_ipv6: bool,
    /// The driver only hands over frames whose TCP and UDP checksums hold (because it
    /// verified them, or a trusted host vouches for them), so the stack need not look.
    pub receive_verified: bool,
}

/// Frames longer than the MTU that the device cuts into segments of TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentationOffload {
    /// The device does so over IPv4, where told to ([`Completion::Segments`]). Only together
    /// with [`ChecksumOffload::transmit_ipv4`].
    pub transmit_ipv4: bool,
    /// The same over IPv6.
    pub transmit_ipv6: bool,
}

/// What the device has to do to a frame before it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Nothing.
    None,
    /// Fill in the TCP or UDP checksum; the driver finds the field by parsing the frame.
    Checksum,
    /// Cut the TCP payload into segments, and fill in their headers and checksums. The frame is
    /// one IP packet, whose length fields tell the length of the whole, and has at most 65535
    /// bytes with its Ethernet header: more than that, Xen's ring cannot name.
    Segments {
        /// Bytes of payload in each segment but the last.
        payload: NonZeroU16,
    },
}

/// The device has no room for a frame now; [`NetworkDevice::poll_event`] tells when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A network interface that carries Ethernet frames.
///
/// Frames are private memory on both sides of this interface: the driver copies.
pub trait NetworkDevice {
    /// What to call it in messages: `vif0`, `virtio0`.
    fn name(&self) -> &str;

    /// Whether the device is there. The host may take one away, whose link is down then, and give
    /// it back, perhaps on another network.
    fn is_present(&self) -> bool {
        true
    }

    /// The Ethernet address. May change while the link is down.
    fn mac(&self) -> [u8; 6];

    /// Largest IP packet in bytes, the Ethernet header not counted (1500 on plain Ethernet).
    /// May change while the link is down.
    fn mtu(&self) -> usize;

    /// Checksum work the device does. May change while the link is down.
    fn checksum_offload(&self) -> ChecksumOffload;

    /// Segmentation work the device does. May change while the link is down.
    fn segmentation_offload(&self) -> SegmentationOffload {
        SegmentationOffload::default()
    }

    /// Whether frames can flow.
    fn link_is_up(&self) -> bool;

    /// Why frames cannot flow, for people, where the driver knows.
    fn explain_link(&self) -> Option<String> {
        None
    }

    /// Changes with every interruption of the link: one may be over before anybody looks.
    fn link_epoch(&self) -> u64 {
        0
    }

    /// An address the host assigned to this interface (xl's `vif = ['ip=...']`), as text. May
    /// change while the link is down.
    fn assigned_address(&self) -> Option<&str> {
        None
    }

    /// Tells about the device and its other end, for who looks for a fault.
    fn report(&self, _tell: &mut Sink<'_>) {}

    /// Takes the next received frame, starting with its Ethernet header, replacing what
    /// `frame` held. False when there is none.
    ///
    /// A frame of TCP may be longer than the MTU: several segments of one connection that the
    /// host put together, or never took apart. Its headers are those of one segment.
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool;

    /// Queues one frame, starting with its Ethernet header.
    ///
    /// # Errors
    /// [`QueueFull`] when there is no room; the frame was not queued. While the link is down
    /// frames are dropped and this is `Ok`.
    fn transmit(&mut self, frame: &[u8], completion: Completion) -> Result<(), QueueFull>;

    /// Makes everything queued visible to the other side and notifies it if it asked for that.
    fn flush(&mut self);

    /// Ready when something may have changed since the last call: a frame arrived, room to
    /// transmit appeared, the link went up or down. Otherwise wakes the task when it does.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()>;
}
