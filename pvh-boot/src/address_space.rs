//! Which page gets which protection.

use core::fmt;

use crate::boot_info::BootInfo;
use crate::error::BootError;
use crate::page_tables::{ADDRESS_LIMIT, Access, Protection, Refusal, Tables};
use crate::region::{MemoryRegion, PAGE, Regions};

/// The stacks of the program, by what runs on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackName {
    Boot,
    Interrupt,
    Exception,
    NonMaskableInterrupt,
    DoubleFault,
    MachineCheck,
}

/// Where the program's parts are: from the symbols of `link.x`. All bounds are page-aligned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) text: MemoryRegion,
    pub(crate) rodata: MemoryRegion,
    /// Variables, zeroed ones and stacks included.
    pub(crate) data: MemoryRegion,
    /// The page below each stack, inside `data`.
    pub(crate) guards: [(StackName, MemoryRegion); 6],
}

impl Layout {
    /// From the first to the last byte.
    pub(crate) fn whole(&self) -> MemoryRegion {
        MemoryRegion::new(self.text.start.min(self.rodata.start), self.data.end)
    }
}

/// Fills `tables`: the program by section, all other RAM as data, page 0 and the guards not at all,
/// and read-only the command lines outside RAM. `room` is what the tables may take, in bytes.
pub(crate) fn populate(
    tables: &Tables<'_>,
    boot: &BootInfo,
    layout: &Layout,
    room: u64,
) -> Result<(), BootError> {
    let mut data = Regions::new();
    data.insert(layout.data)?;
    for (_, guard) in layout.guards {
        data.exclude(guard)?;
    }
    let mut free = boot.ram_to_map()?;
    free.exclude(layout.whole())?;
    let command_lines = boot.command_lines_outside_ram()?;

    let parts = [
        (&[layout.text][..], Access::Code),
        (&[layout.rodata][..], Access::ReadOnly),
        (data.as_slice(), Access::Data),
        (free.as_slice(), Access::Data),
        (command_lines.as_slice(), Access::ReadOnly),
    ];
    for (regions, access) in parts {
        for region in regions {
            tables
                .map(*region, access)
                .map_err(|refusal| match refusal {
                    Refusal::OutOfTables => BootError::NotEnoughForTables { available: room },
                    Refusal::Conflict { address } => BootError::LayoutConflict { address },
                })?;
        }
    }
    Ok(())
}

/// The live address space: what more may be mapped once the program runs.
pub(crate) struct AddressSpace<'a> {
    tables: Tables<'a>,
    /// RAM and the program: never mapped a second time, guards and page 0 included.
    taken: Regions,
}

impl<'a> AddressSpace<'a> {
    pub(crate) fn new(
        tables: Tables<'a>,
        boot: &BootInfo,
        layout: &Layout,
    ) -> Result<Self, BootError> {
        let mut taken = boot.ram().whole_pages();
        taken.insert(layout.whole())?;
        taken.insert(MemoryRegion::new(0, PAGE))?;
        Ok(Self { tables, taken })
    }

    /// Maps every page that `length` bytes at `start` touch. Callers must not run at the same time.
    pub(crate) fn map(&self, start: u64, length: u64, access: Access) -> Result<(), MapError> {
        let out_of_range = MapError::OutOfRange { start, length };
        let end = start.checked_add(length).ok_or(out_of_range)?;
        if length == 0 || end > ADDRESS_LIMIT {
            return Err(out_of_range);
        }
        let region = MemoryRegion::new(start, end).touched_pages();
        if self.taken.intersects(region) {
            return Err(MapError::NotADevice { start, length });
        }
        self.tables
            .map(region, access)
            .map_err(|refusal| match refusal {
                Refusal::OutOfTables => MapError::OutOfTables { start, length },
                Refusal::Conflict { address } => MapError::Conflict { address },
            })
    }

    pub(crate) fn attach_upper_half(&self, table: u64) {
        self.tables.attach_upper_half(table);
    }

    pub(crate) fn protection(&self, address: u64) -> Option<Protection> {
        self.tables.protection(address)
    }
}

/// Why a range was not mapped. Pages of it before the one at fault may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The range is empty or passes the end of the lower half of the address space.
    OutOfRange {
        /// Physical address asked for.
        start: u64,
        /// Bytes asked for.
        length: u64,
    },
    /// Some of the range is RAM, page 0 or the program: mapped already, or unmapped on purpose.
    NotADevice {
        /// Physical address asked for.
        start: u64,
        /// Bytes asked for.
        length: u64,
    },
    /// A page is mapped already, with other caching or protection.
    Conflict {
        /// Its physical address.
        address: u64,
    },
    /// The frames set aside for page tables are used up.
    OutOfTables {
        /// Physical address asked for.
        start: u64,
        /// Bytes asked for.
        length: u64,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { start, length } => write!(
                formatter,
                "mapping of {length} bytes at {start:#x}: empty, or past {ADDRESS_LIMIT:#x}"
            ),
            Self::NotADevice { start, length } => write!(
                formatter,
                "mapping of {length} bytes at {start:#x}: overlaps RAM, the program or page 0"
            ),
            Self::Conflict { address } => write!(
                formatter,
                "page at {address:#x} is mapped already, with other caching or protection"
            ),
            Self::OutOfTables { start, length } => write!(
                formatter,
                "mapping of {length} bytes at {start:#x}: no page table is left"
            ),
        }
    }
}

impl core::error::Error for MapError {}

#[cfg(test)]
#[path = "address_space_tests.rs"]
mod tests;
