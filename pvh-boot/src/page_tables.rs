//! x86-64 page tables as data: which entry says what.
//!
//! Source: Intel SDM volume 3, chapter "Paging", 4-level paging. Everything is mapped at its
//! physical address.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::region::{MemoryRegion, PAGE};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that points to the next table. Protection is decided by the last level alone.
const LINK: u64 = PRESENT | WRITABLE | ACCESSED;
/// In every leaf. Accessed and dirty are preset so that the processor never writes to a table.
const LEAF: u64 = PRESENT | ACCESSED | DIRTY;

/// First address an identity map cannot hold: the lower half of the address space ends here.
pub(crate) const ADDRESS_LIMIT: u64 = 1 << 47;

/// The root's entry for the first 512 GiB of the upper half.
const UPPER_HALF: usize = 256;

/// What a page may be used for. There is no writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Executed and read.
    Code,
    /// Read.
    ReadOnly,
    /// Read and written, cached.
    Data,
    /// Read and written, not cached: PAT entry 3, which is "uncacheable" from reset on.
    Device,
}

impl Access {
    const fn flags(self) -> u64 {
        match self {
            Self::Code => LEAF,
            Self::ReadOnly => LEAF | NO_EXECUTE,
            Self::Data => LEAF | WRITABLE | NO_EXECUTE,
            Self::Device => LEAF | WRITABLE | NO_EXECUTE | WRITE_THROUGH | CACHE_DISABLE,
        }
    }
}

/// What the page tables say of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Writes are allowed.
    pub writable: bool,
    /// Instructions may be fetched.
    pub executable: bool,
    /// Reachable from user mode. Never so in tables this crate makes.
    pub user: bool,
    /// Accesses go through the caches.
    pub cached: bool,
    /// Bytes of the page: 4 KiB, 2 MiB or 1 GiB.
    pub page_size: u64,
}

/// Why a range could not be mapped in full. Pages before the one at fault stay mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The page is mapped with another protection.
    Conflict { address: u64 },
    /// No table is left.
    OutOfTables,
}

/// A page of 512 entries. Atomic because the processor reads them at any time.
#[repr(C, align(4096))]
pub(crate) struct Table([AtomicU64; 512]);

/// A tree of page tables in a row of page frames, used from the first on. Frame 0 is the root.
pub(crate) struct Tables<'a> {
    frames: &'a [Table],
    /// Physical address of frame 0.
    base: u64,
    used: AtomicUsize,
    /// The processor knows 1 GiB pages.
    gigabyte_pages: bool,
}

impl<'a> Tables<'a> {
    /// An empty tree, or `None` without a frame for the root. The frames' content does not matter.
    pub(crate) fn new(frames: &'a [Table], base: u64, gigabyte_pages: bool) -> Option<Self> {
        let tables = Self {
            frames,
            base,
            used: AtomicUsize::new(0),
            gigabyte_pages,
        };
        tables.take_frame()?;
        Some(tables)
    }

    /// The same tree with `frames`, the first ones of the old, as all it can ever use.
    pub(crate) fn shrink(self, frames: &'a [Table]) -> Self {
        Self { frames, ..self }
    }

    /// Frames in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Physical address of the root, for CR3.
    pub(crate) fn root(&self) -> u64 {
        self.base
    }

    /// Maps the pages of `region`, whose bounds are page-aligned and below [`ADDRESS_LIMIT`], with
    /// the largest pages that fit. Pages already mapped with the same protection are left alone.
    pub(crate) fn map(&self, region: MemoryRegion, access: Access) -> Result<(), Refusal> {
        let mut rest = region;
        while !rest.is_empty() {
            rest.start = self.map_first(rest, access)?;
        }
        Ok(())
    }

    /// Makes the table at the physical address `table` that of the first 512 GiB of the upper half.
    /// Whatever it and those below say, nothing there is executable.
    pub(crate) fn attach_upper_half(&self, table: u64) {
        if let Some(root) = self.frames.first() {
            root.set(UPPER_HALF, table | LINK | NO_EXECUTE);
        }
    }

