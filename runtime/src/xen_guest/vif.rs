//! netfront's device as the network stack wants it.

use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use netfront::Offload;
use rekernel_core::net::device::{
    ChecksumOffload, Completion, NetworkDevice, QueueFull, SegmentationOffload,
};
use xen::Hypervisor;

/// One virtual interface.
pub(super) struct Vif {
    pub(super) device: netfront::Device<Hypervisor>,
}

impl NetworkDevice for Vif {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn is_present(&self) -> bool {
        self.device.is_present()
    }

    fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    fn mtu(&self) -> usize {
        self.device.mtu()
    }

    fn checksum_offload(&self) -> ChecksumOffload {
        let offload = self.device.checksum_offload();
        ChecksumOffload {
            transmit_ipv4: offload.transmit_ipv4,
            transmit_ipv6: offload.transmit_ipv6,
            receive_verified: offload.receive_verified,
        }
    }

    fn segmentation_offload(&self) -> SegmentationOffload {
        let offload = self.device.segmentation_offload();
        SegmentationOffload {
            transmit_ipv4: offload.transmit_ipv4,
            transmit_ipv6: offload.transmit_ipv6,
        }
    }

    fn link_is_up(&self) -> bool {
        self.device.link_is_up()
    }

    fn link_epoch(&self) -> u64 {
        self.device.connections().into()
    }

    fn assigned_address(&self) -> Option<&str> {
        self.device.assigned_address()
    }

    fn describe(&self) -> Option<String> {
        Some(self.device.describe())
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.device.receive(frame)
    }

    fn transmit(&mut self, frame: &[u8], completion: Completion) -> Result<(), QueueFull> {
        let offload = match completion {
            Completion::None => Offload::None,
            Completion::Checksum => Offload::Checksum,
            Completion::Segments { payload } => Offload::Segments { payload },
        };
        self.device.transmit(frame, offload).map_err(|_| QueueFull)
    }

    fn flush(&mut self) {
        self.device.flush();
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.device.poll_event(context)
    }
}
