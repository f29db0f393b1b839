//! Where the program's parts are, from the symbols of `link.x`.

use core::ops::Range;

use super::stacks;
use crate::address_space::Layout;
use crate::region::MemoryRegion;

// Only the addresses of these mean something.
unsafe extern "C" {
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __early_tables_end: u8;
}

/// Addresses of the program's parts.
#[derive(Clone, Debug)]
pub struct Image {
    /// Machine code: executable and read-only.
    pub text: Range<usize>,
    /// Constants: read-only.
    pub rodata: Range<usize>,
    /// Variables and stacks: writable. The guard pages among them are not mapped.
    pub data: Range<usize>,
}

/// The parts of the running program.
#[must_use]
pub fn image() -> Image {
    Image {
        text: (&raw const __text_start).addr()..(&raw const __text_end).addr(),
        rodata: (&raw const __rodata_start).addr()..(&raw const __rodata_end).addr(),
        data: (&raw const __data_start).addr()..(&raw const __data_end).addr(),
    }
}

/// The same as the page tables need it.
pub(super) fn layout() -> Layout {
    let Image { text, rodata, data } = image();
    let region = |range: Range<usize>| MemoryRegion::new(range.start as u64, range.end as u64);
    Layout {
        text: region(text),
        rodata: region(rodata),
        data: region(data),
        guards: stacks::guards(),
    }
}

/// The early page tables, which follow the program's data and are free once unused.
pub(super) fn early_tables() -> MemoryRegion {
    MemoryRegion::new(
        (&raw const __data_end).addr() as u64,
        (&raw const __early_tables_end).addr() as u64,
    )
}
