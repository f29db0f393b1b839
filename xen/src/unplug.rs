//! Taking away the devices that a host emulates for a guest which booted like a PC.
//!
//! Firmware and boot loader of an HVM guest know disks and network cards of a PC only, so a device
//! model poses as those. Once the guest is up they are in the way: the network card has the same
//! Ethernet address and the same bridge as the virtual interface. The guest asks for their removal
//! through two I/O ports, which the device model has since Xen 3.3.
//!
//! Source: `docs/misc/hvm-emulated-unplug.pandoc` in Xen's tree.

#[expect(unsafe_code, reason = "reads and writes I/O ports")]
mod ports;

use core::fmt;

use bitflags::bitflags;

use crate::machine::Machine;

/// Magic number (reading, 16 bits), devices to remove (writing, 16 bits) and build number of the
/// drivers (writing, 32 bits).
const CONTROL_PORT: u16 = 0x10;
/// Version of the protocol (reading, 8 bits) and product number of the drivers (writing, 16 bits).
const PRODUCT_PORT: u16 = 0x12;

const MAGIC: u16 = 0x49d2;
/// The first version with product and build numbers. Later ones have them, too.
const IDENTIFYING_VERSION: u8 = 1;
/// The product number for drivers that are not registered with Xen ("experimental").
const PRODUCT: u16 = 0xffff;
const BUILD: u32 = 0;

bitflags! {
    /// Kinds of emulated devices.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Emulated: u16 {
        /// IDE and SCSI disks; CD-ROM drives stay.
        const DISKS = 1 << 0;
        /// Network cards.
        const NETWORK_CARDS = 1 << 1;
        /// NVMe disks.
        const NVME_DISKS = 1 << 3;
    }
}

/// Why emulated devices stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnplugError {
    /// No device model that knows the protocol.
    Unsupported {
        /// What was read instead of the magic number.
        magic: u16,
    },
    /// The host does not want these drivers to be used.
    Refused,
}

impl fmt::Display for UnplugError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { magic } => write!(
                formatter,
                "the device model cannot unplug: port {CONTROL_PORT:#x} reads {magic:#x} instead of {MAGIC:#x}"
            ),
            Self::Refused => write!(
                formatter,
                "the host refuses paravirtualised drivers with product number {PRODUCT:#x}"
            ),
        }
    }
}

impl core::error::Error for UnplugError {}

impl Machine {
    /// Has the device model take away devices of these kinds. They are gone when this returns.
    ///
    /// To be repeated in a new domain: there they are back.
    ///
    /// # Errors
    /// [`UnplugError`]; then nothing changed.
    pub fn unplug(&self, devices: Emulated) -> Result<(), UnplugError> {
        unplug(&mut ports::OfDeviceModel::on(self), devices)
    }
}

/// Access to I/O ports.
trait Ports {
    fn read_u8(&mut self, port: u16) -> u8;
    fn read_u16(&mut self, port: u16) -> u16;
    fn write_u16(&mut self, port: u16, value: u16);
    fn write_u32(&mut self, port: u16, value: u32);
}

fn unplug(ports: &mut impl Ports, devices: Emulated) -> Result<(), UnplugError> {
    let magic = ports.read_u16(CONTROL_PORT);
    if magic != MAGIC {
        return Err(UnplugError::Unsupported { magic });
    }
    if ports.read_u8(PRODUCT_PORT) >= IDENTIFYING_VERSION {
        ports.write_u16(PRODUCT_PORT, PRODUCT);
        ports.write_u32(CONTROL_PORT, BUILD);
        // A host that has these drivers on its list takes the magic number away.
        if ports.read_u16(CONTROL_PORT) != MAGIC {
            return Err(UnplugError::Refused);
        }
    }
    ports.write_u16(CONTROL_PORT, devices.bits());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device model as the protocol's description has it.
    #[derive(Default)]
    struct DeviceModel {
        /// `None` for a machine without one.
        version: Option<u8>,
        refuses: Option<u16>,
        product: Option<u16>,
        build: Option<u32>,
        refused: bool,
        unplugged: Option<u16>,
    }

    impl Ports for DeviceModel {
        fn read_u8(&mut self, port: u16) -> u8 {
            assert_eq!(port, 0x12);
            self.version.unwrap_or(0xff)
        }

        fn read_u16(&mut self, port: u16) -> u16 {
            assert_eq!(port, 0x10);
            match self.version.is_some() && !self.refused {
                true => 0x49d2,
                false => 0xffff,
            }
        }

        fn write_u16(&mut self, port: u16, value: u16) {
            match port {
                0x10 => self.unplugged = Some(value),
                0x12 => self.product = Some(value),
                _ => panic!("16 bits written to port {port:#x}"),
            }
        }

        fn write_u32(&mut self, port: u16, value: u32) {
            assert_eq!(port, 0x10);
            self.build = Some(value);
            self.refused = self.refuses == self.product;
        }
    }

    #[test]
    fn devices_of_the_kinds_asked_for_go() {
        for version in [1, 2] {
            let mut model = DeviceModel {
                version: Some(version),
                refuses: Some(3),
                ..DeviceModel::default()
            };
            assert_eq!(unplug(&mut model, Emulated::all()), Ok(()));
            assert_eq!(model.unplugged, Some(0b1011));
            assert_eq!((model.product, model.build), (Some(0xffff), Some(0)));
        }
    }

    #[test]
    fn the_oldest_version_takes_no_product_number() {
        let mut model = DeviceModel {
            version: Some(0),
            ..DeviceModel::default()
        };
        assert_eq!(unplug(&mut model, Emulated::NETWORK_CARDS), Ok(()));
        assert_eq!(model.unplugged, Some(0b10));
        assert_eq!((model.product, model.build), (None, None));
    }

    #[test]
    fn nothing_is_written_where_there_is_no_device_model() {
        let mut nothing = DeviceModel::default();
        let error = unplug(&mut nothing, Emulated::all()).unwrap_err();
        assert_eq!(error, UnplugError::Unsupported { magic: 0xffff });
        assert_eq!((nothing.unplugged, nothing.product), (None, None));
    }

    #[test]
    fn a_host_that_refuses_keeps_its_devices() {
        let mut model = DeviceModel {
            version: Some(1),
            refuses: Some(0xffff),
            ..DeviceModel::default()
        };
        let error = unplug(&mut model, Emulated::all()).unwrap_err();
        assert_eq!(error, UnplugError::Refused);
        assert_eq!(model.unplugged, None);
        assert!(error.to_string().contains("0xffff"), "{error}");
    }
}
