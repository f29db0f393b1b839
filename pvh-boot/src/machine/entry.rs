//! What loaders find the entries by (an ELF note, a multiboot2 header), and the entries themselves.

use core::arch::global_asm;
use core::mem::size_of;

use super::stacks;
use super::start::{run, start};
use crate::descriptors::{CODE_SELECTOR, DATA_SELECTOR};
use crate::handover;

global_asm!(
    include_str!("entry.s"),
    boot_stack = sym stacks::BOOT,
    boot_stack_end = const size_of::<stacks::GuardedStack<{ stacks::BOOT_STACK_SIZE }>>(),
    code_selector = const CODE_SELECTOR,
    data_selector = const DATA_SELECTOR,
    multiboot2 = const handover::MULTIBOOT2,
    start = sym start,
    run = sym run,
);

unsafe extern "C" {
    /// The 32-bit entry: `pvh_boot_start` of `entry.s`, unless the program defines this symbol.
    /// See `link.x`.
    fn pvh_boot_note_entry();
}

/// XEN_ELFNOTE_PHYS32_ENTRY of Xen's public header `elfnote.h`.
const PHYS32_ENTRY: u32 = 18;

/// An ELF note of the owner "Xen" whose descriptor is a 64-bit address.
///
/// Packed to 4 bytes: loaders (QEMU) round the name's size up to the alignment of the segment,
/// and with 8 they would read past the descriptor's first half.
#[repr(C, packed(4))]
struct EntryNote {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; 4],
    entry: unsafe extern "C" fn(),
}

#[used]
#[unsafe(link_section = ".note.xen")]
#[unsafe(export_name = "PVH_BOOT_ENTRY_NOTE")]
static ENTRY_NOTE: EntryNote = EntryNote {
    name_size: 4,
    descriptor_size: size_of::<unsafe extern "C" fn()>() as u32,
    kind: PHYS32_ENTRY,
    name: *b"Xen\0",
    entry: pvh_boot_note_entry,
};
