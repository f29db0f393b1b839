//! The PCI bus: what is on it, and virtio network devices, which interrupt by message.
//!
//! Message-signalled interrupts (MSI-X) go straight to the local APIC. The old interrupt
//! lines would need the routing tables of ACPI, which is a byte-code language.

use core::fmt;

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, HeaderType, PciRoot,
};
use virtio_drivers::transport::pci::{
    PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VirtioPciError, virtio_device_type,
};

use super::io_port::IoPort;
use super::registers::Registers;
use super::virtio_hal::DeviceMemory;

/// Configuration registers by way of I/O ports, which `pc` and `q35` both have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports;

impl Ports {
    fn select(device: DeviceFunction, register: u8) {
        let function = u32::from(device.device) << 3 | u32::from(device.function);
        let address = u32::from(device.bus) << 16 | function << 8 | u32::from(register & 0xfc);
        IoPort::PCI_ADDRESS.write_u32(1 << 31 | address);
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, device_function: DeviceFunction, register_offset: u8) -> u32 {
        Self::select(device_function, register_offset);
        IoPort::PCI_DATA.read_u32()
    }

    fn write_word(&mut self, device_function: DeviceFunction, register_offset: u8, data: u32) {
        Self::select(device_function, register_offset);
        IoPort::PCI_DATA.write_u32(data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// Vendor and device number of the bridge to the processor, `None` without a PCI bus.
pub(crate) fn host_bridge() -> Option<u32> {
    let bridge = DeviceFunction {
        bus: 0,
        device: 0,
        function: 0,
    };
    let identity = Ports.read_word(bridge, 0);
    (identity != u32::MAX).then_some(identity)
}

/// A function of a device, as its configuration registers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    place: DeviceFunction,
    description: DeviceFunctionInfo,
    /// The device has others.
    is_one_of_several: bool,
}

impl Function {
    fn at(place: DeviceFunction) -> Option<Self> {
        /// The register with the class code in its upper bytes, and the revision.
        const CLASS: u8 = 0x08;
        /// The register with the header type in its third byte.
        const HEADER: u8 = 0x0c;
        const SEVERAL_FUNCTIONS: u8 = 0x80;
        let identity = Ports.read_word(place, 0);
        if identity == u32::MAX {
            return None;
        }
        let [revision, prog_if, subclass, class] = Ports.read_word(place, CLASS).to_le_bytes();
        let [_, _, header, _] = Ports.read_word(place, HEADER).to_le_bytes();
        Some(Self {
            place,
            description: DeviceFunctionInfo {
                vendor_id: identity as u16,
                device_id: (identity >> 16) as u16,
                class,
                subclass,
                prog_if,
                revision,
                header_type: HeaderType::from(header & !SEVERAL_FUNCTIONS),
            },
            is_one_of_several: header & SEVERAL_FUNCTIONS != 0,
        })
    }

    /// Its vendor and what the vendor calls it.
    pub(crate) fn identity(&self) -> (u16, u16) {
        (self.description.vendor_id, self.description.device_id)
    }

    pub(crate) fn is_network_card(&self) -> bool {
        /// Class code of network controllers (PCI 3.0, appendix D).
        const NETWORK_CONTROLLER: u8 = 2;
        self.description.class == NETWORK_CONTROLLER
    }

    /// Whether it was not taken away since it was found.
    pub(crate) fn is_there(&self) -> bool {
        Self::at(self.place).as_ref() == Some(self)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, device) = self.identity();
        write!(formatter, "{vendor:04x}:{device:04x} at {}", self.place)
    }
}

/// Every function on the first bus, or none without a PCI bus.
pub(crate) fn first_bus() -> impl Iterator<Item = Function> {
    host_bridge().into_iter().flat_map(|_| functions(0))
}

/// Every function on a bus. Asks no more than it must (PCI 3.0, section 6.2.1): a device model takes its time
/// for each answer, and `PciRoot::enumerate_bus` asks for all eight functions of devices that are not there.
fn functions(bus: u8) -> impl Iterator<Item = Function> {
    const DEVICES: u8 = 32;
    (0..DEVICES).flat_map(move |device| {
        let at = move |function| {
            Function::at(DeviceFunction {
                bus,
                device,
                function,
            })
        };
        let first = at(0);
        let others = match &first {
            Some(first) if first.is_one_of_several => 1..8,
            _ => 1..1,
        };
        first.into_iter().chain(others.filter_map(at))
    })
}

/// Calls `found` with each virtio network device, on the first bus and behind its bridges.
pub(crate) fn for_each_network_device(mut found: impl FnMut(DeviceFunction)) {
    if host_bridge().is_some() {
        visit_bus(0, 0, &mut found);
    }
}

/// Register 0x18 of a bridge: the numbers of the buses around it, second byte the one behind.
const BUS_NUMBERS: u8 = 0x18;
/// Bridges behind bridges deeper than this are a loop in wrong bus numbers.
const DEEPEST: usize = 8;

fn visit_bus(bus: u8, depth: usize, found: &mut impl FnMut(DeviceFunction)) {
    for Function {
        place, description, ..
    } in functions(bus)
    {
        if virtio_device_type(&description) == Some(DeviceType::Network) {
            found(place);
        } else if description.header_type == HeaderType::PciPciBridge && depth < DEEPEST {
            let [_, behind, ..] = Ports.read_word(place, BUS_NUMBERS).to_le_bytes();
            if behind > bus {
                visit_bus(behind, depth + 1, found);
            }
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug)]
pub(crate) enum DeviceError {
    /// Its virtio registers are not as they should be.
    Virtio(VirtioPciError),
    /// It lacks the named capability, or the registers that one points to are absent.
    Missing(&'static str),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtio(error) => write!(formatter, "{error}"),
            Self::Missing(what) => write!(formatter, "no usable {what}"),
        }
    }
}

impl core::error::Error for DeviceError {}

/// Prepares a device: its registers respond, it may access memory, and messages are routed.
pub(crate) fn open(device: DeviceFunction) -> Result<(PciTransport, Messages), DeviceError> {
    let mut root = PciRoot::new(Ports);
    let (_, command) = root.get_status_command(device);
    let command =
        command | Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(device, command);
    let transport =
        PciTransport::new::<DeviceMemory, _>(&mut root, device).map_err(DeviceError::Virtio)?;
    let messages = Messages::find(&mut root, device)?;
    Ok((transport, messages))
}

/// The MSI-X table of a virtio device, and the registers that tell which entry to use.
#[derive(Debug)]
pub(crate) struct Messages {
    device: DeviceFunction,
    /// Offset of the capability in configuration space.
    capability: u8,
    table: Registers,
    common: Registers,
}

/// Number of the MSI-X capability, and of the vendor's own, which virtio uses (PCI 3.0).
const MSI_X: u8 = 0x11;
const VENDOR: u8 = 0x09;

/// Bytes of an MSI-X table entry: address, upper address, data, control.
const ENTRY: usize = 16;

/// Offsets in virtio's common configuration (virtio 1.2, 4.1.4.3).
const CONFIGURATION_ENTRY: usize = 16;
const QUEUE_SELECT: usize = 22;
const QUEUE_ENTRY: usize = 26;
const COMMON_LENGTH: usize = 56;

impl Messages {
    fn find(root: &mut PciRoot<Ports>, device: DeviceFunction) -> Result<Self, DeviceError> {
        let (mut table, mut common) = (None, None);
        let mut capability_offset = 0;
        // Collected first: reading an address range needs the root for itself.
        let capabilities: alloc::vec::Vec<_> = root.capabilities(device).take(48).collect();
        for capability in capabilities {
            let word = |number: u8| Ports.read_word(device, capability.offset + 4 * number);
            if capability.id == MSI_X && table.is_none() {
                let entries = usize::from(capability.private_header & 0x7ff) + 1;
                let place = word(1);
                table = map(root, device, place as u8 & 7, place & !7, entries * ENTRY);
                capability_offset = capability.offset;
            }
            let [_, kind] = capability.private_header.to_le_bytes();
            if capability.id == VENDOR && kind == VIRTIO_PCI_CAP_COMMON_CFG && common.is_none() {
                common = map(root, device, word(1) as u8, word(2), COMMON_LENGTH);
            }
        }
        Ok(Self {
            device,
            capability: capability_offset,
            table: table.ok_or(DeviceError::Missing("MSI-X interrupts"))?,
            common: common.ok_or(DeviceError::Missing("common configuration"))?,
        })
    }

