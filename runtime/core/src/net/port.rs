//! Between smoltcp and the driver of an interface: hands one received frame in, carries frames
//! out, keeps what the device has no room for, and notes what was sent.
//!
//! smoltcp believes that the link carries IP packets of any length. So it builds one packet of
//! up to 64 KiB where a device cuts them into segments, and what is too long for the link is
//! cut here: by the device where it can, else by [`cut`].

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroUsize};

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::{ETHERNET_HEADER_LEN, IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP_HEADER_LEN};

use super::Counters;
use super::capture::{Direction, Tap};
use super::cut;
use super::device::{ChecksumOffload, Completion, NetworkDevice, QueueFull, SegmentationOffload};
use super::sent::{IpHeader, Sent, Tcp};
use crate::memory;
use crate::random;

/// Frames kept while the device is full. Only answers to received frames can pile up here:
/// sockets do not send while one waits.
const LONGEST_BACKLOG: usize = 64;

/// Longest IP packet in bytes that its length field can tell, Ethernet header excluded.
const LONGEST_PACKET: usize = u16::MAX as usize;

/// Longest frame in bytes that a device has to cut, Ethernet header included.
const LONGEST_FRAME_TO_CUT: usize = u16::MAX as usize;

/// All headers of a frame fit into this many bytes.
const HEADERS: usize = 128;

/// Payload in bytes for which an interface has memory from its start: whatever smoltcp sends of its own
/// accord, an acknowledgement, and most of what programs send.
const SHORT_PAYLOAD: usize = 2048;

/// The device of an interface, as the stack uses it.
pub(super) struct Port {
    pub(super) device: Box<dyn NetworkDevice>,
    number: usize,
    tap: Rc<Tap>,
    offload: ChecksumOffload,
    segmentation: SegmentationOffload,
    mtu: usize,
    /// The above as smoltcp is told.
    capabilities: DeviceCapabilities,
    /// Longest TCP payload of one frame that the peer of the connection takes which is sending.
    peer_segment: usize,
    /// The IPv4 identification of the next packet that goes in fragments.
    identification: u16,
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
    /// That segment has SYN.
    pub(super) opens: bool,
    /// That segment offers a window of zero.
    pub(super) closes_window: bool,
}

/// The numbers of a TCP segment that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sequence number after the segment.
    pub(super) next_sequence: u32,
    pub(super) acknowledgement: u32,
}

impl Port {
    /// `number` is that of the interface, whose frames `tap` may want to see.
    pub(super) fn new(device: Box<dyn NetworkDevice>, number: usize, tap: Rc<Tap>) -> Self {
        let mut port = Self {
            device,
            number,
            tap,
            offload: ChecksumOffload::default(),
            segmentation: SegmentationOffload::default(),
            mtu: 0,
            capabilities: DeviceCapabilities::default(),
            peer_segment: 0,
            identification: random::network_u64() as u16,
            backlog: VecDeque::new(),
            outgoing: vec![0; HEADERS + SHORT_PAYLOAD],
            must_flush: false,
            counters: Counters::default(),
            observed: Observed::default(),
        };
        port.renew_offload();
        port
    }

    /// Largest IP packet in bytes: what the device says, within what IP can do with it. IPv4
    /// demands 576 bytes of its hosts (RFC 791, section 3.1) and its length field ends at 65535.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Takes over what the device can do now.
    pub(super) fn renew_offload(&mut self) {
        self.mtu = self.device.mtu().clamp(576, LONGEST_PACKET);
        self.offload = self.device.checksum_offload();
        let segmentation = self.device.segmentation_offload();
        // Whoever cuts a packet has to write new checksums.
        self.segmentation = SegmentationOffload {
            transmit_ipv4: segmentation.transmit_ipv4 && self.offload.transmit_ipv4,
            transmit_ipv6: segmentation.transmit_ipv6 && self.offload.transmit_ipv6,
        };
        self.capabilities = self.capabilities();
    }

    /// Whether the checksums of received frames hold for sure.
    pub(super) fn vouches_for_checksums(&self) -> bool {
        self.offload.receive_verified
    }

