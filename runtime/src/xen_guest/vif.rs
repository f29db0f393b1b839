//! netfront's device as the network stack wants it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use netfront::{Offload, Statistics};
use rekernel_core::net::device::{
    ChecksumOffload, Completion, NetworkDevice, QueueFull, SegmentationOffload,
};
use rekernel_core::report::{Entry, Sink};
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

    fn explain_link(&self) -> Option<String> {
        self.device.last_problem().or_else(|| {
            let Statistics {
                frontend, backend, ..
            } = self.device.statistics();
            Some(format!("frontend is {frontend}, backend is {backend}"))
        })
    }

    fn link_epoch(&self) -> u64 {
        self.device.connections().into()
    }

    fn assigned_address(&self) -> Option<&str> {
        self.device.assigned_address()
    }

    fn report(&self, tell: &mut Sink<'_>) {
        let name = self.device.name();
        let Statistics {
            counters,
            frontend,
            backend,
            receive_pages,
            transmit_pages,
            ..
        } = self.device.statistics();
        let problem = self.device.last_problem();
        tell(Entry::new(
            &name,
            &[
                ("link", &self.device.link_state()),
                ("frontend", &frontend),
                ("backend", &backend),
                ("connections", &counters.connections),
                ("broken", &counters.broken),
                ("failed_attempts", &counters.failed_attempts),
                ("last_problem", &problem.as_deref().unwrap_or("none")),
            ],
        ));
        let drops = counters.receive_drops;
        tell(Entry::new(
            &format_args!("{name} receive ring"),
            &[
                ("pages", &receive_pages),
                ("frames", &counters.received.frames),
                ("segmented", &counters.received_segmented),
                ("dropped_checksum", &drops.checksum),
                ("dropped_error", &drops.error),
                ("dropped_size", &drops.size),
                ("dropped_segmentation", &drops.segmentation),
                ("dropped_memory", &drops.memory),
            ],
        ));
        let drops = counters.transmit_drops;
        tell(Entry::new(
            &format_args!("{name} transmit ring"),
            &[
                ("pages", &transmit_pages),
                ("frames", &counters.transmitted.frames),
                ("segmented", &counters.transmitted_segmented),
                ("times_full", &counters.queue_full),
                ("dropped_link_down", &drops.link_down),
                ("dropped_size", &drops.size),
                ("dropped_segmentation", &drops.segmentation),
                ("dropped_memory", &drops.memory),
                ("dropped_refused", &drops.refused),
            ],
        ));
        tell(Entry::new(
            &format_args!("{name} events"),
            &[
                ("received", &counters.events),
                ("spurious", &counters.spurious_events),
                ("sent", &counters.notifications),
            ],
        ));
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
