//! The few processor instructions that have no safe wrapper elsewhere.
//!
//! Unsafe because the intrinsics are; each function states why no caller can misuse it.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};

use spin::Once;

/// Reads the time-stamp counter.
pub(crate) fn time_stamp_counter() -> u64 {
    // SAFETY: RDTSC reads a counter and has no other effect; CR4.TSD does not apply in ring 0.
    unsafe { _rdtsc() }
}

/// Leaf `leaf`, sub-leaf 0, of CPUID. Leaves the processor does not have give whatever it
/// answers for them: compare with the maximum leaf first.
pub(crate) fn cpuid(leaf: u32) -> CpuidResult {
    cpuid_count(leaf, 0)
}

/// Leaf `leaf`, sub-leaf `sub_leaf`, of CPUID.
pub(crate) fn cpuid_count(leaf: u32, sub_leaf: u32) -> CpuidResult {
    __cpuid_count(leaf, sub_leaf)
}

/// The frame pointer of the function this is inlined into.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets the deadline, in time-stamp counter ticks, at which the local APIC's timer fires in
/// its TSC-deadline mode.
///
/// # Panics
/// If the processor has no such mode: writing the register would fault.
pub(crate) fn write_timer_deadline(ticks: u64) {
    assert!(has_timer_deadline(), "the timer has no deadline mode");
    /// IA32_TSC_DEADLINE, Intel SDM volume 4.
    const DEADLINE: u32 = 0x6e0;
    let (low, high) = (ticks as u32, (ticks >> 32) as u32);
    // SAFETY: the register exists, as checked, and only decides when an interrupt comes.
    unsafe {
        asm!("wrmsr", in("ecx") DEADLINE, in("eax") low, in("edx") high,
             options(nomem, nostack, preserves_flags));
    };
}

/// Whether the local APIC's timer can fire at a time-stamp counter value (bit 24 of ECX, CPUID leaf 1).
pub(crate) fn has_timer_deadline() -> bool {
    abilities().timer_deadline
}

/// What CPUID says of this processor. Asked once: each CPUID is a trip into the hypervisor.
struct Abilities {
    timer_deadline: bool,
    random_seed: bool,
    random_number: bool,
}

fn abilities() -> &'static Abilities {
    static ABILITIES: Once<Abilities> = Once::new();
    ABILITIES.call_once(|| {
        let basic = cpuid(1).ecx;
        Abilities {
            timer_deadline: basic & 1 << 24 != 0,
            random_seed: cpuid(0).eax >= 7 && cpuid(7).ebx & 1 << 18 != 0,
            random_number: basic & 1 << 30 != 0,
        }
    })
}

/// One attempt of RDSEED, or `None` if the processor lacks it or its pool is dry just now.
pub(crate) fn random_seed() -> Option<u64> {
    let present = abilities().random_seed;
    let (value, valid): (u64, u8);
    if !present {
        return None;
    }
    // SAFETY: the instruction exists, as checked; it only writes the two outputs.
    unsafe {
        asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) valid,
             options(nomem, nostack));
    };
    (valid == 1).then_some(value)
}

/// One attempt of RDRAND, or `None` if the processor lacks it or it failed.
pub(crate) fn random_number() -> Option<u64> {
    let present = abilities().random_number;
    let (value, valid): (u64, u8);
    if !present {
        return None;
    }
    // SAFETY: the instruction exists, as checked; it only writes the two outputs.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) valid,
             options(nomem, nostack));
    };
    (valid == 1).then_some(value)
}

/// Stops for good: interrupts off, then halt.
pub(crate) fn halt_forever() -> ! {
    loop {
        // SAFETY: the program ends here; nothing is left that an interrupt could continue.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
