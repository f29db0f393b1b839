//! The guest's memory: the heap, and buffers whose pages are backed at first touch.

use anyhow::{Context as _, Result};
use cargo_rekernel::qemu::{Configuration, Machine};

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[
    (
        "memory: pages are backed at first touch and come back",
        |context| {
            for machine in Machine::ALL {
                let configuration = Configuration {
                    machine,
                    ..context.configuration("memory-probe")?
                };
                passes(context, &configuration).with_context(|| machine.name())?;
            }
            Ok(())
        },
    ),
    (
        "memory: the same in 16 MiB and in 3 GiB of RAM",
        |context| {
            for memory_mib in [16, 3072] {
                let configuration = Configuration {
                    memory_mib,
                    ..context.configuration("memory-probe")?
                };
                passes(context, &configuration).with_context(|| format!("{memory_mib} MiB"))?;
            }
            Ok(())
        },
    ),
    (
        "memory: faults that nothing answers are reported",
        |context| {
            for (fault, explanation) in [
                ("outside", "nothing is mapped at the address"),
                ("dropped", "nothing is mapped at the address"),
                ("execute", "execution of memory that is not code"),
                ("exhaust", "no memory is left to back a buffer's page"),
            ] {
                dies(context, fault, explanation).with_context(|| fault.to_owned())?;
            }
            Ok(())
        },
    ),
];

fn passes(context: &Context, configuration: &Configuration) -> Result<()> {
    let mut boot = context.boot(configuration)?;
    boot.wait_for("PROBE OK", BOOT_LIMIT)?;
    boot.wait_for_power_off(BOOT_LIMIT)
}

fn dies(context: &Context, fault: &str, explanation: &str) -> Result<()> {
    let configuration = Configuration {
        append: vec![format!("do={fault}")],
        ..context.configuration("memory-probe")?
    };
    let mut boot = context.boot(&configuration)?;
    boot.wait_for_crash("rekernel: exception page fault at ", BOOT_LIMIT)?;
    boot.must_have_line_with(&[
        "rekernel: exception page fault at ",
        explanation,
        "address 0xffff8000",
    ])
}
