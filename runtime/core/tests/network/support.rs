//! A clock that jumps, wires that lose, and stacks at their ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use failing_memory::unharmed;
use rekernel_core::executor;
use rekernel_core::net::device::{
    ChecksumOffload, Completion, NetworkDevice, QueueFull, SegmentationOffload,
};
use rekernel_core::net::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config, Stack};
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::time::Duration;

/// A machine on which every round of the executor takes a microsecond, and whose clock jumps to
/// the next timer when nothing is left to do.
#[derive(Default)]
pub(crate) struct VirtualTime {
    now: Cell<Duration>,
    seed: Cell<u8>,
    /// There are buffers that are backed when they are touched.
    pub(crate) has_pages: Cell<bool>,
    /// No more of them can be backed.
    pub(crate) is_short: Cell<bool>,
    /// There is no memory for new work.
    pub(crate) lacks_headroom: Cell<bool>,
    /// Bytes that were given back.
    pub(crate) given_back: Cell<usize>,
}

impl Platform for VirtualTime {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wall_clock(&self) -> Option<Duration> {
        None
    }

    fn dispatch_events(&self) -> bool {
        self.now.set(self.now.get() + Duration::from_micros(1));
        false
    }

    fn idle(&self, deadline: Option<Duration>) {
        let deadline = deadline.expect("every task waits for another: the test would hang");
        self.now.set(self.now.get().max(deadline));
        assert!(
            self.now.get() < Duration::from_secs(24 * 60 * 60),
            "the test does not end"
        );
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        // The same in every run: a failure can be repeated.
        self.seed.set(self.seed.get() + 1);
        *seed = [self.seed.get(); 32];
        Ok(())
    }

    fn socket_buffer(&self, bytes: usize) -> Option<Vec<u8>> {
        self.has_pages.get().then(|| vec![0; bytes])
    }

    fn can_back(&self, _bytes: usize) -> bool {
        !self.is_short.get()
    }

    fn has_headroom(&self) -> bool {
        !self.lacks_headroom.get()
    }

    fn give_back(&self, unused: &mut [u8]) {
        unused.fill(0);
        self.given_back.set(self.given_back.get() + unused.len());
    }
}

/// Runs `test` in virtual time.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    executor::run(Box::leak(Box::<VirtualTime>::default()), test)
}

/// As [`run`], on a machine with buffers whose pages take memory only once they are touched.
pub(crate) fn run_with_pages<F: Future>(test: impl FnOnce(&'static VirtualTime) -> F) -> F::Output {
    let machine: &'static VirtualTime = Box::leak(Box::default());
    machine.has_pages.set(true);
    executor::run(machine, test(machine))
}

/// What a wire does to one frame in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u32,
    pub(crate) duplicate: u32,
    pub(crate) reorder: u32,
    pub(crate) corrupt: u32,
}

/// One direction of a wire.
struct Lane {
    frames: VecDeque<Vec<u8>>,
    held_back: Option<Vec<u8>>,
    reader: Option<Waker>,
    faults: Faults,
    random: u64,
    /// Frames that fit before the device is full.
    room: usize,
    writer: Option<Waker>,
    carried: u64,
    /// Of those, segments that the device cut.
    cut: u64,
}

