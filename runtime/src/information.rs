//! What an application can learn about the guest it runs in.

use core::time::Duration;

use pvh_boot::BootInfo;
use spin::Once;

use crate::heap::{self, HeapInformation};
use crate::machine;

static TOTAL_RAM: Once<u64> = Once::new();

pub(crate) fn remember(boot: &BootInfo) {
    TOTAL_RAM.call_once(|| boot.total_ram());
}

/// The platform a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInformation {
    /// For people: `Xen 4.17`, `QEMU q35`.
    pub name: &'static str,
}

/// The guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInformation {
    /// Bytes of RAM the guest was given.
    pub total: u64,
    /// The heap, which has all that the program and the shared pages leave.
    pub heap: HeapInformation,
}

/// The platform this guest runs on.
pub fn platform() -> PlatformInformation {
    PlatformInformation {
        name: machine::chosen().map_or("unknown", |machine| machine.name()),
    }
}

/// The guest's memory, now.
pub fn memory() -> MemoryInformation {
    MemoryInformation {
        total: TOTAL_RAM.get().copied().unwrap_or(0),
        heap: heap::information(),
    }
}

/// Time since the guest started.
pub fn uptime() -> Duration {
    machine::chosen()
        .map(|machine| machine.now())
        .unwrap_or_default()
}
