//! What is typed on the serial port, and what a machine without a watchdog says.

use anyhow::{Context as _, Result};
use cargo_rekernel::qemu::{Configuration, Machine};

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[
    ("console: what is typed reaches the program", |context| {
        for machine in Machine::ALL {
            typed(context, machine).with_context(|| machine.name())?;
        }
        Ok(())
    }),
    ("watchdog=: a machine that has none says so", |context| {
        let configuration = Configuration {
            append: vec!["do=idle".to_owned(), "watchdog=30".to_owned()],
            ..context.configuration("operator-probe")?
        };
        let mut boot = context.boot(&configuration)?;
        boot.wait_for("has no watchdog; only Xen has", BOOT_LIMIT)?;
        boot.wait_for("IDLES", BOOT_LIMIT)?;
        Ok(())
    }),
];

fn typed(context: &Context, machine: Machine) -> Result<()> {
    let configuration = Configuration {
        machine,
        append: vec!["do=lines".to_owned()],
        ..context.configuration("operator-probe")?
    };
    let mut boot = context.boot(&configuration)?;
    boot.wait_for("READS", BOOT_LIMIT)?;
    boot.type_text("one\ntwo words\r")?;
    boot.wait_for("TYPED 3 \"one\"", BOOT_LIMIT)?;
    boot.wait_for("TYPED 9 \"two words\"", BOOT_LIMIT)?;
    // More than the port holds, and more than a line.
    boot.type_text(&format!("{}\nquit\n", "x".repeat(20_000)))?;
    boot.wait_for("TYPED 1024 \"xxx", BOOT_LIMIT)?;
    boot.wait_for_power_off(BOOT_LIMIT)
}
