//! What the network stack asks of a network interface's driver.

use alloc::vec::Vec;
use core::task::{Context, Poll};

/// Checksums that the device takes off the stack's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumOffload {
    /// The device completes TCP and UDP checksums of frames marked
    /// [`TransmitChecksum::Device`] over IPv4.
    pub transmit_ipv4: bool,
    /// The same over IPv6.
    pub transmit_ipv6: bool,
    /// The driver only hands over frames whose TCP and UDP checksums hold (because it
    /// verified them, or a trusted host vouches for them), so the stack need not look.
    pub receive_verified: bool,
}

/// Who fills in the TCP or UDP checksum of a frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitChecksum {
    /// The frame is complete.
    Complete,
    /// The device: the driver finds the field by parsing the frame.
    Device,
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

    /// The Ethernet address.
    fn mac(&self) -> [u8; 6];

    /// Largest IP packet in bytes, the Ethernet header not counted (1500 on plain Ethernet).
    /// May change while the link is down.
    fn mtu(&self) -> usize;

    /// Checksum work the device does. May change while the link is down.
    fn checksum_offload(&self) -> ChecksumOffload;

    /// Whether frames can flow.
    fn link_is_up(&self) -> bool;

    /// An address the host assigned to this interface (xl's `vif = ['ip=...']`), as text.
    fn assigned_address(&self) -> Option<&str> {
        None
    }

    /// Takes the next received frame, starting with its Ethernet header, replacing what
    /// `frame` held. False when there is none.
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool;

    /// Queues one frame, starting with its Ethernet header.
    ///
    /// # Errors
    /// [`QueueFull`] when there is no room; the frame was not queued. While the link is down
    /// frames are dropped and this is `Ok`.
    fn transmit(&mut self, frame: &[u8], checksum: TransmitChecksum) -> Result<(), QueueFull>;

    /// Makes everything queued visible to the other side and notifies it if it asked for that.
    fn flush(&mut self);

    /// Ready when something may have changed since the last call: a frame arrived, room to
    /// transmit appeared, the link went up or down. Otherwise wakes the task when it does.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()>;
}