    /// Has the device raise `vectors[n]` of processor `processor` for its table entry `n`.
    pub(crate) fn enable(&self, processor: u8, vectors: &[u8]) {
        for (entry, &vector) in vectors.iter().enumerate() {
            let base = entry * ENTRY;
            self.table
                .write_u32(base, 0xfee0_0000 | u32::from(processor) << 12);
            self.table.write_u32(base + 4, 0);
            self.table.write_u32(base + 8, u32::from(vector));
            self.table.write_u32(base + 12, 0);
        }
        /// Bit 15 of the capability's control word, which is the upper half of its first.
        const ENABLE: u32 = 1 << 31;
        let control = Ports.read_word(self.device, self.capability);
        Ports.write_word(self.device, self.capability, control | ENABLE);
    }

    /// Has queue `queue` use table entry `entry`. Lost when the device is reset.
    pub(crate) fn assign_queue(&self, queue: u16, entry: u16) {
        self.common.write_u16(QUEUE_SELECT, queue);
        self.common.write_u16(QUEUE_ENTRY, entry);
    }

    /// Has changes of the configuration use table entry `entry`. Lost when the device is reset.
    pub(crate) fn assign_configuration(&self, entry: u16) {
        self.common.write_u16(CONFIGURATION_ENTRY, entry);
    }
}

/// Maps `length` bytes at `offset` of one of the device's address ranges.
fn map(
    root: &mut PciRoot<Ports>,
    device: DeviceFunction,
    range: u8,
    offset: u32,
    length: usize,
) -> Option<Registers> {
    let Ok(Some(BarInfo::Memory { address, size, .. })) = root.bar_info(device, range) else {
        return None;
    };
    let fits = u64::from(offset) + length as u64 <= size;
    if address == 0 || !fits {
        return None;
    }
    // SAFETY: 1. firmware put this range of the device there, and `map_device` refuses RAM.
    // 2. An MSI-X entry only ever gets the local APIC's address; the common configuration
    // is written for entry numbers alone.
    let registers = unsafe { Registers::map(address + u64::from(offset), length) };
    registers.ok()
}
