//! Boots with a start info of its own making, which pvh-boot must refuse, and say why.
//!
//! Its PVH note names an entry of its own in place of pvh-boot's (`pvh_boot_note_entry`, see
//! `link.x`). That entry looks at the loader's command line for the name of a flaw, makes a start
//! info with it, and goes on to pvh-boot's entry.
//!
//! Build: `cargo rekernel build bad-start-info`, which leaves it at `target/rekernel/bad-start-info`.
//!
//! Run:
//! ```text
//! qemu-system-x86_64 -M q35 -accel tcg -m 64 -nodefaults -display none -no-reboot \
//!     -debugcon file:debug.txt -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \
//!     -kernel target/rekernel/bad-start-info -append FLAW
//! ```
//! Expected: exit status 35, and on the debug port as well as on COM1 one line:
//!
//! | flaw             | line begins with `pvh-boot: cannot start: ` and has                              |
//! |------------------|----------------------------------------------------------------------------------|
//! | `magic`          | `has magic 0xdeadbeef, expected 0x336ec578`                                      |
//! | `version-0`      | `memory map absent: start info version 0`                                        |
//! | `no-map`         | `memory map absent: start info version 1, memmap_entries 0`                      |
//! | `null`           | `start info at 0x0`                                                              |
//! | `map-size`       | `memmap_entries is 4294967295, the limit is 128`                                 |
//! | `map-address`    | `memory map at 0xfffffffffffff000`                                               |
//! | `ram-overflow`   | `memory map entry 0: RAM at 0x1000 of 0xffffffffffffffff bytes runs past the end` |
//! | `no-ram`         | `no usable memory: 0x0 bytes of RAM`                                             |
//! | `modules`        | `nr_modules is 4294967295, the limit is 16`                                      |
//! | `module`         | `module 0 at 0xf0000000 of 0x1000 bytes is not in RAM`                           |
//! | `module-overlap` | `module 0 0x100000..0x101000 overlaps the program`                               |
//! | `command-line`   | `command line at 0x100000000`                                                    |
//!
//! `good` hands over a start info made in the same way, without a flaw, and any other name, `none`
//! say, the loader's own: `STARTED` on the debug port, exit status 33.

#![no_std]
#![no_main]

mod flaws;

use core::arch::global_asm;
use core::panic::PanicInfo;

use pvh_boot::{BootInfo, Outcome, debug_port};

use crate::flaws::{FLAWS, Flaw, StartData, WORKPLACE};

pvh_boot::entry!(main);

global_asm!(
    include_str!("entry.s"),
    flaws = sym FLAWS,
    flaws_end = const size_of::<[Flaw; flaws::COUNT]>(),
    flaw_size = const size_of::<Flaw>(),
    data_size = const size_of::<StartData>(),
    workplace = const WORKPLACE,
);

fn main(_: &'static BootInfo) -> ! {
    debug_port::write(b"STARTED\n");
    pvh_boot::stop(Outcome::Success)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    debug_port::write(b"PANIC\n");
    pvh_boot::stop(Outcome::Crash)
}
