//! Buffers whose pages take RAM at first touch: which addresses are issued, which of their pages
//! are backed, and the page tables that say so.
//!
//! They lie in the upper half of the address space, apart from everything that is mapped at its
//! physical address. It is cut into regions of 2 MiB, each with a page table of its own while it
//! holds buffers, all of one size. A page of a buffer is backed or marked as issued in its table
//! entry; a touch anywhere else is a fault like any other.
//!
//! Source of the bits: Intel SDM volume 3, chapter "Paging"; the processor ignores all but bit 0
//! of an entry that is not present.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::PAGE_SIZE;

/// Where the buffers lie: the first 64 GiB of the upper half.
pub const ADDRESSES: Range<usize> = BASE..BASE + DIRECTORIES * DIRECTORY_SIZE;
/// Lengths of buffers, in bytes.
pub const LENGTHS: Range<usize> = PAGE_SIZE..REGION_SIZE + 1;

const BASE: usize = 0xffff_8000_0000_0000;
const REGION_SIZE: usize = 2 << 20;
const REGION_PAGES: usize = REGION_SIZE / PAGE_SIZE;
const DIRECTORY_SIZE: usize = 1 << 30;
const DIRECTORIES: usize = 64;
const REGIONS: usize = DIRECTORIES * DIRECTORY_SIZE / REGION_SIZE;
/// Buffers have 1 << 0 to 1 << 9 pages.
const CLASSES: usize = 10;
const NONE: u32 = u32::MAX;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Of an entry that leads to the next table.
const LINK: u64 = PRESENT | WRITABLE | ACCESSED;
/// Of a backed page: read and written, never executed. The processor has no bit left to set.
const BACKED: u64 = PRESENT | WRITABLE | ACCESSED | DIRTY | NO_EXECUTE;
/// A page of a buffer that is not backed.
const ISSUED: u64 = 1 << 9;
/// The first page of a slot that holds no buffer; from bit 16 on the number of the next such slot
/// plus 1.
const FREE: u64 = 1 << 10;
const FREE_NEXT: u32 = 16;

/// A page table: a page of entries, which the processor reads at any time.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Table([AtomicU64; REGION_PAGES]);

impl Table {
    /// All zero: nothing is mapped.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "4 KiB are not made in passing")]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; REGION_PAGES])
    }

    /// Where it is: identity mapping makes this its physical address.
    #[must_use]
    pub fn address(&self) -> u64 {
        (&raw const *self).addr() as u64
    }

    fn get(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, entry: u64) {
        self.0[index].store(entry, Ordering::Relaxed);
    }
}

/// Where pages come from, and the processor that must forget them.
///
/// What is given back here was taken here, is given back once, and is in no table any more.
pub trait Backing {
    /// A page for a buffer, zeroed: its physical address.
    fn take_page(&mut self) -> Option<u64>;

    /// Takes such a page back.
    fn give_page_back(&mut self, address: u64);

    /// An empty page table.
    fn take_table(&mut self) -> Option<&'static Table>;

    /// Takes such a table back. Nobody has another reference to it.
    fn give_table_back(&mut self, table: &'static Table);

    /// Has the processor forget how `address`, and the tables on the way to it, were mapped.
    fn forget(&mut self, address: usize);
}

/// What became of a touch of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The page is there now.
    Backed,
    /// The address is in no buffer, or its page was backed already.
    NotOurs,
    /// There is no page to back it with.
    NoMemory,
}

/// 2 MiB of addresses, for buffers of one size.
struct Region {
    /// None while it holds no buffers.
    table: Option<&'static Table>,
    class: u8,
    /// Buffers in it.
    live: u16,
    /// Slots used so far; those from here on never were.
    fresh: u16,
    /// Number of a free slot plus 1; 0 for none.
    free: u16,
    previous: u32,
    next: u32,
}

impl Region {
    /// Buffers it has room for.
    fn capacity(&self) -> u16 {
        (REGION_PAGES >> self.class) as u16
    }

    fn is_full(&self) -> bool {
        self.live == self.capacity()
    }
}

