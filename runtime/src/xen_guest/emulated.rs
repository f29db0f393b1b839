//! The devices that the host emulates for a guest which booted like a PC: an HVM guest.

use alloc::vec::Vec;

use xen::{Emulated, Machine};

use crate::pc::pci::{self, Function};

/// Xen's platform device, by which guests know that there is a device model: with the number of
/// Xen's own and of XenServer's.
const XEN: u16 = 0x5853;
const PLATFORM_DEVICES: [u16; 2] = [0x0001, 0x0002];

/// Has the emulated disks and network cards taken away, if there are any. Nothing here drives them.
pub(super) fn unplug(machine: &Machine) {
    let functions: Vec<_> = pci::first_bus().collect();
    let is_platform_device = |function: &Function| {
        let (vendor, device) = function.identity();
        vendor == XEN && PLATFORM_DEVICES.contains(&device)
    };
    let Some(platform) = functions.iter().find(|it| is_platform_device(it)) else {
        // A PVH guest: there is no PC around it.
        return;
    };
    log::debug!("platform device {platform}");
    if let Err(error) = machine.unplug(Emulated::all()) {
        log::warn!("emulated disks and network cards stay: {error}");
        return;
    }
    // Whether disks went cannot be seen: their controllers stay.
    for card in functions.iter().filter(|it| it.is_network_card()) {
        match card.is_there() {
            false => log::info!("unplugged the emulated network card {card}"),
            true => log::warn!("the emulated network card {card} stays, although it was unplugged"),
        }
    }
}
