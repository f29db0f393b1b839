//! How the program was entered, and what its loader left in memory.

use core::fmt;

use crate::error::BootError;

/// What `entry.s` says of [`Handover::Multiboot2`]; anything else is the PVH entry.
pub(crate) const MULTIBOOT2: u32 = 1;

/// Where to read what the loader handed over. The address is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// Through the PVH entry, with a start info.
    StartInfo { address: u64 },
    /// Through the multiboot2 entry, with a boot information.
    Multiboot2 { address: u64 },
}

impl Handover {
    pub(crate) fn new(kind: u32, address: u64) -> Self {
        match kind {
            MULTIBOOT2 => Self::Multiboot2 { address },
            _ => Self::StartInfo { address },
        }
    }
}

/// How the program was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootProtocol {
    /// The PVH entry: Xen, `qemu -kernel` and other hypervisors that load the program themselves.
    Pvh {
        /// Version of the start info, 1 or newer.
        version: u32,
    },
    /// The multiboot2 entry: a boot loader on a disk, such as GRUB.
    Multiboot2,
}

impl fmt::Display for BootProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pvh { version } => write!(formatter, "PVH start info version {version}"),
            Self::Multiboot2 => formatter.write_str("multiboot2"),
        }
    }
}

/// Memory the loader filled, readable by physical address.
pub(crate) trait LoaderMemory {
    /// The bytes at `address`, or `None` where they are not to be touched: at 0 (which means
    /// "absent"), above 4 GiB (not mapped yet) and inside the program itself (it changes). What is
    /// in page 0 can be read while booting and no longer.
    fn bytes(&self, address: u64, length: u64) -> Option<&'static [u8]>;

    /// As [`bytes`](Self::bytes), with the error that names the structure.
    fn structure(
        &self,
        what: &'static str,
        address: u64,
        length: u64,
    ) -> Result<&'static [u8], BootError> {
        self.bytes(address, length).ok_or(BootError::Unreachable {
            what,
            address,
            length,
        })
    }
}