/// All such buffers.
pub struct Space {
    /// Maps 512 GiB, of which [`ADDRESSES`] is the beginning.
    root: Option<&'static Table>,
    directories: [Option<&'static Table>; DIRECTORIES],
    regions: Vec<Region>,
    /// For each class, the first of the regions that have a slot left.
    lists: [u32; CLASSES],
    /// First of the regions without a table.
    empty: u32,
    backed: usize,
    tables: usize,
}

impl Space {
    /// No buffers yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: None,
            directories: [None; DIRECTORIES],
            regions: Vec::new(),
            lists: [NONE; CLASSES],
            empty: NONE,
            backed: 0,
            tables: 0,
        }
    }

    /// The table to be made the first of the upper half, made at the first call.
    pub fn root(&mut self, backing: &mut impl Backing) -> Option<&'static Table> {
        if self.root.is_none() {
            self.root = Some(self.take_table(backing)?);
        }
        self.root
    }

    /// Bytes of pages that back buffers now.
    #[must_use]
    pub fn backed(&self) -> usize {
        self.backed * PAGE_SIZE
    }

    /// Bytes of page tables now: a page for each 2 MiB of buffers, backed or not, and those above.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables * PAGE_SIZE
    }

    /// The address of a new buffer of `bytes` bytes, none of which is backed.
    pub fn issue(&mut self, bytes: usize, backing: &mut impl Backing) -> Option<usize> {
        if !LENGTHS.contains(&bytes) {
            return None;
        }
        let pages = bytes.div_ceil(PAGE_SIZE);
        let class = class_of(pages);
        let number = match self.lists[class] {
            NONE => self.open(class, backing)?,
            number => number,
        };
        let region = &mut self.regions[number as usize];
        let table = region.table?;
        let slot = match region.free {
            0 => {
                region.fresh += 1;
                region.fresh - 1
            }
            free => {
                region.free = (table.get(usize::from(free - 1) << class) >> FREE_NEXT) as u16;
                free - 1
            }
        };
        let first = usize::from(slot) << class;
        (first..first + pages).for_each(|page| table.set(page, ISSUED));
        region.live += 1;
        if region.is_full() {
            self.unlink(number, class);
        }
        Some(BASE + number as usize * REGION_SIZE + first * PAGE_SIZE)
    }

    /// Takes back a buffer of `bytes` bytes at `start`, and its pages.
    ///
    /// # Panics
    /// If there is none.
    pub fn retire(&mut self, start: usize, bytes: usize, backing: &mut impl Backing) {
        let pages = bytes.div_ceil(PAGE_SIZE);
        let class = class_of(pages);
        self.change(start, pages, 0, backing);
        let (number, first) = place_of(start);
        let region = &mut self.regions[number];
        let table = region.table.expect("a buffer's region has a table");
        table.set(first, FREE | u64::from(region.free) << FREE_NEXT);
        region.free = (first >> class) as u16 + 1;
        let was_full = region.is_full();
        region.live -= 1;
        let is_empty = region.live == 0;
        let number = number as u32;
        if was_full {
            self.link(number, class);
        }
        let region = &self.regions[number as usize];
        // The last region of its list stays, so that one buffer made and dropped in turn costs
        // no table each time.
        if is_empty && (region.previous, region.next) != (NONE, NONE) {
            self.unlink(number, class);
            self.close(number, backing);
        }
    }

    /// Takes the RAM of the pages that lie wholly in `range`, as far as they are in buffers.
    pub fn release(&mut self, range: Range<usize>, backing: &mut impl Backing) {
        let start = range.start.checked_next_multiple_of(PAGE_SIZE);
        let end = range.end & !(PAGE_SIZE - 1);
        let Some(start) = start.filter(|start| *start < end) else {
            return;
        };
        if start >= ADDRESSES.start && end <= ADDRESSES.end {
            self.change(start, (end - start) / PAGE_SIZE, ISSUED, backing);
        }
    }

    /// Backs the page that `address` is in, if it is in a buffer and not backed.
    pub fn touch(&mut self, address: usize, backing: &mut impl Backing) -> Touch {
        let Some((table, index)) = self.entry(address) else {
            return Touch::NotOurs;
        };
        if table.get(index) != ISSUED {
            return Touch::NotOurs;
        }
        let Some(page) = backing.take_page() else {
            return Touch::NoMemory;
        };
        table.set(index, page | BACKED);
        self.backed += 1;
        Touch::Backed
    }

    /// Takes the RAM of pages in buffers, and leaves `mark` in their entries.
    fn change(&mut self, start: usize, pages: usize, mark: u64, backing: &mut impl Backing) {
        for page in 0..pages {
            let address = start + page * PAGE_SIZE;
            let Some((table, index)) = self.entry(address) else {
                continue;
            };
            let entry = table.get(index);
            if entry & PRESENT != 0 {
                table.set(index, mark);
                backing.forget(address);
                backing.give_page_back(entry & ADDRESS);
                self.backed -= 1;
            } else if entry == ISSUED {
                table.set(index, mark);
            }
        }
    }

    /// The table entry of the page that `address` is in.
    fn entry(&self, address: usize) -> Option<(&'static Table, usize)> {
        if !ADDRESSES.contains(&address) {
            return None;
        }
        let (number, index) = place_of(address);
        Some((self.regions.get(number)?.table?, index))
    }

    /// Opens a region for buffers of this class, which is then the first of its list.
    fn open(&mut self, class: usize, backing: &mut impl Backing) -> Option<u32> {
        let number = match self.empty {
            NONE => self.regions.len(),
            empty => empty as usize,
        };
        if number == REGIONS {
            return None;
        }
        self.regions.try_reserve(1).ok()?;
        let root = self.root(backing)?;
        let (directory, index) = (number / REGION_PAGES, number % REGION_PAGES);
        let upper = match self.directories[directory] {
            Some(upper) => upper,
            None => {
                let upper = self.take_table(backing)?;
                root.set(directory, upper.address() | LINK);
                self.directories[directory] = Some(upper);
                upper
            }
        };
        let table = self.take_table(backing)?;
        upper.set(index, table.address() | LINK);
        let region = Region {
            table: Some(table),
            class: class as u8,
            live: 0,
            fresh: 0,
            free: 0,
            previous: NONE,
            next: NONE,
        };
        match self.regions.get_mut(number) {
            Some(place) => {
                self.empty = place.next;
                *place = region;
            }
            None => self.regions.push(region),
        }
        self.link(number as u32, class);
        Some(number as u32)
    }

    /// Closes a region that holds no buffers and is in no list.
    fn close(&mut self, number: u32, backing: &mut impl Backing) {
        let region = &mut self.regions[number as usize];
        let table = region.table.take();
        region.next = self.empty;
        self.empty = number;
        let (directory, index) = (
            number as usize / REGION_PAGES,
            number as usize % REGION_PAGES,
        );
        if let (Some(upper), Some(table)) = (self.directories[directory], table) {
            upper.set(index, 0);
            backing.forget(BASE + number as usize * REGION_SIZE);
            backing.give_table_back(table);
            self.tables -= 1;
        }
    }

    fn take_table(&mut self, backing: &mut impl Backing) -> Option<&'static Table> {
        let table = backing.take_table()?;
        self.tables += 1;
        Some(table)
    }

    fn link(&mut self, number: u32, class: usize) {
        let next = core::mem::replace(&mut self.lists[class], number);
        let region = &mut self.regions[number as usize];
        region.previous = NONE;
        region.next = next;
        if let Some(next) = self.regions.get_mut(next as usize) {
            next.previous = number;
        }
    }

    fn unlink(&mut self, number: u32, class: usize) {
        let region = &mut self.regions[number as usize];
        let (previous, next) = (region.previous, region.next);
        region.previous = NONE;
        region.next = NONE;
        match self.regions.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.lists[class] = next,
        }
        if let Some(next) = self.regions.get_mut(next as usize) {
            next.previous = previous;
        }
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

/// The class of buffers of this many pages.
fn class_of(pages: usize) -> usize {
    pages.next_power_of_two().trailing_zeros() as usize
}

/// The number of the region and the page in it.
fn place_of(address: usize) -> (usize, usize) {
    let offset = address - BASE;
    let page = offset / PAGE_SIZE % REGION_PAGES;
    (offset / REGION_SIZE, page)
}

#[cfg(test)]
#[path = "lazy_tests.rs"]
mod tests;
