//! A virtio network interface.
//!
//! The device is trusted: the local QEMU that runs the guest for its developer, not a
//! neighbour. `virtio-drivers` is used as it is, and it believes numbers the device writes.

use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use bitflags::bitflags;
use rekernel_core::net::device::{ChecksumOffload, Completion, NetworkDevice, QueueFull};
use virtio_drivers::transport::{InterruptStatus, SomeTransport, Transport};
use virtio_drivers::{BufferDirection, Error};

use super::pci::Messages;
use super::signal::Signal;
use super::virtio_queue::{BUFFER, Queue};

bitflags! {
    /// The features used (virtio 1.2, 5.1.3 and 6).
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        /// The device tells its address.
        const MAC = 1 << 5;
        /// The device tells whether its link is up.
        const STATUS = 1 << 16;
        /// The device follows version 1 of the standard.
        const VERSION_1 = 1 << 32;
    }
}

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Offsets in the device's configuration (virtio 1.2, 5.1.4).
const MAC: usize = 0;
const STATUS: usize = 6;
const LINK_UP: u16 = 1;

/// MSI-X table entries in use.
const QUEUES_ENTRY: u16 = 0;
const CONFIGURATION_ENTRY: u16 = 1;

/// Where a device's interrupts arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals {
    /// Buffers were used; with interrupt lines instead of messages, anything happened.
    pub(crate) queues: &'static Signal,
    /// The configuration changed. Unused with interrupt lines.
    pub(crate) configuration: &'static Signal,
}

/// The interface.
pub(crate) struct VirtioNet {
    name: String,
    mac: [u8; 6],
    /// Above the queues, so that it is dropped first: that resets the device, which must not have
    /// the queues' memory any more when the pool gets it back.
    transport: SomeTransport<'static>,
    messages: bool,
    signals: Signals,
    has_status: bool,
    link_is_up: bool,
    /// Bytes in front of each frame; all zero, since no offload is negotiated.
    header: usize,
    receive: Queue,
    transmit: Queue,
}

impl VirtioNet {
    /// Starts the device behind `transport`.
    ///
    /// # Errors
    /// What `virtio-drivers` reports: a queue is missing, no memory is left.
    pub(crate) fn start(
        name: String,
        mut transport: SomeTransport<'static>,
        messages: Option<&Messages>,
        signals: Signals,
    ) -> Result<Self, Error> {
        let features = transport.begin_init(Features::all());
        if let Some(messages) = messages {
            messages.assign_configuration(CONFIGURATION_ENTRY);
            messages.assign_queue(RECEIVE, QUEUES_ENTRY);
            messages.assign_queue(TRANSMIT, QUEUES_ENTRY);
        }
        let mac = transport.read_consistent(|| transport.read_config_space(MAC))?;
        let mut receive = Queue::new(&mut transport, RECEIVE, BufferDirection::DeviceToDriver)?;
        let mut transmit = Queue::new(&mut transport, TRANSMIT, BufferDirection::DriverToDevice)?;
        transmit.interrupt(false);
        while let Some(slot) = receive.take() {
            receive.lend(slot, BUFFER)?;
        }
        transport.finish_init();
        receive.announce(&mut transport);
        let mut device = Self {
            name,
            mac,
            transport,
            messages: messages.is_some(),
            signals,
            has_status: features.contains(Features::STATUS),
            link_is_up: true,
            // Version 1 added a count of buffers to the header.
            header: if features.contains(Features::VERSION_1) {
                12
            } else {
                10
            },
            receive,
            transmit,
        };
        device.read_link();
        Ok(device)
    }

    fn read_link(&mut self) {
        if self.has_status
            && let Ok(status) = self.transport.read_config_space::<u16>(STATUS)
        {
            self.link_is_up = status & LINK_UP != 0;
        }
    }

    /// A transmit buffer. Without one, the device will interrupt once it is done with some.
    fn transmit_slot(&mut self) -> Option<u16> {
        if let Some(slot) = self.transmit.take() {
            return Some(slot);
        }
        self.reclaim_transmitted();
        if let Some(slot) = self.transmit.take() {
            self.transmit.interrupt(false);
            return Some(slot);
        }
        self.transmit.interrupt(true);
        // It may have finished just before it learned of the wish.
        self.reclaim_transmitted();
        self.transmit.take()
    }

    fn reclaim_transmitted(&mut self) {
        while let Some((slot, _)) = self.transmit.reclaim() {
            self.transmit.keep(slot);
        }
    }
}

impl NetworkDevice for VirtioNet {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn checksum_offload(&self) -> ChecksumOffload {
        // QEMU's user-mode network offers none.
        ChecksumOffload::default()
    }

    fn link_is_up(&self) -> bool {
        self.link_is_up
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        while let Some((slot, length)) = self.receive.reclaim() {
            if let Some(bytes) = self.receive.contents(slot).get(self.header..length) {
                frame.extend_from_slice(bytes);
            }
            if self.receive.lend(slot, BUFFER).is_err() {
                self.receive.keep(slot);
            }
            if !frame.is_empty() {
                return true;
            }
        }
        self.receive.announce(&mut self.transport);
        false
    }

    fn transmit(&mut self, frame: &[u8], _completion: Completion) -> Result<(), QueueFull> {
        let length = self.header + frame.len();
        if !self.link_is_up || length > BUFFER {
            return Ok(());
        }
        let slot = self.transmit_slot().ok_or(QueueFull)?;
        let buffer = self.transmit.contents(slot);
        buffer[..self.header].fill(0);
        buffer[self.header..length].copy_from_slice(frame);
        self.transmit.lend(slot, length).map_err(|_| QueueFull)
    }

    fn flush(&mut self) {
        self.transmit.announce(&mut self.transport);
        self.receive.announce(&mut self.transport);
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
