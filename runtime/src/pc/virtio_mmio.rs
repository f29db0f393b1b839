//! Virtio devices that are not on a bus: QEMU's microvm puts their registers at fixed
//! addresses, which it writes to the command line.

use pvh_boot::paging;
use rekernel_core::config::VirtioMmioDevice;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

/// Bytes of the register window of one device.
const WINDOW: u64 = 512;

/// The network device at `place`, or `None` if there is another one or none.
pub(crate) fn open_network_device(place: &VirtioMmioDevice) -> Option<MmioTransport<'static>> {
    let plausible = place.size >= WINDOW && place.base.is_multiple_of(WINDOW);
    let registers = paging::map_device(place.base, WINDOW)
        .ok()
        .filter(|_| plausible)?;
    // SAFETY: `map_device` mapped the window and refuses RAM, so nothing else refers to it;
    // nobody unmaps it. A window without a device answers zeros, and is refused.
    let transport = unsafe { MmioTransport::new(registers.cast(), WINDOW as usize) }.ok()?;
    (transport.device_type() == DeviceType::Network).then_some(transport)
}
