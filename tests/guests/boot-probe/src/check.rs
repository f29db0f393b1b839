//! What must be true of a machine that pvh-boot set up.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use pvh_boot::interrupts::{self, Vector};
use pvh_boot::paging::{self, MapError};
use pvh_boot::{BootInfo, MemoryRegion};

use crate::console::say;
use crate::tables::{Page, walk};

/// What a check found wrong, with the value.
pub(crate) struct Finding(&'static str, u64);

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {:#x}", self.0, self.1)
    }
}

pub(crate) fn all(boot: &BootInfo) -> Result<(), Finding> {
    registers()?;
    pages()?;
    memory(boot)?;
    devices(boot)?;
    interrupts_return()?;
    a_timer_wakes()
}

fn ensure(holds: bool, otherwise: &'static str, value: u64) -> Result<(), Finding> {
    holds.then_some(()).ok_or(Finding(otherwise, value))
}

fn registers() -> Result<(), Finding> {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reading control registers changes nothing.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack, preserves_flags));
    }
    let efer: u32;
    // SAFETY: EFER exists on every processor with long mode.
    unsafe {
        asm!("rdmsr", in("ecx") 0xc000_0080u32, out("eax") efer, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    ensure(cr0 & 1 << 16 != 0, "CR0.WP is off", cr0)?;
    ensure(efer & 1 << 11 != 0, "EFER.NXE is off", efer.into())?;
    let features = if __cpuid(0).eax >= 7 {
        __cpuid_count(7, 0)
    } else {
        __cpuid_count(0x4fff_ffff, 0)
    };
    let has_leaf = __cpuid(0).eax >= 7;
    for (name, offered, bit) in [
        ("SMEP", features.ebx & 1 << 7 != 0, 20),
        ("SMAP", features.ebx & 1 << 20 != 0, 21),
        ("UMIP", features.ecx & 1 << 2 != 0, 11),
    ] {
        let offered = offered && has_leaf;
        let on = cr4 & 1 << bit != 0;
        say!("{name} {}", if on { "on" } else { "off" });
        ensure(on == offered, "CR4 does not follow CPUID", cr4)?;
    }
    Ok(())
}

fn pages() -> Result<(), Finding> {
    let image = pvh_boot::image();
    let (mut code, mut constant, mut writable) = (0, 0, 0);
    let mut outcome = Ok(());
    walk(&mut |page| {
        match (page.executable, page.writable) {
            (true, _) => code += page.size,
            (false, false) => constant += page.size,
            (false, true) => writable += page.size,
        }
        if outcome.is_ok() {
            outcome = page_is_right(page, &image);
        }
    });
    outcome?;
    say!(
        "mapped: code {} KiB, constants {} KiB, writable {} KiB",
        code / 1024,
        constant / 1024,
        writable / 1024
    );
    let length = |range: &Range<usize>| range.len() as u64;
    ensure(code == length(&image.text), "code pages amount to", code)?;
    ensure(paging::protection(0).is_none(), "page 0 is mapped", 0)?;
    let guard = pvh_boot::stack_bounds().start - 1;
    ensure(
        paging::protection(guard).is_none(),
        "the boot stack's guard page is mapped",
        guard as u64,
    )
}

fn page_is_right(page: &Page, image: &pvh_boot::Image) -> Result<(), Finding> {
    let inside = |range: &Range<usize>| range.contains(&(page.address as usize));
    let guard = pvh_boot::stack_bounds().start as u64 - 4096;
    ensure(
        !(page.writable && page.executable),
        "page writable and executable",
        page.address,
    )?;
    ensure(!page.user, "page open to user mode", page.address)?;
    ensure(
        page.address == page.physical,
        "page not at its physical address",
        page.address,
    )?;
    ensure(page.address != 0, "page 0 is mapped", 0)?;
    ensure(page.address != guard, "guard page is mapped", guard)?;
    ensure(
        inside(&image.text) == page.executable,
        "executable and code disagree",
        page.address,
    )?;
    ensure(
        !(inside(&image.rodata) && page.writable),
        "constants are writable",
        page.address,
    )
}

/// Usable memory is there, writable and nobody else's.
fn memory(boot: &BootInfo) -> Result<(), Finding> {
    let image = pvh_boot::image();
    let program = MemoryRegion {
        start: image.text.start.min(image.rodata.start) as u64,
        end: image.data.end as u64,
    };
    let mut end_before = 4096;
    for region in boot.usable_memory() {
        ensure(
            region.start % 4096 == 0 && region.end % 4096 == 0 && !region.is_empty(),
            "usable memory is not in pages",
            region.start,
        )?;
        ensure(
            region.start >= end_before,
            "usable memory overlaps",
            region.start,
        )?;
        ensure(
            region.end <= program.start || program.end <= region.start,
            "usable memory overlaps the program",
            region.start,
        )?;
        for module in boot.modules() {
            ensure(
                region.end <= module.start || module.end <= region.start,
                "usable memory overlaps a module",
                region.start,
            )?;
        }
        for address in [region.start, region.end - 8] {
            let place = address as *mut u64;
            // SAFETY: usable memory that nobody else uses in this program.
            unsafe { place.write_volatile(address ^ 0x5555) };
            // SAFETY: the same.
            let value = unsafe { place.read_volatile() };
            ensure(
                value == address ^ 0x5555,
                "memory does not remember",
                address,
            )?;
        }
        end_before = region.end;
    }
    Ok(())
}

/// The local APIC is at this address on every PC; where there is none, nothing is accessed.
const LOCAL_APIC: u64 = 0xfee0_0000;

fn devices(boot: &BootInfo) -> Result<(), Finding> {
    let mapped = paging::map_device(LOCAL_APIC, 0x400);
    ensure(mapped.is_ok(), "a device cannot be mapped", LOCAL_APIC)?;
    let again = paging::map_device(LOCAL_APIC + 0x20, 4);
    ensure(again.is_ok(), "a device cannot be mapped twice", LOCAL_APIC)?;
    let protection = paging::protection(LOCAL_APIC as usize);
    ensure(
        protection.is_some_and(|page| page.writable && !page.executable && !page.cached),
        "a device is mapped with the wrong protection",
        LOCAL_APIC,
    )?;
    ensure(
        paging::map_shared(LOCAL_APIC, 1)
            == Err(MapError::Conflict {
                address: LOCAL_APIC,
            }),
        "a device can be mapped as memory",
        LOCAL_APIC,
    )?;
    let far = 0x7000_0000_0000;
    ensure(
        paging::map_shared(far, 8192).is_ok(),
        "a far page cannot be mapped",
        far,
    )?;
    let ram = boot
        .usable_memory()
        .next()
        .map_or(4096, |region| region.start);
    for refused in [0, ram, pvh_boot::stack_bounds().start as u64 - 1] {
        ensure(
            paging::map_shared(refused, 1).is_err(),
            "memory can be mapped as a device",
            refused,
        )?;
    }
    Ok(())
}

static NOTED: AtomicU32 = AtomicU32::new(0);

/// A handler that spoils every vector register it may.
fn note() {
    NOTED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the registers are named as changed.
    unsafe {
        asm!("pcmpeqd xmm0, xmm0", "pcmpeqd xmm7, xmm7", "pcmpeqd xmm15, xmm15",
            out("xmm0") _, out("xmm7") _, out("xmm15") _, options(nomem, nostack));
    }
}

/// An interrupt that comes while interrupts are off, as emulators deliver one now and then, is ignored
/// and changes nothing.
fn interrupts_return() -> Result<(), Finding> {
    const VECTOR: u8 = 0x90;
    if let Some(vector) = Vector::new(VECTOR) {
        interrupts::set_handler(vector, note);
    }
    let (mut low, mut middle, mut high, mut integer, mut flags) = (1u64, 2u64, 3u64, 4u64, 0u64);
    // SAFETY: the handler is set, and everything that changes is named.
    unsafe {
        asm!(
            "movq xmm0, {low}", "movq xmm7, {middle}", "movq xmm15, {high}",
            "std",
            "int {vector}",
            "pushfq", "pop {flags}",
            "cld",
            "movq {low}, xmm0", "movq {middle}, xmm7", "movq {high}, xmm15",
            vector = const VECTOR,
            low = inout(reg) low, middle = inout(reg) middle, high = inout(reg) high,
            flags = inout(reg) flags,
            inout("r11") integer,
            out("xmm0") _, out("xmm7") _, out("xmm15") _,
        );
    }
    let noted = NOTED.load(Ordering::Relaxed);
    ensure(
        noted == 0,
        "interrupts noted though they were off",
        noted.into(),
    )?;
    ensure(
        (low, middle, high) == (1, 2, 3),
        "an interrupt changed a vector register",
        low,
    )?;
    ensure(integer == 4, "an interrupt changed a register", integer)?;
    ensure(
        flags & 1 << 10 != 0,
        "an interrupt changed the flags",
        flags,
    )?;
    Ok(())
}

/// Registers of the local APIC, by their offset.
const SPURIOUS_VECTOR: u64 = 0xf0;
const END_OF_INTERRUPT: u64 = 0xb0;
const TIMER_VECTOR: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_DIVISOR: u64 = 0x3e0;

fn write_local_apic(register: u64, value: u32) {
    let place = (LOCAL_APIC + register) as *mut u32;
    // SAFETY: `devices` has mapped these registers; they touch no memory.
    unsafe { place.write_volatile(value) };
}

static WOKEN: AtomicU32 = AtomicU32::new(0);

/// Sleeps until the local APIC's timer interrupts, ten times. Hangs where that does not work.
///
/// Long enough, at 1 GHz under QEMU, for the 55 ms timer that a PC's firmware leaves running: its
/// interrupt, were it to come, would be taken for a double fault.
fn a_timer_wakes() -> Result<(), Finding> {
    const NANOSECONDS: u32 = 6_500_000;
    const VECTOR: u8 = 0xa0;
    if let Some(vector) = Vector::new(VECTOR) {
        interrupts::set_handler(vector, || {
            WOKEN.fetch_add(1, Ordering::Relaxed);
            write_local_apic(END_OF_INTERRUPT, 0);
        });
    }
    write_local_apic(SPURIOUS_VECTOR, 0x1ff);
    write_local_apic(TIMER_DIVISOR, 0b1011);
    write_local_apic(TIMER_VECTOR, VECTOR.into());
    for count in 1..=10 {
        write_local_apic(TIMER_COUNT, NANOSECONDS);
        while WOKEN.load(Ordering::Relaxed) < count {
            interrupts::halt_unless(|| WOKEN.load(Ordering::Relaxed) >= count);
        }
    }
    say!("timer interrupts 10");
    let unexpected = interrupts::unexpected();
    ensure(unexpected == 0, "unexpected interrupts", unexpected)
}
