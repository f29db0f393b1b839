//! What a request and its answer cost the stack beside idle connections, and what those weigh.
//!
//! `cargo bench -p rekernel-core --bench connections` prints a table; numbers of connections
//! may follow as arguments, `exchanges=N`, and `flood=N` for as many that are begun and never completed. Two runs under callgrind that differ in N tell the
//! instructions of an exchange, which no noise of the machine changes. The peer is a few lines that write TCP segments by hand, so that
//! nearly all of the time is the stack's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use embedded_io_async::{Read, Write};
use rekernel_core::executor::{self, spawn, yield_now};
use rekernel_core::net::device::{ChecksumOffload, Completion, NetworkDevice, QueueFull};
use rekernel_core::net::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config, Stack, TcpOptions};
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::time::{Duration, sleep};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OWN_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const REQUEST: &[u8] = &[b'q'; 100];
const ANSWER: &[u8] = &[b'a'; 200];

/// Connections that talk while the others are idle.
const ACTIVE: usize = 8;
/// What is measured if no argument says otherwise.
const EXCHANGES: usize = 20_000;

/// Bytes of RAM that this process takes, as Linux counts.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| {
            let resident = text.split_whitespace().nth(1)?;
            resident.parse::<usize>().ok()
        });
    4096 * pages.expect("statm tells the resident pages")
}

/// A machine whose clock only moves while it idles.
struct Machine(Cell<Duration>);

impl Platform for Machine {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn wall_clock(&self) -> Option<Duration> {
        None
    }

    fn dispatch_events(&self) -> bool {
        self.0.set(self.0.get() + Duration::from_micros(1));
        false
    }

    fn idle(&self, deadline: Option<Duration>) {
        let deadline = deadline.expect("somebody waits for a timer");
        self.0.set(self.0.get().max(deadline));
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        *seed = [7; 32];
        Ok(())
    }
}

/// Frames on their way in both directions.
#[derive(Default)]
struct Wire {
    to_stack: VecDeque<Vec<u8>>,
    from_stack: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    reader: Option<Waker>,
}

struct Device(Rc<RefCell<Wire>>);

impl NetworkDevice for Device {
    fn name(&self) -> &str {
        "bench"
    }

    fn mac(&self) -> [u8; 6] {
        OWN_MAC.0
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn checksum_offload(&self) -> ChecksumOffload {
        ChecksumOffload {
            transmit_ipv4: true,
            transmit_ipv6: true,
            receive_verified: true,
        }
    }

    fn link_is_up(&self) -> bool {
        true
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        let mut wire = self.0.borrow_mut();
        let Some(mut next) = wire.to_stack.pop_front() else {
            return false;
        };
        core::mem::swap(frame, &mut next);
        wire.spare.push(next);
        true
    }

    fn transmit(&mut self, frame: &[u8], _completion: Completion) -> Result<(), QueueFull> {
        let mut wire = self.0.borrow_mut();
        let mut copy = wire.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        wire.from_stack.push_back(copy);
        Ok(())
    }

    fn flush(&mut self) {}

    fn poll_event(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let mut wire = self.0.borrow_mut();
        match wire.to_stack.is_empty() {
            true => {
                if !wire
                    .reader
                    .as_ref()
                    .is_some_and(|reader| reader.will_wake(task.waker()))
                {
                    wire.reader = Some(task.waker().clone());
                }
                Poll::Pending
            }
            false => Poll::Ready(()),
        }
    }
}

/// The peer's end of a connection.
#[derive(Clone, Copy)]
struct Peer {
    address: Ipv4Addr,
    port: u16,
    next: TcpSeqNumber,
    expected: TcpSeqNumber,
}

impl Peer {
    fn new(number: usize) -> Self {
        Self {
            address: Ipv4Addr::from_bits(0x0a00_0002 + (number / 50_000) as u32),
            port: (10_000 + number % 50_000) as u16,
            next: TcpSeqNumber(1000),
            expected: TcpSeqNumber(0),
        }
    }

    fn send(&mut self, wire: &RefCell<Wire>, control: TcpControl, payload: &[u8]) {
        let opens = control == TcpControl::Syn;
        let tcp = TcpRepr {
            src_port: self.port,
            dst_port: 80,
            control,
            seq_number: self.next,
            ack_number: (!opens).then_some(self.expected),
            window_len: 60_000,
            window_scale: None,
            max_seg_size: opens.then_some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None::<TcpTimestampRepr>,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: self.address,
            dst_addr: OWN,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut wire = wire.borrow_mut();
        let mut frame = wire.spare.pop().unwrap_or_default();
        frame.clear();
        frame.resize(14 + ip.buffer_len() + tcp.buffer_len(), 0);
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(PEER_MAC);
        ethernet.set_dst_addr(OWN_MAC);
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let checksums = ChecksumCapabilities::ignored();
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.emit(&mut packet, &checksums);
        packet.fill_checksum();
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &ip.src_addr.into(), &OWN.into(), &checksums);
        self.next += tcp.segment_len();
        wire.to_stack.push_back(frame);
        if let Some(reader) = wire.reader.take() {
            reader.wake();
        }
    }

