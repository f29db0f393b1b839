//! The first Rust code: from what the loader handed over to the program's main function.

use core::fmt::Write;
use core::{ptr, slice};

use super::boot_cell::BootCell;
use super::serial::LastWords;
use super::stop::{Outcome, stop};
use super::{image, legacy_interrupts, paging, processor, vectors};
use crate::address_space::{self, AddressSpace};
use crate::boot_info::{BootInfo, FOUR_GIB};
use crate::error::BootError;
use crate::handover::{Handover, LoaderMemory};
use crate::page_tables::{Table, Tables};
use crate::region::{MemoryRegion, PAGE};

/// Page tables set aside for [`paging::map_device`] and [`paging::map_shared`]: a device far from
/// all others takes three.
const SPARE_TABLES: usize = 16;

unsafe extern "Rust" {
    /// What `entry!` defines.
    safe fn pvh_boot_main(boot: &'static BootInfo) -> !;
}

static BOOT_INFO: BootCell<BootInfo> = BootCell::new();

/// Called by `entry.s` on the boot stack, interrupts off, the first 4 GiB mapped.
pub(super) extern "C" fn start(address: u64, kind: u32) -> &'static BootInfo {
    vectors::load();
    legacy_interrupts::silence();
    match set_up(Handover::new(kind, address)) {
        Ok(boot) => boot,
        Err(error) => {
            // Writing cannot fail.
            let _written = writeln!(LastWords, "pvh-boot: cannot start: {error}");
            stop(Outcome::Crash)
        }
    }
}

/// Called by `entry.s` on the emptied boot stack, with what [`start`] returned.
pub(super) extern "C" fn run(boot: &'static BootInfo) -> ! {
    pvh_boot_main(boot)
}

fn set_up(handover: Handover) -> Result<&'static BootInfo, BootError> {
    let layout = image::layout();
    let early_tables = image::early_tables();
    let program = MemoryRegion::new(layout.whole().start, early_tables.end);
    let memory = EarlyMemory { program };
    let mut boot = BootInfo::gather(&memory, handover, program, processor::address_limit())?;

    let room = boot.room_for_tables()?;
    let too_small = BootError::NotEnoughForTables {
        available: room.length(),
    };
    // SAFETY: `room` is RAM below 4 GiB, which the early tables map writable. Neither the program
    // nor anything the loader left is in it, and nobody else has been given it.
    let frames = unsafe { frames(room) };
    let tables =
        Tables::new(frames, room.start, processor::has_gigabyte_pages()).ok_or(too_small)?;
    address_space::populate(&tables, &boot, &layout, room.length())?;

    // From here on the tables own what they use and a reserve; the rest of `room` is free again.
    let kept = frames
        .get(..tables.used() + SPARE_TABLES)
        .ok_or(too_small)?;
    let tables = tables.shrink(kept);
    let end = room.start + kept.len() as u64 * PAGE;
    boot.settle(MemoryRegion::new(room.start, end), early_tables)?;

    // SAFETY: 1. the frames are below 4 GiB and belong to the tables for good. 2. They map the
    // program by section and all RAM; of the rest nothing is in use.
    unsafe { processor::switch_page_tables(tables.root()) };
    processor::protect();
    paging::ADDRESS_SPACE.set(AddressSpace::new(tables, &boot, &layout)?);
    Ok(BOOT_INFO.set(boot))
}

/// The page frames of `region` as page tables.
///
/// # Safety
/// `region` is page-aligned, mapped writable for good, and used by nobody else as long as the
/// result is.
unsafe fn frames(region: MemoryRegion) -> &'static [Table] {
    let start = ptr::with_exposed_provenance(region.start as usize);
    // SAFETY: the caller's promise; a table is atomic integers, for which any content is valid.
    unsafe { slice::from_raw_parts(start, (region.length() / PAGE) as usize) }
}

/// What the loader left, read through the early page tables.
struct EarlyMemory {
    program: MemoryRegion,
}

impl LoaderMemory for EarlyMemory {
    fn bytes(&self, address: u64, length: u64) -> Option<&'static [u8]> {
        let region = MemoryRegion::new(address, address.checked_add(length)?);
        if address == 0 || region.end > FOUR_GIB || region.overlaps(self.program) {
            return None;
        }
        let start = ptr::with_exposed_provenance(address as usize);
        // SAFETY: the early tables map the first 4 GiB, page 0 too. The bytes are not the program's, so nothing
        // here changes them until `BootInfo` has set them apart from the memory it gives away.
        Some(unsafe { slice::from_raw_parts(start, length as usize) })
    }
}
