//! Finds the virtio network devices and hands them to the network stack.

use alloc::boxed::Box;
use alloc::format;

use rekernel_core::config::Settings;
use virtio_drivers::transport::SomeTransport;

use super::io_apic::IoApic;
use super::pci::{self, Messages};
use super::virtio_net::{Signals, VirtioNet};
use super::{FIRST_SIGNAL_VECTOR, LOCAL_APIC, SIGNALS, virtio_mmio};
use crate::network::Interfaces;

/// Starts every network device there is, in the order the machine lists them.
pub(crate) fn start_network(settings: &Settings, interfaces: Interfaces) {
    let mut slots = Slots { used: 0 };
    pci::for_each_network_device(|device| {
        let Some(slot) = slots.next() else {
            return;
        };
        match pci::open(device) {
            Ok((transport, messages)) => {
                messages.enable(processor(), &[slot.vector, slot.vector + 1]);
                start(slot, transport.into(), Some(&messages), interfaces);
            }
            Err(error) => log::error!("network device at PCI {device}: {error}"),
        }
    });
    // QEMU names all the places where a device could be; most are empty.
    for place in &settings.virtio_mmio_devices {
        let Some(transport) = virtio_mmio::open_network_device(place) else {
            continue;
        };
        let Some(slot) = slots.next() else {
            return;
        };
        let routed = IoApic::start()
            .is_ok_and(|controller| controller.route(place.interrupt, slot.vector, processor()));
        if !routed {
            log::error!(
                "network device with interrupt line {}: no such line",
                place.interrupt
            );
            continue;
        }
        start(slot, transport.into(), None, interfaces);
    }
}

fn start(
    slot: Slot,
    transport: SomeTransport<'static>,
    messages: Option<&Messages>,
    interfaces: Interfaces,
) {
    let name = format!("virtio{}", slot.number);
    match VirtioNet::start(name, transport, messages, slot.signals) {
        Ok(device) => interfaces.add(slot.number, Box::new(device)),
        Err(error) => log::error!("virtio{}: {error}", slot.number),
    }
}

fn processor() -> u8 {
    LOCAL_APIC.get().map_or(0, super::LocalApic::identity)
}

/// Signals and vectors for one device.
struct Slot {
    number: usize,
    /// The first of two.
    vector: u8,
    signals: Signals,
}

struct Slots {
    used: usize,
}

impl Slots {
    fn next(&mut self) -> Option<Slot> {
        let number = self.used;
        let [queues, configuration] = SIGNALS.as_chunks::<2>().0.get(number)?;
        self.used += 1;
        Some(Slot {
            number,
            vector: FIRST_SIGNAL_VECTOR + 2 * number as u8,
            signals: Signals {
                queues,
                configuration,
            },
        })
    }
}