    /// Takes the next segment of the stack's, or none if there is none yet.
    fn receive(&mut self, wire: &RefCell<Wire>) -> Option<usize> {
        let frame = wire.borrow_mut().from_stack.pop_front()?;
        let ethernet = EthernetFrame::new_unchecked(&frame);
        if ethernet.ethertype() == EthernetProtocol::Arp {
            introduce(wire, self.address);
            return None;
        }
        let mut wire = wire.borrow_mut();
        let packet = Ipv4Packet::new_unchecked(ethernet.payload());
        let segment = TcpPacket::new_unchecked(packet.payload());
        assert_eq!(segment.dst_port(), self.port, "a segment for another");
        self.expected = segment.seq_number() + segment.segment_len();
        let payload = segment.payload().len();
        wire.spare.push(frame);
        Some(payload)
    }

    async fn begin(&mut self, wire: &RefCell<Wire>) {
        self.send(wire, TcpControl::Syn, &[]);
        while self.receive(wire).is_none() {
            yield_now().await;
        }
    }

    async fn open(&mut self, wire: &RefCell<Wire>) {
        self.begin(wire).await;
        self.send(wire, TcpControl::None, &[]);
    }

    async fn exchange(&mut self, wire: &RefCell<Wire>) {
        self.send(wire, TcpControl::Psh, REQUEST);
        loop {
            match self.receive(wire) {
                Some(length) => return assert_eq!(length, ANSWER.len(), "one segment each way"),
                None => yield_now().await,
            }
        }
    }
}

/// Tells the stack where a peer is.
fn introduce(wire: &RefCell<Wire>, address: Ipv4Addr) {
    let mut frame = [&OWN_MAC.0[..], &PEER_MAC.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    frame.extend_from_slice(&PEER_MAC.0);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&OWN_MAC.0);
    frame.extend_from_slice(&OWN.octets());
    let mut wire = wire.borrow_mut();
    wire.to_stack.push_back(frame);
    if let Some(reader) = wire.reader.take() {
        reader.wake();
    }
}

async fn serve(stack: Stack) {
    let options = TcpOptions {
        receive_buffer: Some(1024),
        send_buffer: Some(1024),
        backlog: 1024,
        ..TcpOptions::default()
    };
    let listener = stack.listen((OWN, 80).into(), options).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        drop(spawn(async move {
            let mut buffer = [0; 512];
            while let Ok(1..) = stream.read(&mut buffer).await {
                stream.write_all(ANSWER).await.unwrap();
            }
        }));
    }
}

async fn measured_exchanges(wire: &RefCell<Wire>, peers: &mut [Peer], exchanges: usize) {
    for round in 0..exchanges {
        let active = round % ACTIVE;
        let peer = active * (peers.len() / ACTIVE);
        peers[peer].exchange(wire).await;
    }
}

/// A stack with one interface, on which `serve` listens.
async fn serving(wire: &Rc<RefCell<Wire>>) {
    let stack = Stack::new();
    let config = AddressConfig {
        ipv4: Ipv4Config::Static {
            address: OWN,
            prefix_length: 24,
            gateway: None,
            source: AddressSource::CommandLine,
        },
        ipv6: Ipv6Config::Off,
    };
    stack.add_interface(Box::new(Device(wire.clone())), config);
    drop(spawn(serve(stack)));
    yield_now().await;
}

/// Connections that are begun and never completed: each takes the place of an older one.
async fn flood(connections: usize) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    serving(&wire).await;
    let begin = std::time::Instant::now();
    for number in 0..connections {
        Peer::new(number).begin(&wire).await;
    }
    let each = begin.elapsed().as_nanos() / connections.max(1) as u128;
    println!("{connections:>11} {:>11} {each:>11}", "half open");
}

async fn measure(connections: usize, exchanges: usize) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    serving(&wire).await;
    let mut peers: Vec<Peer> = (0..connections).map(Peer::new).collect();
    let before = resident();
    let begin = std::time::Instant::now();
    for peer in &mut peers {
        peer.open(&wire).await;
    }
    let opening = begin.elapsed().as_nanos() / connections as u128;
    sleep(Duration::from_secs(5)).await;
    let weight = resident().saturating_sub(before) / connections;
    let begin = std::time::Instant::now();
    measured_exchanges(&wire, &mut peers, exchanges).await;
    let exchange = begin.elapsed().as_nanos() / exchanges.max(1) as u128;
    println!("{connections:>11} {weight:>11} {opening:>11} {exchange:>11}");
}

fn main() {
    let number = |key| {
        std::env::args().find_map(|argument| argument.strip_prefix(key)?.parse::<usize>().ok())
    };
    let exchanges = number("exchanges=").unwrap_or(EXCHANGES);
    let mut numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let flooded = number("flood=");
    if numbers.is_empty() && flooded.is_none() {
        numbers = vec![10, 1_000, 10_000, 100_000];
    }
    println!("connections  bytes each  ns to open ns exchange");
    let machine = || Box::leak(Box::new(Machine(Cell::new(Duration::ZERO))));
    for connections in numbers {
        executor::run(machine(), measure(connections, exchanges));
    }
    if let Some(connections) = flooded {
        executor::run(machine(), flood(connections));
    }
}