    /// Bytes of TCP payload that fit into one packet of the link.
    pub(super) fn segment_size(&self, is_ipv6: bool) -> usize {
        self.mtu - ip_header_length(is_ipv6) - TCP_HEADER_LEN
    }

    /// The longest TCP payload that smoltcp puts into one packet of the connection that sends next.
    pub(super) fn longest_payload(&self) -> usize {
        let cut = &self.capabilities.segmentation;
        let cut = cut.tcpv4.max(cut.tcpv6).map_or(0, NonZeroUsize::get);
        self.peer_segment.max(cut)
    }

    /// The connection that sends next has a peer that takes segments with so much payload.
    pub(super) fn set_peer_segment(&mut self, bytes: u16) {
        self.peer_segment = usize::from(bytes);
    }

    /// Whether the device had no room for an earlier frame.
    pub(super) fn is_stalled(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Drops the frames that the device had no room for.
    pub(super) fn forget(&mut self) {
        self.counters.dropped_sends += self.backlog.len() as u64;
        self.backlog.clear();
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

    /// Shows a frame to who records them.
    pub(super) fn tap(&self, direction: Direction, frame: &[u8]) {
        self.tap
            .note(self.number, self.device.name(), direction, frame);
    }

    fn queue(&mut self, frame: &[u8], completion: Completion) {
        self.tap(Direction::Sent, frame);
        if self.backlog.is_empty() && self.device.transmit(frame, completion).is_ok() {
            count_sent(&mut self.counters, frame);
            self.must_flush = true;
        } else if self.backlog.len() < LONGEST_BACKLOG {
            self.keep(frame, completion);
        } else {
            self.counters.dropped_sends += 1;
        }
    }

    /// Keeps a frame until the device has room for it, if there is memory for that.
    fn keep(&mut self, frame: &[u8], completion: Completion) {
        match (memory::copy(frame), self.backlog.try_reserve(1)) {
            (Ok(frame), Ok(())) => self.backlog.push_back((frame, completion)),
            _ => self.counters.dropped_sends += 1,
        }
    }

    /// Whether smoltcp may build a frame with `payload` bytes after its headers: finds the memory
    /// for it. smoltcp cannot be told later that there is none.
    pub(super) fn has_room_to_build(&mut self, payload: usize) -> bool {
        let length = (HEADERS + payload).min(ETHERNET_HEADER_LEN + LONGEST_PACKET);
        let more = length.saturating_sub(self.outgoing.len());
        if more > 0 {
            if self.outgoing.try_reserve(more).is_err() {
                return false;
            }
            self.outgoing.resize(length, 0);
        }
        true
    }

    /// Lets `build` write a frame of `length` bytes and sends it.
    fn build<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut outgoing = core::mem::take(&mut self.outgoing);
        if outgoing.len() < length {
            outgoing.resize(length, 0);
        }
        let frame = &mut outgoing[..length];
        // smoltcp writes every byte of a frame. Should it miss one among the headers, nothing
        // of an earlier frame shows.
        frame[..length.min(HEADERS)].fill(0);
        let result = build(frame);
        self.finish(frame);
        self.outgoing = outgoing;
        result
    }

    /// Sends a frame that smoltcp built, as one or in pieces.
    fn finish(&mut self, frame: &mut [u8]) {
        let is_too_long = frame.len() - ETHERNET_HEADER_LEN > self.mtu;
        match Sent::inspect(frame) {
            Sent::Tcp(segment) => {
                self.observed.segment = Some(segment.numbers);
                self.observed.opens = segment.opens;
                self.observed.closes_window = segment.closes_window;
                self.finish_segment(frame, &segment);
            }
            Sent::Udp(ip) if is_too_long => {
                if self.leaves_out_checksums() {
                    // No device could compute it over several frames.
                    ip.fill_checksum(frame);
                }
                self.send_in_fragments(frame, ip.is_ipv6);
            }
            Sent::Udp(ip) => {
                let completion = self.settle_checksum(frame, &ip);
                self.queue(frame, completion);
            }
            Sent::NeighbourQuestion => {
                self.observed.lacks_neighbour = true;
                self.queue(frame, Completion::None);
            }
            Sent::Other if is_too_long => {
                self.send_in_fragments(frame, frame[ETHERNET_HEADER_LEN] >> 4 == 6);
            }
            Sent::Other => self.queue(frame, Completion::None),
        }
    }

    fn finish_segment(&mut self, frame: &mut [u8], segment: &Tcp) {
        let ip = segment.ip;
        if segment.opens {
            // smoltcp offers what fits into the longest packet of IP.
            let most = u16::try_from(self.segment_size(ip.is_ipv6)).unwrap_or(u16::MAX);
            ip.limit_segment_size(frame, most);
            if !self.leaves_out_checksums() {
                ip.fill_checksum(frame);
            }
        }
        // Answers of smoltcp's to received segments have no payload.
        let size = self.segment_size(ip.is_ipv6).min(self.peer_segment.max(1));
        if segment.payload <= size {
            let completion = self.settle_checksum(frame, &ip);
            self.queue(frame, completion);
            return;
        }
        let device_cuts = match ip.is_ipv6 {
            true => self.segmentation.transmit_ipv6,
            false => self.segmentation.transmit_ipv4,
        };
        let payload = u16::try_from(size).ok().and_then(NonZeroU16::new);
        if let Some(payload) = payload.filter(|_| device_cuts) {
            self.queue(frame, Completion::Segments { payload });
            return;
        }
        let is_cut = cut::into_segments(frame, ip.end, ip.is_ipv6, size, |piece| {
            let completion = match self.leaves_out_checksums() {
                true => self.settle_checksum(piece, &ip),
                false => {
                    ip.fill_checksum(piece);
                    Completion::None
                }
            };
            self.queue(piece, completion);
        });
        self.counters.dropped_sends += u64::from(is_cut.is_err());
    }

    fn send_in_fragments(&mut self, frame: &[u8], is_ipv6: bool) {
        if is_ipv6 {
            // Callers keep datagrams below; answers of ICMP do not grow so long.
            self.counters.dropped_sends += 1;
            return;
        }
        let identification = self.identification;
        self.identification = identification.wrapping_add(1);
        let is_cut = cut::into_fragments(frame, self.mtu, identification, |piece| {
            self.queue(piece, Completion::None);
        });
        self.counters.dropped_sends += u64::from(is_cut.is_err());
    }

    /// smoltcp left the TCP or UDP checksum out if the device completes it for either IP
    /// version: leave it to the device, or fill it in for the version it does not do.
    fn settle_checksum(&self, frame: &mut [u8], ip: &IpHeader) -> Completion {
        if !self.leaves_out_checksums() {
            return Completion::None;
        }
        let device_completes = match ip.is_ipv6 {
            true => self.offload.transmit_ipv6,
            false => self.offload.transmit_ipv4,
        };
        if device_completes {
            return Completion::Checksum;
        }
        ip.fill_checksum(frame);
        Completion::None
    }

    fn leaves_out_checksums(&self) -> bool {
        self.offload.transmit_ipv4 || self.offload.transmit_ipv6
    }

    /// The longest frame that the device cuts into segments: whole segments, so that a long
    /// transfer has no short ones in between.
    fn longest_cut(&self, is_offered: bool, is_ipv6: bool) -> Option<NonZeroUsize> {
        let headers = ip_header_length(is_ipv6) + TCP_HEADER_LEN;
        let size = self.segment_size(is_ipv6);
        let headers = ETHERNET_HEADER_LEN + headers;
        let payload = (LONGEST_FRAME_TO_CUT - headers) / size * size;
        NonZeroUsize::new(headers + payload).filter(|_| is_offered)
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
        capabilities.max_transmission_unit = LONGEST_PACKET + ETHERNET_HEADER_LEN;
        capabilities.checksum = checksum;
        let SegmentationOffload {
            transmit_ipv4,
            transmit_ipv6,
        } = self.segmentation;
        capabilities.segmentation.tcpv4 = self.longest_cut(transmit_ipv4, false);
        capabilities.segmentation.tcpv6 = self.longest_cut(transmit_ipv6, true);
        capabilities
    }
}

fn ip_header_length(is_ipv6: bool) -> usize {
    match is_ipv6 {
        true => IPV6_HEADER_LEN,
        false => IPV4_HEADER_LEN,
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
        // smoltcp asks with every packet, and forgets the answer.
        self.port.capabilities.clone()
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
