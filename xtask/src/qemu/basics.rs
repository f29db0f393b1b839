//! The smallest example on every machine.

use anyhow::Result;
use cargo_rekernel::qemu::{Machine, accelerator};

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[
    (
        "software emulation boots the smallest PVH guest",
        software_emulation,
    ),
    ("hello on pc", |context| hello(context, Machine::Pc)),
    ("hello on q35", |context| hello(context, Machine::Q35)),
    ("hello on microvm", |context| {
        hello(context, Machine::Microvm)
    }),
];

/// The test of accelerators itself must be able to say yes.
fn software_emulation(context: &Context) -> Result<()> {
    let outcome = accelerator::try_boot(&context.qemu, cargo_rekernel::qemu::Accelerator::Tcg)?;
    outcome.map_err(|reason| anyhow::anyhow!("the tiny guest did not run: {reason}"))
}

fn hello(context: &Context, machine: Machine) -> Result<()> {
    let mut configuration = context.configuration("hello")?;
    configuration.machine = machine;
    let mut boot = context.boot(&configuration)?;
    boot.wait_for("hello", BOOT_LIMIT)?;
    boot.wait_for_power_off(BOOT_LIMIT)
}
