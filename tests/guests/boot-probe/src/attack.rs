//! Things a broken or subverted program might do. Each must end in an exception.
//!
//! In assembly, as a compiler takes what is undefined for impossible.

use core::arch::asm;
use core::hint::black_box;

use pvh_boot::interrupts::{self, Vector};
use pvh_boot::{BootInfo, Outcome, exceptions};

pub(crate) type Attack = fn(&BootInfo);

pub(crate) fn by_name(name: &[u8]) -> Option<Attack> {
    let attack: Attack = match name {
        b"null" => |_| load(0),
        b"null-call" => |_| call(0),
        b"write-text" => |_| store(pvh_boot::image().text.start),
        b"write-rodata" => |_| store(pvh_boot::image().rodata.start),
        b"execute-heap" => |boot| {
            if let Some(region) = boot.usable_memory().next() {
                call(region.start as usize);
            }
        },
        b"execute-stack" => |_| call(pvh_boot::stack_bounds().start),
        b"execute-rodata" => |_| call(pvh_boot::image().rodata.start),
        b"stack-overflow" => |_| {
            black_box(recurse(0));
        },
        b"bad-stack" => |_| bad_stack(),
        b"double-fault" => |_| double_fault(),
        b"handler-overflow" => |_| handler_overflow(),
        b"nested" => |_| {
            exceptions::set_handler(|_| {
                load(0);
                pvh_boot::stop(Outcome::Success)
            });
            invalid_instruction();
        },
        b"ud2" => |_| invalid_instruction(),
        b"divide" => |_| divide(),
        b"unmapped" => |_| load(1 << 42),
        b"panic" => |_| panic!("as asked"),
        _ => return None,
    };
    Some(attack)
}

fn load(address: usize) {
    // SAFETY: not safe, and the point of this program: the access must be stopped.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _) };
}

fn store(address: usize) {
    // SAFETY: as in `load`.
    unsafe { asm!("mov byte ptr [{}], 0xcc", in(reg) address) };
}

fn call(address: usize) {
    // SAFETY: as in `load`.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
}

fn recurse(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return 0;
    }
    let frame = black_box([depth; 64]);
    frame[depth as usize % 64] + black_box(recurse(depth + 1)) + 1
}

/// A stack pointer that leads nowhere: the fault must be delivered all the same.
fn bad_stack() {
    // SAFETY: as in `load`.
    unsafe { asm!("mov rsp, {}", "push rax", "ud2", in(reg) 0x10_u64, options(noreturn)) };
}

/// Cuts the gates of page and protection faults off: a page fault then cannot be delivered.
fn double_fault() {
    let mut table = [0u8; 10];
    // SAFETY: writes ten bytes.
    unsafe { asm!("sidt [{}]", in(reg) table.as_mut_ptr()) };
    let limit: u16 = 9 * 16 - 1;
    table[..2].copy_from_slice(&limit.to_le_bytes());
    // SAFETY: the same table, cut short after the double fault's gate.
    unsafe { asm!("lidt [{}]", in(reg) table.as_ptr()) };
    load(0);
}

fn handler_overflow() {
    const VECTOR: u8 = 0x91;
    if let Some(vector) = Vector::new(VECTOR) {
        interrupts::set_handler(vector, || {
            black_box(recurse(0));
        });
    }
    let Ok(local_apic) = pvh_boot::paging::map_device(0xfee0_0000, 4096) else {
        return;
    };
    // Switched on, then told to interrupt this very processor.
    for (register, value) in [(0xf0, 0x1ff), (0x300, 1 << 18 | u32::from(VECTOR))] {
        // SAFETY: registers of the local APIC, just mapped.
        let register = unsafe { local_apic.add(register) };
        // SAFETY: as above; they touch no memory.
        unsafe { register.cast::<u32>().write_volatile(value) };
    }
    interrupts::admit();
}

fn invalid_instruction() {
    // SAFETY: as in `load`.
    unsafe { asm!("ud2") };
}

fn divide() {
    // SAFETY: as in `load`.
    unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}
