//! The device model's ports.

use x86_64::instructions::port::Port;

use super::Ports;
use crate::machine::Machine;

/// The ports of a guest on Xen: they are the device model's, or nobody's.
pub(super) struct OfDeviceModel(());

impl OfDeviceModel {
    /// A started machine proves that this is Xen. A PC has its DMA controller there.
    pub(super) fn on(_: &Machine) -> Self {
        Self(())
    }
}

impl Ports for OfDeviceModel {
    fn read_u8(&mut self, port: u16) -> u8 {
        // SAFETY: reading the device model's ports changes nothing.
        unsafe { Port::new(port).read() }
    }

    fn read_u16(&mut self, port: u16) -> u16 {
        // SAFETY: reading the device model's ports changes nothing.
        unsafe { Port::new(port).read() }
    }

    fn write_u16(&mut self, port: u16, value: u16) {
        // SAFETY: what is written removes devices, none of which this program has given memory to.
        unsafe { Port::new(port).write(value) }
    }

    fn write_u32(&mut self, port: u16, value: u32) {
        // SAFETY: the device model only takes note of the number.
        unsafe { Port::new(port).write(value) }
    }
}