impl Lane {
    fn new(seed: u64) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            frames: VecDeque::new(),
            held_back: None,
            reader: None,
            faults: Faults::default(),
            random: seed,
            room: 256,
            writer: None,
            carried: 0,
            cut: 0,
        }))
    }

    fn push(&mut self, mut frame: Vec<u8>) {
        self.carried += 1;
        if self.happens(self.faults.drop) {
            return;
        }
        // ARP has no checksum: one wrong bit would send everything astray for a minute.
        let is_arp = frame[12..14] == [8, 6];
        if !is_arp && self.happens(self.faults.corrupt) {
            let bit = self.next() as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        if self.happens(self.faults.duplicate) {
            self.frames.push_back(frame.clone());
        }
        if self.held_back.is_none() && self.happens(self.faults.reorder) {
            self.held_back = Some(frame);
            return;
        }
        self.frames.push_back(frame);
        self.frames.extend(self.held_back.take());
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Some(frame)
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        (self.next() % 1000) < u64::from(per_mille)
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// Settings of a wire that a test changes while it runs.
#[derive(Clone)]
pub(crate) struct Wire {
    lanes: [Rc<RefCell<Lane>>; 2],
    link: Rc<RefCell<Link>>,
}

#[derive(Default)]
struct Link {
    is_up: bool,
    epoch: u64,
    /// The device at the first end was taken away.
    is_absent: bool,
    /// What the host says about the device at the first end, where a test changes it.
    mac: Option<[u8; 6]>,
    assigned: Option<&'static str>,
    watchers: Vec<Waker>,
}

impl Wire {
    /// A wire and its two ends.
    pub(crate) fn new() -> (Wire, End, End) {
        let wire = Wire {
            lanes: [Lane::new(0x1234_5678), Lane::new(0x9abc_def0)],
            link: Rc::new(RefCell::new(Link {
                is_up: true,
                ..Link::default()
            })),
        };
        let end = |own: usize, mac: u8| End {
            name: format!("wire{own}"),
            mac: [0x02, 0, 0, 0, 0, mac],
            is_first: own == 0,
            incoming: wire.lanes[1 - own].clone(),
            outgoing: wire.lanes[own].clone(),
            link: wire.link.clone(),
            offload: ChecksumOffload::default(),
            segmentation: SegmentationOffload::default(),
            delivers_whole: false,
            mtu: 1500,
        };
        let (first, second) = (end(0, 1), end(1, 2));
        (wire, first, second)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        for lane in &self.lanes {
            lane.borrow_mut().faults = faults;
        }
    }

    /// Starts another sequence of faults.
    pub(crate) fn set_seed(&self, seed: u64) {
        for (index, lane) in (1..).zip(&self.lanes) {
            lane.borrow_mut().random = (seed * 2 + index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// How many frames fit into the devices at both ends.
    pub(crate) fn set_room(&self, frames: usize) {
        for lane in &self.lanes {
            lane.borrow_mut().room = frames;
        }
    }

    pub(crate) fn set_link(&self, is_up: bool) {
        self.change_link(|link| link.is_up = is_up);
    }

    /// The link goes down and comes up again before anybody can look.
    pub(crate) fn interrupt_link(&self) {
        self.change_link(|link| link.epoch += 1);
    }

    /// Takes the device at the first end away. What is sent there is lost.
    pub(crate) fn take_away(&self) {
        self.change_link(|link| link.is_absent = true);
    }

    /// Gives it back, with this Ethernet address.
    pub(crate) fn give_back(&self, mac: [u8; 6]) {
        self.change_link(|link| {
            link.is_absent = false;
            link.mac = Some(mac);
        });
    }

    /// Has the host assign another address to the device at the first end.
    pub(crate) fn assign(&self, address: &'static str) {
        self.change_link(|link| link.assigned = Some(address));
    }

    fn change_link(&self, change: impl FnOnce(&mut Link)) {
        let mut link = self.link.borrow_mut();
        change(&mut link);
        for watcher in link.watchers.drain(..) {
            watcher.wake();
        }
    }

    /// Segments that the devices cut from longer frames.
    pub(crate) fn cut(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.borrow().cut).sum()
    }

    /// Frames that were put on the wire, both directions together.
    pub(crate) fn carried(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.borrow().carried).sum()
    }
}

/// One end of a wire: a network device, or something to speak raw frames with.
pub(crate) struct End {
    name: String,
    pub(crate) mac: [u8; 6],
    is_first: bool,
    incoming: Rc<RefCell<Lane>>,
    outgoing: Rc<RefCell<Lane>>,
    link: Rc<RefCell<Link>>,
    pub(crate) offload: ChecksumOffload,
    pub(crate) segmentation: SegmentationOffload,
    /// What is to be cut reaches the other end in one piece, as between two guests of a host.
    pub(crate) delivers_whole: bool,
    pub(crate) mtu: usize,
}

impl End {
    pub(crate) fn send(&self, frame: &[u8]) {
        self.outgoing.borrow_mut().push(frame.to_vec());
    }

    pub(crate) async fn next(&self) -> Vec<u8> {
        poll_fn(|task| {
            let mut incoming = self.incoming.borrow_mut();
            match incoming.pop() {
                Some(frame) => Poll::Ready(frame),
                None => {
                    incoming.reader = Some(task.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(crate) fn try_next(&self) -> Option<Vec<u8>> {
        self.incoming.borrow_mut().pop()
    }
}

impl NetworkDevice for End {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_present(&self) -> bool {
        !(self.is_first && self.link.borrow().is_absent)
    }

    fn mac(&self) -> [u8; 6] {
        let told = self.link.borrow().mac.filter(|_| self.is_first);
        told.unwrap_or(self.mac)
    }

    fn assigned_address(&self) -> Option<&str> {
        self.link.borrow().assigned.filter(|_| self.is_first)
    }

    fn link_epoch(&self) -> u64 {
        self.link.borrow().epoch
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn checksum_offload(&self) -> ChecksumOffload {
        self.offload
    }

    fn segmentation_offload(&self) -> SegmentationOffload {
        self.segmentation
    }

    fn link_is_up(&self) -> bool {
        self.link.borrow().is_up && self.is_present()
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        match self.incoming.borrow_mut().pop() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }

    fn transmit(&mut self, frame: &[u8], completion: Completion) -> Result<(), QueueFull> {
        unharmed(|| self.carry(frame, completion))
    }

    fn flush(&mut self) {}

    fn poll_event(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let mut incoming = self.incoming.borrow_mut();
        incoming.reader = Some(task.waker().clone());
        self.outgoing.borrow_mut().writer = Some(task.waker().clone());
        let watcher = task.waker().clone();
        unharmed(|| self.link.borrow_mut().watchers.push(watcher));
        match incoming.frames.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl End {
    fn carry(&self, frame: &[u8], completion: Completion) -> Result<(), QueueFull> {
        if !self.link_is_up() || self.link.borrow().is_absent {
            return Ok(());
        }
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.frames.len() >= outgoing.room {
            return Err(QueueFull);
        }
        let pieces = match completion {
            Completion::Segments { payload } if !self.delivers_whole => {
                cut(frame, usize::from(payload.get()))
            }
            _ => vec![frame.to_vec()],
        };
        let is_ipv6 = frame[12..14] == [0x86, 0xdd];
        for mut piece in pieces {
            if completion != Completion::None {
                let offered = match is_ipv6 {
                    true => self.offload.transmit_ipv6,
                    false => self.offload.transmit_ipv4,
                };
                assert!(offered, "an offload that the device does not offer");
                crate::support::fill_checksum(&mut piece);
            }
            if let Completion::Segments { .. } = completion {
                let offered = match is_ipv6 {
                    true => self.segmentation.transmit_ipv6,
                    false => self.segmentation.transmit_ipv4,
                };
                assert!(offered, "an offload that the device does not offer");
                outgoing.cut += 1;
            }
            let is_whole = self.delivers_whole && matches!(completion, Completion::Segments { .. });
            assert!(is_whole || piece.len() <= 14 + self.mtu, "too long");
            outgoing.push(piece);
        }
        Ok(())
    }
}

/// What a device with segmentation offload does, but for the checksums.
fn cut(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    assert!(frame.len() <= 14 + 65535, "longer than IP allows");
    let is_ipv6 = frame[12..14] == [0x86, 0xdd];
    let ip = &frame[14..];
    let (length, transport) = match is_ipv6 {
        true => (u16::from_be_bytes([ip[4], ip[5]]) + 40, 54),
        false => (u16::from_be_bytes([ip[2], ip[3]]), 34),
    };
    assert_eq!(
        usize::from(length),
        ip.len(),
        "the length is that of the whole"
    );
    let payload_start = transport + usize::from(frame[transport + 12] >> 4) * 4;
    let (headers, payload) = frame.split_at(payload_start);
    assert!(payload.len() > size, "nothing to cut");
    let sequence = u32::from_be_bytes(headers[transport + 4..][..4].try_into().unwrap());
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(index, part)| {
            let mut piece = [headers, part].concat();
            let length = (piece.len() - 14) as u16;
            if is_ipv6 {
                piece[18..20].copy_from_slice(&(length - 40).to_be_bytes());
            } else {
                piece[16..18].copy_from_slice(&length.to_be_bytes());
                let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(&mut piece[14..]);
                packet.fill_checksum();
            }
            let sequence = sequence.wrapping_add((index * size) as u32);
            piece[transport + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
            if index + 1 < count {
                const FIN_AND_PSH: u8 = 0b1001;
                piece[transport + 13] &= !FIN_AND_PSH;
            }
            piece
        })
        .collect()
}

/// What a device with checksum offload does.
pub(crate) fn fill_checksum(frame: &mut [u8]) {
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
        UdpPacket,
    };
    let mut ethernet = EthernetFrame::new_checked(frame).unwrap();
    let ethertype = ethernet.ethertype();
    let packet = ethernet.payload_mut();
    let (source, destination, protocol, start): (IpAddress, IpAddress, _, _) = match ethertype {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(&*packet).unwrap();
            let start = usize::from(ip.header_len());
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                start,
            )
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(&*packet).unwrap();
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                40,
            )
        }
        other => panic!("checksum offload of a frame of type {other}"),
    };
    let payload = &mut packet[start..];
    match protocol {
        IpProtocol::Tcp => {
            let mut segment = TcpPacket::new_unchecked(payload);
            assert_eq!(segment.checksum(), 0, "computed twice");
            segment.fill_checksum(&source, &destination);
        }
        IpProtocol::Udp => {
            let mut datagram = UdpPacket::new_unchecked(payload);
            assert_eq!(datagram.checksum(), 0, "computed twice");
            datagram.fill_checksum(&source, &destination);
        }
        other => panic!("checksum offload of protocol {other}"),
    }
}

pub(crate) fn static_ipv4(address: [u8; 4]) -> AddressConfig {
    AddressConfig {
        ipv4: Ipv4Config::Static {
            address: Ipv4Addr::from(address),
            prefix_length: 24,
            gateway: None,
            source: AddressSource::CommandLine,
        },
        ipv6: Ipv6Config::Off,
    }
}

pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];
pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 2];

/// Two stacks, 10.0.0.1 and 10.0.0.2, at the ends of a wire.
pub(crate) struct Pair {
    pub(crate) wire: Wire,
    pub(crate) server: Stack,
    pub(crate) client: Stack,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub(crate) fn with(prepare: impl FnOnce(&mut End, &mut End)) -> Self {
        let (wire, mut first, mut second) = Wire::new();
        prepare(&mut first, &mut second);
        let (server, client) = (Stack::new(), Stack::new());
        server.add_interface(Box::new(first), static_ipv4(SERVER));
        client.add_interface(Box::new(second), static_ipv4(CLIENT));
        Self {
            wire,
            server,
            client,
        }
    }
}

/// A stack and the raw other end of its wire.
pub(crate) fn alone(config: AddressConfig) -> (Wire, Stack, End) {
    alone_with(config, |_| {})
}

/// As [`alone`], with a device that `prepare` changed.
pub(crate) fn alone_with(
    config: AddressConfig,
    prepare: impl FnOnce(&mut End),
) -> (Wire, Stack, End) {
    let (wire, mut first, second) = Wire::new();
    prepare(&mut first);
    let stack = Stack::new();
    stack.add_interface(Box::new(first), config);
    (wire, stack, second)
}

/// An unbound address of a stack of a [`Pair`].
pub(crate) fn at(address: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

/// Lets the interfaces take up their addresses.
pub(crate) async fn settle() {
    for _ in 0..10 {
        executor::yield_now().await;
    }
}

/// Bytes that differ from position to position and from stream to stream.
pub(crate) fn pattern(stream: u64, length: usize) -> Vec<u8> {
    let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// Keeps what this test's thread logs, at level warn and above.
pub(crate) fn capture_log() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// What was logged since [`capture_log`].
pub(crate) fn log_lines() -> Vec<String> {
    LINES.with_borrow(Vec::clone)
}
