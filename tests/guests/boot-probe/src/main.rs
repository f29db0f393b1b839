//! Boots, looks at what pvh-boot made of the machine, and says `PROBE OK`; or, with the name of an
//! attack as its command line, tries it and must die of it.
//!
//! Build: `cargo rekernel build boot-probe`, which leaves it at `target/rekernel/boot-probe`.
//!
//! Run, on `pc`, `q35` or `microvm`, with 8 MiB of memory or more:
//! ```text
//! qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 64 -nodefaults -display none -no-reboot \
//!     -debugcon stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \
//!     -kernel target/rekernel/boot-probe [-append ATTACK]
//! ```
//! Without an attack the last line is `PROBE OK` and QEMU's exit status 33. A check that fails
//! prints `PROBE FAILED: ` and what it found, status 35.
//!
//! With an attack the last line is a report of these, and the status 35:
//!
//! | attack             | line begins with `pvh-boot: exception: ` and has                            |
//! |--------------------|-----------------------------------------------------------------------------|
//! | `null`             | `page fault at ` … `: null pointer (address 0x0)`                           |
//! | `null-call`        | `page fault at 0x0: call of a null pointer (address 0x0)`                   |
//! | `write-text`       | `page fault at ` … `: write to the program's code (address 0x`              |
//! | `write-rodata`     | `page fault at ` … `: write to read-only memory (address 0x`                |
//! | `execute-heap`     | `page fault at ` … `: execution of memory that is not code (address 0x`     |
//! | `execute-stack`    | the same                                                                    |
//! | `execute-rodata`   | the same                                                                    |
//! | `stack-overflow`   | `page fault at ` … `: stack overflow: guard page of the boot stack`         |
//! | `bad-stack`        | `page fault at ` … `: null pointer (address 0x8)`                           |
//! | `double-fault`     | `double fault at `                                                          |
//! | `handler-overflow` | `page fault at ` … `: stack overflow: guard page of the boot stack`         |
//! | `ud2`              | `invalid opcode at `                                                        |
//! | `divide`           | `divide error at `                                                          |
//! | `unmapped`         | `page fault at ` … `: nothing is mapped at the address (address 0x40000000000)` |
//! | `nested`           | none: `pvh-boot: exception while another is reported: page fault at `       |
//! | `panic`            | none: `PANIC: ` and the panic's message                                     |
//!
//! On a processor that is not enough (status 35): with `-cpu qemu64,-nx` the line has `does not offer
//! no-execute pages`, with `-cpu qemu64,-lm` `this processor has no 64-bit mode`.
//!
//! `ATTACK SURVIVED` (status 33) must never appear. Under Xen the lines come on Xen's console
//! (`guest_loglvl=all`), and the domain ends.

#![no_std]
#![no_main]

mod attack;
mod check;
mod console;
mod tables;

use core::panic::PanicInfo;

use pvh_boot::{BootInfo, Outcome};

use crate::console::say;

pvh_boot::entry!(main);

fn main(boot: &'static BootInfo) -> ! {
    match boot.command_line() {
        b"" => {
            describe(boot);
            match check::all(boot) {
                Ok(()) => say!("PROBE OK"),
                Err(found) => {
                    say!("PROBE FAILED: {found}");
                    pvh_boot::stop(Outcome::Crash)
                }
            }
        }
        name => match attack::by_name(name) {
            Some(attack) => {
                attack(boot);
                say!("ATTACK SURVIVED");
            }
            None => {
                say!("PROBE FAILED: no attack named {}", name.escape_ascii());
                pvh_boot::stop(Outcome::Crash)
            }
        },
    }
    pvh_boot::stop(Outcome::Success)
}

fn describe(boot: &BootInfo) {
    say!("entered by {}", boot.protocol());
    for entry in boot.memory_map() {
        let end = entry.start.wrapping_add(entry.size);
        say!("memory map {:#x}..{end:#x} {}", entry.start, entry.kind);
    }
    for module in boot.modules() {
        say!("module {:#x}..{:#x}", module.start, module.end);
    }
    let mut usable = 0;
    for region in boot.usable_memory() {
        say!("usable {region}");
        usable += region.length();
    }
    say!(
        "RAM {} KiB, usable {} KiB",
        boot.total_ram() / 1024,
        usable / 1024
    );
    let image = pvh_boot::image();
    let stack = pvh_boot::stack_bounds();
    say!("code {:#x}..{:#x}", image.text.start, image.text.end);
    say!(
        "constants {:#x}..{:#x}",
        image.rodata.start,
        image.rodata.end
    );
    say!("variables {:#x}..{:#x}", image.data.start, image.data.end);
    say!("stack {:#x}..{:#x}", stack.start, stack.end);
    say!("ACPI root pointer {:#x}", boot.acpi_rsdp().unwrap_or(0));
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    say!("PANIC: {information}");
    pvh_boot::stop(Outcome::Crash)
}
