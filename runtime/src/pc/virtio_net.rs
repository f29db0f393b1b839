//! A virtio network interface: sets the device up and moves frames for the stack.
//!
//! The device is trusted: the local QEMU that runs the guest for its developer, not a
//! neighbour. What it says of the rings is checked all the same; a device that breaks their rules
//! is left alone from then on, with its link down.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::task::{Context, Poll};

use netfront::checksum::{self, Verdict};
use rekernel_core::net::device::{
    ChecksumOffload, Completion, NetworkDevice, QueueFull, SegmentationOffload,
};
use virtio_drivers::transport::{DeviceStatus, InterruptStatus, SomeTransport, Transport};
use virtio_net::{Checksum, Features, MOST_BUFFERS, Misbehaviour, Queue, Receiver, Transmitter};

use super::pci::Messages;
use super::signal::Signal;
use super::virtio_frame;
use super::virtio_memory::DmaMemory;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Offsets in the device's configuration (virtio 1.2, 5.1.4).
const MAC: usize = 0;
const STATUS: usize = 6;
const MTU: usize = 10;
const LINK_UP: u16 = 1;

/// MSI-X table entries in use.
const QUEUES_ENTRY: u16 = 0;
const CONFIGURATION_ENTRY: u16 = 1;

/// Ethernet and VLAN headers: what a frame may be longer than the MTU.
const HEADERS: usize = 18;
const LONGEST_PACKET: usize = 65535;
const DEFAULT_MTU: u16 = 1500;

/// Where a device's interrupts arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals {
    /// Buffers were used; with interrupt lines instead of messages, anything happened.
    pub(crate) queues: &'static Signal,
    /// The configuration changed. Unused with interrupt lines.
    pub(crate) configuration: &'static Signal,
}

/// Why a device cannot be used.
#[derive(Debug)]
pub(crate) enum StartError {
    /// It does not come to rest when reset.
    Reset,
    /// It does not accept the features that were chosen of those it offers.
    Features(Features),
    /// It has no queue of this number, or one whose length is no power of two.
    Queue(u16),
    /// Its configuration cannot be read.
    Configuration(virtio_drivers::Error),
    /// No memory is left that devices may see.
    Memory,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => write!(formatter, "cannot be reset"),
            Self::Features(features) => write!(formatter, "refuses the features {features:?}"),
            Self::Queue(number) => write!(formatter, "has no usable queue {number}"),
            Self::Configuration(error) => write!(formatter, "configuration: {error}"),
            Self::Memory => write!(formatter, "no memory is left for its queues"),
        }
    }
}

impl core::error::Error for StartError {}

/// The interface.
pub(crate) struct VirtioNet {
    name: String,
    mac: [u8; 6],
    mtu: u16,
    transport: SomeTransport<'static>,
    messages: bool,
    signals: Signals,
    features: Features,
    link_is_up: bool,
    /// It broke the rules of a ring.
    is_broken: bool,
    receiver: Receiver<DmaMemory>,
    transmitter: Transmitter<DmaMemory>,
    /// Frames dropped because their checksum was wrong.
    bad_checksums: u64,
    /// Frames to send that were longer than the device takes.
    too_long: u64,
    /// Frames dropped for any reason when that was last logged.
    drops_told: u64,
}

impl VirtioNet {
    /// Starts the device behind `transport` (virtio 1.2, 3.1.1).
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn start(
        name: String,
        mut transport: SomeTransport<'static>,
        messages: Option<&Messages>,
        signals: Signals,
    ) -> Result<Self, StartError> {
        let features = negotiate(&mut transport)?;
        if let Some(messages) = messages {
            messages.assign_configuration(CONFIGURATION_ENTRY);
            messages.assign_queue(RECEIVE, QUEUES_ENTRY);
            messages.assign_queue(TRANSMIT, QUEUES_ENTRY);
        }
        let (mac, mtu) = transport
            .read_consistent(|| {
                let mtu = match features.contains(Features::MTU) {
                    true => transport.read_config_space(MTU)?,
                    false => DEFAULT_MTU,
                };
                Ok((transport.read_config_space(MAC)?, mtu))
            })
            .map_err(StartError::Configuration)?;
        let size = queue_size(&mut transport, RECEIVE)?;
        let mut receiver = Receiver::new(size, features).ok_or(StartError::Memory)?;
        introduce(&mut transport, RECEIVE, receiver.queue());
        let size = queue_size(&mut transport, TRANSMIT)?;
        let mut transmitter = Transmitter::new(size, features).ok_or(StartError::Memory)?;
        introduce(&mut transport, TRANSMIT, transmitter.queue());
        transport.finish_init();
        log::debug!("{name}: {features:?}");
        let mut device = Self {
            name,
            mac,
            mtu,
            transport,
            messages: messages.is_some(),
            signals,
            features,
            link_is_up: true,
            is_broken: false,
            receiver,
            transmitter,
            bad_checksums: 0,
            too_long: 0,
            drops_told: 0,
        };
        device.announce_buffers();
        device.read_link();
        Ok(device)
    }

    fn read_link(&mut self) {
        if self.features.contains(Features::STATUS)
            && let Ok(status) = self.transport.read_config_space::<u16>(STATUS)
        {
            self.link_is_up = status & LINK_UP != 0;
        }
    }

