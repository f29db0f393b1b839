//! What is typed on the serial port, and what a machine without a watchdog says.

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::monitor::serial::Socket;
use cargo_rekernel::monitor::{self, Report};
use cargo_rekernel::qemu::{Configuration, Machine};

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[
    ("console: what is typed reaches the program", |context| {
        for machine in Machine::ALL {
            typed(context, machine).with_context(|| machine.name())?;
        }
        Ok(())
    }),
    (
        "monitor: a guest on each machine answers on its second serial port",
        |context| {
            for machine in Machine::ALL {
                asked(context, machine).with_context(|| machine.name())?;
            }
            Ok(())
        },
    ),
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

fn asked(context: &Context, machine: Machine) -> Result<()> {
    let socket = Socket::new()?;
    let configuration = Configuration {
        machine,
        append: vec!["do=idle".to_owned()],
        monitor: Some(socket.path()),
        ..context.configuration("operator-probe")?
    };
    let mut boot = context.boot(&configuration)?;
    boot.wait_for("IDLES", BOOT_LIMIT)?;
    let mut port = socket.accept(BOOT_LIMIT)?;
    // More than once: the port must go on interrupting.
    for _ in 0..3 {
        let report = Report::parse(&boot.explain(monitor::ask(&mut port, "inspect"))?);
        let ram = report.field("memory", "ram", "total_kib");
        // 64 MiB, less what a machine's firmware keeps.
        let kibibytes: Option<u32> = ram.and_then(|text| text.parse().ok());
        ensure!(
            kibibytes.is_some_and(|kibibytes| (60_000..=65_536).contains(&kibibytes)),
            "the RAM is {ram:?}"
        );
    }
    Ok(())
}

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
