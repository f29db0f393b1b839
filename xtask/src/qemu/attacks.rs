//! The boot code under test: its own checks of the machine it set up, programs that break
//! the rules, and boot data that cannot be believed.

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::qemu::{Configuration, Console, Machine};

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[
    ("boot-probe on pc, q35 and microvm", probe),
    ("boot-probe in 8 MiB and in 3 GiB of RAM", probe_sizes),
    ("15 attacks die of the expected fault", attacks),
    (
        "12 start infos that cannot be believed are refused",
        bad_start_infos,
    ),
];

fn probe(context: &Context) -> Result<()> {
    for machine in Machine::ALL {
        let configuration = Configuration {
            machine,
            ..speaking_at_debug_port(context, "")?
        };
        passes_its_checks(context, &configuration).with_context(|| machine.name())?;
    }
    Ok(())
}

fn probe_sizes(context: &Context) -> Result<()> {
    for memory_mib in [8, 3072] {
        let configuration = Configuration {
            memory_mib,
            ..speaking_at_debug_port(context, "")?
        };
        passes_its_checks(context, &configuration).with_context(|| format!("{memory_mib} MiB"))?;
    }
    Ok(())
}

fn passes_its_checks(context: &Context, configuration: &Configuration) -> Result<()> {
    let mut boot = context.boot(configuration)?;
    boot.wait_for("PROBE OK", BOOT_LIMIT)?;
    boot.wait_for_power_off(BOOT_LIMIT)
}

/// What the guest is told to do, how the report must begin and what else it must have.
const ATTACKS: &[(&str, &str, &str)] = &[
    ("null", "page fault at ", ": null pointer (address 0x0)"),
    (
        "null-call",
        "page fault at 0x0",
        ": call of a null pointer (address 0x0)",
    ),
    (
        "write-text",
        "page fault at ",
        ": write to the program's code (address 0x",
    ),
    (
        "write-rodata",
        "page fault at ",
        ": write to read-only memory (address 0x",
    ),
    (
        "execute-heap",
        "page fault at ",
        ": execution of memory that is not code (address 0x",
    ),
    (
        "execute-stack",
        "page fault at ",
        ": execution of memory that is not code (address 0x",
    ),
    (
        "execute-rodata",
        "page fault at ",
        ": execution of memory that is not code (address 0x",
    ),
    (
        "stack-overflow",
        "page fault at ",
        ": stack overflow: guard page of the boot stack",
    ),
    (
        "bad-stack",
        "page fault at ",
        ": null pointer (address 0x8)",
    ),
    ("double-fault", "double fault at ", ""),
    (
        "handler-overflow",
        "page fault at ",
        ": stack overflow: guard page of the boot stack",
    ),
    ("ud2", "invalid opcode at ", ""),
    ("divide", "divide error at ", ""),
    (
        "unmapped",
        "page fault at ",
        ": nothing is mapped at the address (address 0x40000000000)",
    ),
];

fn attacks(context: &Context) -> Result<()> {
    for (attack, beginning, detail) in ATTACKS {
        let beginning = format!("pvh-boot: exception: {beginning}");
        dies(context, attack, &[&beginning, detail]).with_context(|| (*attack).to_owned())?;
    }
    // A panic's message has a line of its own, below its place.
    dies(context, "panic", &["PANIC: ", "attack.rs"]).context("panic")
}

fn dies(context: &Context, attack: &str, report: &[&str]) -> Result<()> {
    let mut boot = context.boot(&speaking_at_debug_port(context, attack)?)?;
    boot.wait_for_crash(report[0], BOOT_LIMIT)?;
    boot.must_have_line_with(report)?;
    ensure!(!boot.said("ATTACK SURVIVED"), "it survived");
    Ok(())
}

fn speaking_at_debug_port(context: &Context, attack: &str) -> Result<Configuration> {
    let append = if attack.is_empty() {
        Vec::new()
    } else {
        vec![attack.to_owned()]
    };
    Ok(Configuration {
        append,
        console: Console::DebugPort,
        ..context.configuration("boot-probe")?
    })
}

/// What is wrong, and what the boot code must say about it.
const FLAWS: &[(&str, &str)] = &[
    ("magic", "has magic 0xdeadbeef, expected 0x336ec578"),
    ("version-0", "memory map absent: start info version 0"),
    (
        "no-map",
        "memory map absent: start info version 1, memmap_entries 0",
    ),
    ("null", "start info at 0x0"),
    ("map-size", "memmap_entries is 4294967295, the limit is 128"),
    ("map-address", "memory map at 0xfffffffffffff000"),
    (
        "ram-overflow",
        "memory map entry 0: RAM at 0x1000 of 0xffffffffffffffff bytes runs past the end",
    ),
    ("no-ram", "no usable memory: 0x0 bytes of RAM"),
    ("modules", "nr_modules is 4294967295, the limit is 16"),
    (
        "module",
        "module 0 at 0xf0000000 of 0x1000 bytes is not in RAM",
    ),
    (
        "module-overlap",
        "module 0 0x100000..0x101000 overlaps the program",
    ),
    ("command-line", "command line at 0x100000000"),
];

/// The refusal must be on the serial port, where users look, as well as on the debug port.
fn bad_start_infos(context: &Context) -> Result<()> {
    for console in [Console::Serial, Console::DebugPort] {
        for (flaw, refusal) in FLAWS {
            let mut boot = context.boot(&flawed(context, flaw, console)?)?;
            let refused = boot.wait_for_crash("pvh-boot: cannot start: ", BOOT_LIMIT);
            refused
                .and_then(|()| boot.must_have_line_with(&["pvh-boot: cannot start: ", refusal]))
                .context(*flaw)?;
        }
    }
    // Without a flaw the same made-up start info is good: the refusals above are not its own.
    let mut boot = context.boot(&flawed(context, "none", Console::DebugPort)?)?;
    boot.wait_for("STARTED", BOOT_LIMIT)?;
    boot.wait_for_power_off(BOOT_LIMIT)
}

fn flawed(context: &Context, flaw: &str, console: Console) -> Result<Configuration> {
    let append = vec![flaw.to_owned()];
    Ok(Configuration {
        append,
        console,
        ..context.configuration("bad-start-info")?
    })
}
