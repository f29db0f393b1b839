//! The backend's end of both rings.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::task::{Context, Waker};

use xen_proto::fake::{FakePeer, FakePort, MappedPage};
use xen_proto::hypervisor::{EventPort, GrantReference, PAGE_SIZE, PortNumber, SharedPage};
use xen_proto::ring::{BackRing, RingIndex};

use super::{Options, Packet, ReceivedFrame};
use crate::checksum::{IpVersion, Segment, Transport};
use crate::wire::{
    ExtraInfo, ExtraKind, MAXIMUM_SLOTS_PER_PACKET, RECEIVE_SLOT_BYTES, ReceiveFlags,
    ReceiveRequest, ReceiveResponse, Segmentation, TRANSMIT_SLOT_BYTES, TransmitFlags,
    TransmitRequest, TransmitResponse, TransmitStatus,
};

/// When and in which order transmit requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// As soon as they are seen, in order.
    AtOnce,
    /// In the reverse order of each batch.
    Reversed,
    /// Not before [`Rings::complete`].
    Never,
}

/// A request that was taken and not answered.
struct Outstanding {
    id: u16,
    grant: GrantReference,
    /// A descriptor follows it.
    has_descriptor: bool,
}

/// Both rings, mapped, and the event channels.
pub struct Rings {
    peer: FakePeer,
    transmit: BackRing<MappedPage, TransmitRequest, TransmitResponse>,
    receive: BackRing<MappedPage, ReceiveRequest, ReceiveResponse>,
    transmit_port: FakePort,
    receive_port: Option<FakePort>,
    blank_ipv4: bool,
    blank_ipv6: bool,
    scatter_gather: bool,
    segmentation: bool,
    /// Requests taken and not answered.
    outstanding: VecDeque<Outstanding>,
    /// Pages offered to receive into and not used yet.
    offered: VecDeque<ReceiveRequest>,
    /// Packets that wait for pages.
    backlog: VecDeque<Packet>,
    /// There may be pages to receive into that nobody looked at.
    look_for_pages: bool,
    /// There may be frames that nobody looked at.
    look_for_frames: bool,
    /// Frames that the guest sent, oldest first.
    pub received: VecDeque<ReceivedFrame>,
    /// Every grant that was ever named, in either direction.
    pub grants_seen: BTreeSet<GrantReference>,
    /// Events sent to the guest.
    pub notifications: u64,
}

impl Rings {
    pub(super) fn connect(
        peer: FakePeer,
        transmit_ring: GrantReference,
        receive_ring: GrantReference,
        transmit_port: PortNumber,
        receive_port: Option<PortNumber>,
        options: &Options,
    ) -> Self {
        let transmit = BackRing::attach(peer.map(transmit_ring), TRANSMIT_SLOT_BYTES);
        let receive = BackRing::attach(peer.map(receive_ring), RECEIVE_SLOT_BYTES);
        Self {
            transmit,
            receive,
            transmit_port: peer.bind(transmit_port),
            receive_port: receive_port.map(|port| peer.bind(port)),
            peer,
            blank_ipv4: !options.no_checksum_offload,
            blank_ipv6: options.ipv6_checksum_offload,
            scatter_gather: options.scatter_gather,
            segmentation: options.segmentation,
            outstanding: VecDeque::new(),
            offered: VecDeque::new(),
            backlog: VecDeque::new(),
            look_for_pages: true,
            look_for_frames: true,
            received: VecDeque::new(),
            grants_seen: BTreeSet::new(),
            notifications: 0,
        }
    }

    /// Sends a packet to the guest, now or when it has offered enough pages.
    pub fn send(&mut self, packet: Packet) {
        self.look_for_pages |= self.backlog.is_empty();
        self.backlog.push_back(packet);
    }

    /// Packets that wait for pages.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Pages the guest offers now.
    pub fn offered(&mut self) -> usize {
        self.take_offers();
        self.offered.len()
    }

    /// Answers the `index`th oldest transmit request, and the descriptor behind it. Its answer
    /// has no id: as in Linux, what lies there is left over.
    pub fn complete(&mut self, index: usize, status: TransmitStatus) {
        const LEFT_OVER: u16 = 0xdb01;
        let request = self.outstanding.remove(index).expect("it is outstanding");
        self.answer(TransmitResponse {
            id: request.id,
            status,
        });
        if request.has_descriptor {
            self.answer(TransmitResponse {
                id: LEFT_OVER,
                status: TransmitStatus::Null,
            });
        }
    }

    /// Transmit requests that were not answered.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Puts a transmit response, true or not, without publishing it.
    pub fn answer(&mut self, response: TransmitResponse) {
        self.transmit
            .push_response(&response)
            .expect("a response answers a request");
    }