    /// What the tables say of `address`; `None` if nothing is mapped there.
    pub(crate) fn protection(&self, address: u64) -> Option<Protection> {
        if address >= ADDRESS_LIMIT {
            return None;
        }
        let mut table = self.frames.first()?;
        for level in LEVELS {
            let entry = table.entry(level.index(address));
            if entry & PRESENT == 0 {
                return None;
            }
            if level.is_leaf(entry) {
                return Some(Protection {
                    writable: entry & WRITABLE != 0,
                    executable: entry & NO_EXECUTE == 0,
                    user: entry & USER != 0,
                    cached: entry & CACHE_DISABLE == 0,
                    page_size: level.page_size(),
                });
            }
            table = self.follow(entry)?;
        }
        None
    }

    /// Maps the first page of `region` and returns the address after it.
    fn map_first(&self, region: MemoryRegion, access: Access) -> Result<u64, Refusal> {
        let address = region.start;
        let mut table = self.frames.first().ok_or(Refusal::OutOfTables)?;
        for level in LEVELS {
            let index = level.index(address);
            let entry = table.entry(index);
            let page = level.page_size();
            if entry & PRESENT == 0 {
                if self.allows(level) && address.is_multiple_of(page) && region.length() >= page {
                    table.set(index, address | access.flags() | level.leaf_flag());
                    return Ok(address + page);
                }
                let (next, next_address) = self.take_frame().ok_or(Refusal::OutOfTables)?;
                table.set(index, next_address | LINK);
                table = next;
            } else if level.is_leaf(entry) {
                if entry & !ADDRESS != access.flags() | level.leaf_flag() {
                    return Err(Refusal::Conflict { address });
                }
                return Ok((address - address % page + page).min(region.end));
            } else {
                table = self.follow(entry).ok_or(Refusal::Conflict { address })?;
            }
        }
        // The last level always ends in a leaf.
        Err(Refusal::Conflict { address })
    }

    fn allows(&self, level: Level) -> bool {
        match level {
            Level::Root => false,
            Level::Gigabytes => self.gigabyte_pages,
            Level::Megabytes | Level::Pages => true,
        }
    }

    /// A zeroed frame and its physical address.
    fn take_frame(&self) -> Option<(&'a Table, u64)> {
        let index = self.used();
        let frame = self.frames.get(index)?;
        for entry in 0..512 {
            frame.set(entry, 0);
        }
        self.used.store(index + 1, Ordering::Relaxed);
        Some((frame, self.base + index as u64 * PAGE))
    }

    fn follow(&self, entry: u64) -> Option<&'a Table> {
        let offset = (entry & ADDRESS).checked_sub(self.base)?;
        self.frames.get(usize::try_from(offset / PAGE).ok()?)
    }
}

impl Table {
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn entry(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, entry: u64) {
        self.0[index].store(entry, Ordering::Relaxed);
    }
}

/// The four levels, named by what one entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// 512 GiB an entry, never a page.
    Root = 39,
    Gigabytes = 30,
    Megabytes = 21,
    Pages = 12,
}

const LEVELS: [Level; 4] = [
    Level::Root,
    Level::Gigabytes,
    Level::Megabytes,
    Level::Pages,
];

impl Level {
    const fn page_size(self) -> u64 {
        1 << self as u64
    }

    const fn index(self, address: u64) -> usize {
        (address >> self as u64) as usize % 512
    }

    const fn leaf_flag(self) -> u64 {
        match self {
            Self::Pages => 0,
            _ => LARGE,
        }
    }

    const fn is_leaf(self, entry: u64) -> bool {
        matches!(self, Self::Pages) || entry & LARGE != 0
    }
}

#[cfg(test)]
#[path = "page_tables_tests.rs"]
mod tests;
