//! Between smoltcp and the driver of an interface: hands one received frame in, carries frames
//! out, keeps what the device has no room for, and notes what was sent.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::ETHERNET_HEADER_LEN;

use super::Counters;
use super::device::{ChecksumOffload, Completion, NetworkDevice, QueueFull};
use super::sent::{self, Sent};

/// Frames kept while the device is full. Only answers to received frames can pile up here:
/// sockets do not send while one waits.
const LONGEST_BACKLOG: usize = 64;

/// The device of an interface, as the stack uses it.
pub(super) struct Port {
    pub(super) device: Box<dyn NetworkDevice>,
    offload: ChecksumOffload,
    backlog: VecDeque<(Vec<u8>, Completion)>,
    outgoing: Vec<u8>,
    must_flush: bool,
    pub(super) counters: Counters,
    pub(super) observed: Observed,
}

/// What smoltcp did with the port since [`Port::observe`] was last called.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    /// A packet could not go because the Ethernet address of the next hop is not known yet.
    pub(super) lacks_neighbour: bool,
    /// The last TCP segment that was sent.
    pub(super) segment: Option<Segment>,
}

/// The numbers of a TCP segment that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sequence number after the segment.
    pub(super) next_sequence: u32,
    pub(super) acknowledgement: u32,
}

impl Port {
    pub(super) fn new(device: Box<dyn NetworkDevice>) -> Self {
        let offload = device.checksum_offload();
        Self {
            device,
            offload,
            backlog: VecDeque::new(),
            outgoing: Vec::new(),
            must_flush: false,
            counters: Counters::default(),
            observed: Observed::default(),
        }
    }

    /// Largest IP packet in bytes: what the device says, within what IP can do with it. IPv4
    /// demands 576 bytes of its hosts (RFC 791, section 3.1) and its length field ends at 65535.
    pub(super) fn mtu(&self) -> usize {
        self.device.mtu().clamp(576, usize::from(u16::MAX))
    }

    /// Takes over what the device can do now.
    pub(super) fn renew_offload(&mut self) {
        self.offload = self.device.checksum_offload();
    }

    /// Whether the device had no room for an earlier frame.
    pub(super) fn is_stalled(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Offers the device the frames that it had no room for.
    pub(super) fn drain(&mut self) {
        while let Some((frame, completion)) = self.backlog.front() {
            if self.device.transmit(frame, *completion) == Err(QueueFull) {
                return;
            }
            count_sent(&mut self.counters, frame);
            self.must_flush = true;
            self.backlog.pop_front();
        }
    }

    pub(super) fn flush(&mut self) {
        if core::mem::take(&mut self.must_flush) {
            self.device.flush();
        }
    }

    /// Starts to note what smoltcp does.
    pub(super) fn observe(&mut self) {
        self.observed = Observed::default();
    }

    /// A smoltcp device that receives `frame`.
    pub(super) fn receiving<'a>(&'a mut self, frame: &'a [u8]) -> Exchange<'a> {
        Exchange {
            port: self,
            frame: Some(frame),
        }
    }

    /// A smoltcp device that only sends.
    pub(super) fn sending(&mut self) -> Exchange<'_> {
        Exchange {
            port: self,
            frame: None,
        }
    }

    /// Sends a complete frame that was built by hand.
    pub(super) fn send(&mut self, frame: &[u8]) {
        self.queue(frame, Completion::None);
    }

    fn queue(&mut self, frame: &[u8], completion: Completion) {
        if self.backlog.is_empty() && self.device.transmit(frame, completion).is_ok() {
            count_sent(&mut self.counters, frame);
            self.must_flush = true;
        } else if self.backlog.len() < LONGEST_BACKLOG {
            self.backlog.push_back((frame.to_vec(), completion));
        } else {
            self.counters.dropped_sends += 1;
        }
    }

    /// Lets `build` write a frame of `length` bytes and sends it.
    fn build<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut frame = core::mem::take(&mut self.outgoing);
        frame.clear();
        frame.resize(length, 0);
        let result = build(&mut frame);
        let sent = sent::inspect(&frame);
        match sent {
            Sent::Segment(segment) => self.observed.segment = Some(segment),
            Sent::NeighbourQuestion => self.observed.lacks_neighbour = true,
            Sent::Other => {}
        }
        let completion = self.settle_checksum(&mut frame);
        self.queue(&frame, completion);
        self.outgoing = frame;
        result
    }

    /// smoltcp left the TCP or UDP checksum out if the device completes it for either IP
    /// version: leave it to the device, or fill it in for the version it does not do.
    fn settle_checksum(&self, frame: &mut [u8]) -> Completion {
        if !self.leaves_out_checksums() {
            return Completion::None;
        }
        match sent::checksummed(frame) {
            Some(packet) if packet.is_ipv6 && self.offload.transmit_ipv6 => Completion::Checksum,
            Some(packet) if !packet.is_ipv6 && self.offload.transmit_ipv4 => Completion::Checksum,
            Some(packet) => {
                packet.fill(frame);
                Completion::None
            }
            None => Completion::None,
        }
    }

    fn leaves_out_checksums(&self) -> bool {
        self.offload.transmit_ipv4 || self.offload.transmit_ipv6
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let transport = || match (self.leaves_out_checksums(), self.offload.receive_verified) {
            (false, false) => Checksum::Both,
            (false, true) => Checksum::Tx,
            (true, false) => Checksum::Rx,
            (true, true) => Checksum::None,
        };
        let mut checksum = ChecksumCapabilities::default();
        checksum.tcp = transport();
        checksum.udp = transport();
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu() + ETHERNET_HEADER_LEN;
        capabilities.checksum = checksum;
        capabilities
    }
}

/// A port during one call of smoltcp.
pub(super) struct Exchange<'a> {
    port: &'a mut Port,
    frame: Option<&'a [u8]>,
}

impl Device for Exchange<'_> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let frame = self.frame.take()?;
        Some((Received(frame), Sending::answer(self.port)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        // What sockets want to send stays with them until the device has room.
        (!self.port.is_stalled()).then(|| Sending::packet(self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.port.capabilities()
    }
}

/// The frame to receive.
pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, receive: F) -> R {
        receive(self.0)
    }
}

/// The permission to send one frame.
pub(super) struct Sending<'a> {
    port: &'a mut Port,
    /// A socket has a packet to send; otherwise this is for an answer that may not come.
    is_needed: bool,
}

impl<'a> Sending<'a> {
    fn packet(port: &'a mut Port) -> Self {
        Self {
            port,
            is_needed: true,
        }
    }

    fn answer(port: &'a mut Port) -> Self {
        Self {
            port,
            is_needed: false,
        }
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, build: F) -> R {
        self.is_needed = false;
        self.port.build(length, build)
    }
}

impl Drop for Sending<'_> {
    /// smoltcp gives up a permission it asked for when it does not know the neighbour and has
    /// asked for another one less than a second ago.
    fn drop(&mut self) {
        if self.is_needed {
            self.port.observed.lacks_neighbour = true;
        }
    }
}

fn count_sent(counters: &mut Counters, frame: &[u8]) {
    counters.sent_frames += 1;
    counters.sent_bytes += frame.len() as u64;
}