    /// Uses up the next offered page: puts a receive response made from its request, true or
    /// not, without publishing it.
    pub fn respond(&mut self, response: impl FnOnce(ReceiveRequest) -> [u8; RECEIVE_SLOT_BYTES]) {
        self.take_offers();
        let request = self.offered.pop_front().expect("the guest offers pages");
        self.receive
            .push_raw(&response(request))
            .expect("a response answers a request");
    }

    /// Shows the guest all responses and notifies it if it asked for that.
    pub fn publish(&mut self) {
        if self.transmit.publish_responses() {
            self.notify_transmit();
        }
        if self.receive.publish_responses() {
            self.notify_receive();
        }
    }

    /// Sends an event for the transmit ring, asked for or not.
    pub fn notify_transmit(&mut self) {
        self.notifications += 1;
        self.transmit_port.notify();
    }

    /// Sends an event for the receive ring, asked for or not.
    pub fn notify_receive(&mut self) {
        self.notifications += 1;
        self.receive_port
            .as_ref()
            .unwrap_or(&self.transmit_port)
            .notify();
    }

    /// The page under the transmit ring, to write nonsense into.
    pub fn transmit_page(&self) -> &MappedPage {
        self.transmit.page()
    }

    /// The page under the receive ring, to write nonsense into.
    pub fn receive_page(&self) -> &MappedPage {
        self.receive.page()
    }

    /// Position of the next receive response.
    pub fn next_receive_response(&self) -> RingIndex {
        self.receive.next_response()
    }

    /// Position of the next transmit response.
    pub fn next_transmit_response(&self) -> RingIndex {
        self.transmit.next_response()
    }

    /// Takes what the guest sends, answers it, and sends what waits and finds pages. Looks into
    /// a ring only after an event: a guest that does not notify is not served.
    pub(super) fn service(&mut self, completion: Completion) -> bool {
        let mut idle = Context::from_waker(Waker::noop());
        if self.transmit_port.poll_event(&mut idle).is_ready() {
            self.look_for_frames = true;
            self.look_for_pages |= self.receive_port.is_none();
        }
        if let Some(port) = &self.receive_port {
            self.look_for_pages |= port.poll_event(&mut idle).is_ready();
        }
        let mut worked = false;
        if mem::take(&mut self.look_for_frames) {
            worked |= self.take_frames();
            self.look_for_frames = self.transmit.final_check_for_requests();
        }
        worked |= self.complete_all(completion);
        if mem::take(&mut self.look_for_pages) {
            worked |= self.deliver();
            self.look_for_pages =
                !self.backlog.is_empty() && self.receive.final_check_for_requests();
        }
        self.publish();
        worked || self.look_for_frames || self.look_for_pages
    }

    fn complete_all(&mut self, completion: Completion) -> bool {
        let mut worked = false;
        while let Some(last) = self.outstanding.len().checked_sub(1) {
            let next = match completion {
                Completion::Never => break,
                Completion::AtOnce => 0,
                Completion::Reversed => last,
            };
            self.complete(next, TransmitStatus::Okay);
            worked = true;
        }
        worked
    }

    fn take_frames(&mut self) -> bool {
        let mut worked = false;
        while let Some(first) = self.next_request() {
            worked = true;
            let frame = self.take_frame(first);
            self.received.push_back(frame);
        }
        worked
    }

    fn next_request(&mut self) -> Option<TransmitRequest> {
        let request = self.transmit.pop_request().expect("req_prod is possible")?;
        let flags = request.flags;
        assert_eq!(
            flags,
            TransmitFlags::from_bits_truncate(flags.bits()),
            "unknown flag"
        );
        for other in &self.outstanding {
            assert_ne!(other.id, request.id, "the id is in use");
            assert_ne!(other.grant, request.grant, "the page is in use");
        }
        self.outstanding.push_back(Outstanding {
            id: request.id,
            grant: request.grant,
            has_descriptor: flags.contains(TransmitFlags::EXTRA_INFO),
        });
        self.grants_seen.insert(request.grant);
        Some(request)
    }

    /// Takes the descriptor that was announced.
    fn next_descriptor(&mut self) -> Segmentation {
        let mut slot = [0; RECEIVE_SLOT_BYTES];
        let there = self.transmit.pop_raw(&mut slot);
        assert_eq!(there, Ok(true), "a packet is published whole");
        let extra = ExtraInfo::from_bytes(&slot).expect("a descriptor");
        assert!(!extra.more, "one descriptor is all there is to say");
        assert_eq!([slot[5], slot[6], slot[7]], [0; 3], "no features");
        match extra.kind {
            ExtraKind::Segmentation(segmentation) => segmentation,
            ExtraKind::Ignored(number) => panic!("descriptor {number} was not offered"),
        }
    }

