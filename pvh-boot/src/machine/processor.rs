//! What the processor offers, and the control registers.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;

use crate::page_tables::ADDRESS_LIMIT;

/// Whether the processor knows 1 GiB pages.
pub(super) fn has_gigabyte_pages() -> bool {
    leaf(0x8000_0001).edx & 1 << 26 != 0
}

/// First physical address that cannot be mapped.
pub(super) fn address_limit() -> u64 {
    let bits = match leaf(0x8000_0008).eax & 0xff {
        0 => 36,
        bits => bits,
    };
    1u64.checked_shl(bits)
        .map_or(ADDRESS_LIMIT, |limit| limit.min(ADDRESS_LIMIT))
}

/// Switches to the page tables at `root`.
///
/// # Safety
/// 1. `root` is the physical address of a root table below 4 GiB, whose tables stay as they are
///    but for added mappings.
/// 2. The tables map all that is in use now, at the same addresses and with enough rights.
pub(super) unsafe fn switch_page_tables(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: the caller's promises 1 and 2.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Switches on what the processor has against mistakes, and machine check reports.
pub(super) fn protect() {
    let structured = leaf_if_there(7);
    let basic = leaf(1);
    let mut flags = Cr4::read();
    for (has, flag) in [
        (basic.edx & 1 << 7 != 0, Cr4Flags::MACHINE_CHECK_EXCEPTION),
        (
            structured.ebx & 1 << 7 != 0,
            Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        ),
        (
            structured.ebx & 1 << 20 != 0,
            Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        ),
        (
            structured.ecx & 1 << 2 != 0,
            Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        ),
    ] {
        flags.set(flag, has);
    }
    // SAFETY: the flags forbid things that this program, which has no user pages and no user
    // mode, never does; nothing is taken away.
    unsafe { Cr4::write(flags) };
}

fn leaf_if_there(number: u32) -> CpuidResult {
    if leaf(0).eax >= number {
        __cpuid_count(number, 0)
    } else {
        CpuidResult {
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
        }
    }
}

fn leaf(number: u32) -> CpuidResult {
    __cpuid(number)
}