    fn announce_buffers(&mut self) {
        if self.receiver.queue().publish() {
            self.transport.notify(RECEIVE);
        }
    }

    /// Leaves the device alone from now on.
    fn give_up(&mut self, misbehaviour: Misbehaviour) {
        self.is_broken = true;
        log::error!(
            "{}: the device {misbehaviour}; not used any more",
            self.name
        );
    }

    /// Says that frames are dropped, ever more rarely the more there are.
    fn tell_drops(&mut self) {
        let drops = self.receiver.drops();
        let bad_checksums = self.bad_checksums;
        let total = drops.size + drops.kind + bad_checksums + self.too_long;
        if total > 0 && total >= 2 * self.drops_told {
            self.drops_told = total;
            log::warn!(
                "{}: frames dropped so far: {bad_checksums} received with a wrong checksum, {} of a \
                 wrong length, {} of an unknown kind; {} too long to send",
                self.name,
                drops.size,
                drops.kind,
                self.too_long
            );
        }
    }
}

/// Resets the device and agrees on what to use.
fn negotiate(transport: &mut SomeTransport<'static>) -> Result<Features, StartError> {
    /// Times the status is read until the device must be at rest.
    const PATIENCE: u32 = 100_000;
    transport.set_status(DeviceStatus::empty());
    (0..PATIENCE)
        .find(|_| transport.get_status().is_empty())
        .ok_or(StartError::Reset)?;
    let mut status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(status);
    let features = Features::choose(transport.read_device_features());
    transport.write_driver_features(features.bits());
    // Devices before version 1 know nothing of this step.
    if features.contains(Features::VERSION_1) {
        status |= DeviceStatus::FEATURES_OK;
        transport.set_status(status);
        if !transport.get_status().contains(status) {
            transport.set_status(DeviceStatus::FAILED);
            return Err(StartError::Features(features));
        }
    }
    // Where those find their queues is told in pages of this size.
    transport.set_guest_page_size(4096);
    Ok(features)
}

/// The length of a queue of ours for the device's queue `number`.
fn queue_size(transport: &mut SomeTransport<'static>, number: u16) -> Result<u16, StartError> {
    let most = transport.max_queue_size(number).min(MOST_BUFFERS.into());
    u16::try_from(most)
        .ok()
        .filter(|size| size.is_power_of_two())
        .ok_or(StartError::Queue(number))
}

fn introduce(transport: &mut SomeTransport<'static>, number: u16, queue: &Queue<DmaMemory>) {
    let [descriptors, available, used] = queue.addresses();
    transport.queue_set(number, queue.size().into(), descriptors, available, used);
}

impl NetworkDevice for VirtioNet {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn checksum_offload(&self) -> ChecksumOffload {
        let transmit = self.features.contains(Features::CSUM);
        ChecksumOffload {
            transmit_ipv4: transmit,
            transmit_ipv6: transmit,
            receive_verified: true,
        }
    }

    fn segmentation_offload(&self) -> SegmentationOffload {
        let fits = self.transmitter.longest_frame() >= LONGEST_PACKET + HEADERS;
        SegmentationOffload {
            transmit_ipv4: fits && self.features.contains(Features::HOST_TSO4),
            transmit_ipv6: fits && self.features.contains(Features::HOST_TSO6),
        }
    }

    fn link_is_up(&self) -> bool {
        self.link_is_up && !self.is_broken
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        while !self.is_broken {
            let checksum = match self.receiver.receive(frame) {
                Ok(Some(checksum)) => checksum,
                Ok(None) => {
                    self.announce_buffers();
                    self.tell_drops();
                    return false;
                }
                Err(misbehaviour) => {
                    self.give_up(misbehaviour);
                    return false;
                }
            };
            if checksum == Checksum::Vouched || checksum::verify(frame) != Verdict::Bad {
                return true;
            }
            self.bad_checksums += 1;
        }
        false
    }

    fn transmit(&mut self, frame: &[u8], completion: Completion) -> Result<(), QueueFull> {
        let longest = match completion {
            Completion::Segments { .. } => LONGEST_PACKET,
            Completion::None | Completion::Checksum => self.mtu.into(),
        };
        let longest = (longest + HEADERS).min(self.transmitter.longest_frame());
        if !self.link_is_up() {
            return Ok(());
        }
        if frame.len() > longest {
            self.too_long += 1;
            self.tell_drops();
            return Ok(());
        }
        let header = virtio_frame::header(frame, completion);
        match self.transmitter.transmit(header, frame) {
            Ok(queued) => queued.map_err(|_| QueueFull),
            Err(misbehaviour) => {
                self.give_up(misbehaviour);
                Ok(())
            }
        }
    }

    fn flush(&mut self) {
        if self.is_broken {
            return;
        }
        if self.transmitter.queue().publish() {
            self.transport.notify(TRANSMIT);
        }
        self.announce_buffers();
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let queues = self.signals.queues.poll(context);
        let mut configuration = self.signals.configuration.poll(context);
        if queues.is_ready() && !self.messages {
            // Lets the line fall, before anybody looks at the queues.
            let status = self.transport.ack_interrupt();
            if status.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT) {
                configuration = Poll::Ready(());
            }
        }
        if configuration.is_ready() {
            self.read_link();
        }
        if queues.is_ready() {
            queues
        } else {
            configuration
        }
    }
}