    fn take_frame(&mut self, first: TransmitRequest) -> ReceivedFrame {
        let segmentation = first
            .flags
            .contains(TransmitFlags::EXTRA_INFO)
            .then(|| self.next_descriptor());
        let mut requests = vec![first];
        let mut more = first.flags.contains(TransmitFlags::MORE_DATA);
        while more {
            assert!(self.scatter_gather, "feature-sg was not offered");
            let next = self.next_request().expect("a packet is published whole");
            assert!(
                next.flags.difference(TransmitFlags::MORE_DATA).is_empty(),
                "only the first slot has other flags"
            );
            more = next.flags.contains(TransmitFlags::MORE_DATA);
            requests.push(next);
        }
        let slots = requests.len();
        assert!(slots <= MAXIMUM_SLOTS_PER_PACKET, "packet of {slots} slots");
        // The first slot's size is the whole packet's.
        let others: usize = requests[1..]
            .iter()
            .map(|next| usize::from(next.size))
            .sum();
        let total = usize::from(first.size);
        assert!(total > others, "fragments exceed the packet");
        let mut bytes = Vec::with_capacity(total);
        for (index, request) in requests.iter().enumerate() {
            let size = if index == 0 {
                total - others
            } else {
                usize::from(request.size)
            };
            assert!(size > 0, "an empty slot");
            let offset = usize::from(request.offset);
            assert!(offset + size <= PAGE_SIZE, "data crosses its page");
            self.peer
                .map(request.grant)
                .append(offset, size, &mut bytes);
        }
        assert!(total - others >= 14, "no Ethernet header in the first slot");
        let blank = first.flags.contains(TransmitFlags::CHECKSUM_BLANK);
        match segmentation {
            Some(segmentation) => {
                assert!(self.segmentation, "segmentation was not offered");
                assert!(blank, "a packet to be cut has a blank checksum");
                self.check_segmented(&bytes, segmentation);
            }
            None if blank => self.complete_checksum(&mut bytes),
            None => {}
        }
        ReceivedFrame {
            bytes,
            flags: first.flags,
            slots,
            segmentation,
        }
    }

    fn check_segmented(&self, frame: &[u8], segmentation: Segmentation) {
        let segment = Segment::locate(frame).expect("only TCP is cut");
        assert_eq!(segment.transport, Transport::Tcp, "only TCP is cut");
        assert_eq!(segment.ip_version, segmentation.ip_version);
        assert_eq!(segment.range.end, frame.len(), "something follows it");
        let field = [frame[segment.field], frame[segment.field + 1]];
        let pseudo_header = segment.pseudo_header_sum();
        assert_eq!(u16::from_be_bytes(field), pseudo_header, "of the whole");
    }

    /// Does what a network card does: adds everything from the transport header to the end of
    /// the frame, the pseudo-header's sum in the field included.
    fn complete_checksum(&self, frame: &mut [u8]) {
        let segment = Segment::locate(frame).expect("only TCP and UDP have blank checksums");
        assert!(
            match segment.ip_version {
                IpVersion::V4 => self.blank_ipv4,
                IpVersion::V6 => self.blank_ipv6,
            },
            "checksum offload was not offered"
        );
        let mut sum = 0u32;
        for pair in frame[segment.range.start..].chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = !(sum as u16);
        frame[segment.field..segment.field + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn take_offers(&mut self) {
        while let Some(request) = self.receive.pop_request().expect("req_prod is possible") {
            let same =
                |other: &ReceiveRequest| other.id == request.id || other.grant == request.grant;
            assert!(
                !self.offered.iter().any(same),
                "id or page is offered twice"
            );
            self.grants_seen.insert(request.grant);
            self.offered.push_back(request);
        }
    }

    fn deliver(&mut self) -> bool {
        self.take_offers();
        let mut worked = false;
        while let Some(packet) = self.backlog.front() {
            if packet.fragments.len() + packet.extras.len() > self.offered.len() {
                break;
            }
            if let Some(packet) = self.backlog.pop_front() {
                self.deliver_packet(&packet);
                worked = true;
            }
        }
        worked
    }

    fn deliver_packet(&mut self, packet: &Packet) {
        let last = packet.fragments.len() - 1;
        for (index, fragment) in packet.fragments.iter().enumerate() {
            let mut flags = ReceiveFlags::empty();
            if index == 0 {
                flags |= packet.flags;
                flags.set(ReceiveFlags::EXTRA_INFO, !packet.extras.is_empty());
            }
            flags.set(ReceiveFlags::MORE_DATA, index != last);
            let peer = self.peer.clone();
            self.respond(|request| {
                peer.map(request.grant)
                    .write(usize::from(fragment.offset), &fragment.bytes);
                ReceiveResponse {
                    id: request.id,
                    offset: fragment.offset,
                    flags,
                    status: fragment.error.unwrap_or(fragment.bytes.len() as i16),
                }
                .to_bytes()
            });
            if index == 0 {
                for (number, extra) in packet.extras.iter().enumerate() {
                    let more = number + 1 != packet.extras.len();
                    self.respond(|_| ExtraInfo { more, ..*extra }.to_bytes());
                }
            }
        }
    }
}
