//! A walk over all page tables, written apart from pvh-boot's own so that the two can disagree.

use core::arch::asm;

/// One mapped page.
pub(crate) struct Page {
    pub(crate) address: u64,
    pub(crate) physical: u64,
    pub(crate) size: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) user: bool,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Calls `visit` for each mapped page, by address.
pub(crate) fn walk(visit: &mut impl FnMut(&Page)) {
    let root: u64;
    // SAFETY: reading CR3 changes nothing.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    let all = Page {
        address: 0,
        physical: root & ADDRESS,
        size: 1 << 48,
        writable: true,
        executable: true,
        user: true,
    };
    walk_table(&all, visit);
}

/// `table` is the range that the table at its `physical` covers, with the rights so far.
fn walk_table(table: &Page, visit: &mut impl FnMut(&Page)) {
    let size = table.size / 512;
    for index in 0..512 {
        let place = (table.physical + index * 8) as *const u64;
        // SAFETY: an entry of a live page table, which is RAM and mapped where it is.
        let entry = unsafe { place.read_volatile() };
        if entry & PRESENT == 0 {
            continue;
        }
        let page = Page {
            address: table.address + index * size,
            physical: entry
                & ADDRESS
                & !(if size > 4096 && entry & LARGE != 0 {
                    size - 1
                } else {
                    0
                }),
            size,
            writable: table.writable && entry & WRITABLE != 0,
            executable: table.executable && entry & NO_EXECUTE == 0,
            user: table.user && entry & USER != 0,
        };
        if size == 4096 || entry & LARGE != 0 {
            visit(&page);
        } else {
            walk_table(&page, visit);
        }
    }
}
