//! `cargo xtask test`: the host tier, with the slow preparations beside it; then the boots, in two
//! threads.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use cargo_rekernel::progress::{Took, status};
use lab::Release;

use crate::guests::Guests;
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};
use crate::{host, qemu, xen};

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run one tier only; the others count as skipped
    #[arg(long, value_enum)]
    only: Option<Tier>,

    /// Run only the boot tests (qemu, xen, life) whose name contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,

    /// Run the tests on Xen (xen, life) on the Xen and dom0 of this Debian release, such as trixie;
    /// without it on the newest that this machine's apt sources offer
    #[arg(long, value_name = "RELEASE")]
    debian: Option<Release>,

    /// Run the long forms of the tests that have one; takes hours
    #[arg(long)]
    full: bool,
}

/// How much the tests do that come in two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What every change is tested with.
    Usual,
    /// What a release is tested with (`--full`).
    Full,
}

impl Extent {
    /// One of two amounts.
    pub(crate) fn pick<T>(self, usual: T, full: T) -> T {
        match self {
            Self::Usual => usual,
            Self::Full => full,
        }
    }

    /// How much is sent, and comes back, in each way of sending it.
    pub(crate) fn integrity_mebibytes(self) -> u64 {
        self.pick(8, 1024)
    }
}

impl Arguments {
    fn wants(&self, tier: Tier) -> bool {
        self.only.is_none_or(|only| only == tier)
    }

    /// What the names of boot tests must contain.
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    fn extent(&self) -> Extent {
        match self.full {
            true => Extent::Full,
            false => Extent::Usual,
        }
    }
}

/// Runs the tests; the exit code is a failure where anything failed.
pub(crate) fn command(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let mut summary = Summary::default();
    let measurements = Measurements::default();
    for tier in Tier::ALL.into_iter().filter(|&tier| !arguments.wants(tier)) {
        summary.skip(tier, "all", "not asked for (--only)");
    }
    let on_xen: Vec<_> = [Tier::Xen, Tier::Life]
        .into_iter()
        .filter(|&tier| arguments.wants(tier))
        .collect();
    let (guests, lab) = thread::scope(|scope| {
        // The lab is downloaded and put together while the crates are compiled.
        let release = arguments.debian.as_ref();
        let lab = (!on_xen.is_empty()).then(|| scope.spawn(move || xen::prepare(release)));
        if arguments.wants(Tier::Host) {
            host::run(&mut summary);
        }
        let boots = arguments.wants(Tier::Qemu) || lab.is_some();
        let guests = match boots {
            true => build_guests(arguments, &mut summary, &measurements),
            false => None,
        };
        let lost = |_| Err(anyhow!("the preparation of the lab was lost"));
        (guests, lab.map(|lab| lab.join().unwrap_or_else(lost)))
    });
    if let Some(guests) = &guests {
        let plan = lab.and_then(|lab| {
            let lab = xen::ready(lab, on_xen[0], &mut summary)?;
            let selection = xen::Selection {
                tiers: &on_xen,
                name: arguments.name(),
                extent: arguments.extent(),
                release: arguments.debian.as_ref(),
            };
            Some(xen::Plan::new(lab, guests, selection, &measurements))
        });
        boot(arguments, guests, plan, &mut summary, &measurements);
    }
    if let Some(name) = &arguments.name
        && !summary.has_check_named(name)
    {
        summary.check(boot_tier(arguments), name, || {
            bail!("no boot test that ran has this in its name: a typing error in --name, or another tier's")
        });
    }
    report(&summary, &measurements);
    status(
        "Finished",
        &format!("testing in {}", Took(started.elapsed())),
    );
    println!("{}", summary.counts());
    Ok(if summary.succeeded() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests that boot guests, in two threads: a boot keeps one processor busy, hardly more.
fn boot(
    arguments: &Arguments,
    guests: &Guests,
    plan: Option<xen::Plan>,
    summary: &mut Summary,
    measurements: &Measurements,
) {
    thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut summary = Summary::default();
            if arguments.wants(Tier::Qemu) {
                qemu::run(guests, arguments.name(), &mut summary, measurements);
            }
            if let Some(plan) = &plan {
                plan.run_beside(&mut summary);
            }
            summary
        });
        if let Some(plan) = &plan {
            plan.run(summary);
        }
        match beside.join() {
            Ok(other) => summary.append(other),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    if let Some(plan) = plan {
        plan.finish(summary);
    }
}

/// Builds every guest once for all tiers that boot some. Where that fails, none can run. For a few
/// tests picked by name, guests are built as they are asked for.
fn build_guests(
    arguments: &Arguments,
    summary: &mut Summary,
    measurements: &Measurements,
) -> Option<Guests> {
    let mut guests = None;
    let what = match arguments.name {
        Some(_) => "guests are found",
        None => "all guests build",
    };
    summary.check(boot_tier(arguments), what, || {
        let found = Guests::find()?;
        if arguments.name.is_none() {
            found.build_all()?;
        }
        guests = Some(found);
        Ok(())
    });
    match &guests {
        Some(guests) => guests.note_sizes(measurements),
        None => {
            for tier in BOOT_TIERS.into_iter().filter(|&tier| arguments.wants(tier)) {
                summary.skip(tier, "all boots", "the guests do not build");
            }
        }
    }
    guests
}

/// The tiers that boot guests.
const BOOT_TIERS: [Tier; 3] = [Tier::Qemu, Tier::Xen, Tier::Life];

/// The first tier asked for that boots guests.
fn boot_tier(arguments: &Arguments) -> Tier {
    BOOT_TIERS
        .into_iter()
        .find(|&tier| arguments.wants(tier))
        .unwrap_or(Tier::Qemu)
}

fn report(summary: &Summary, measurements: &Measurements) {
    println!("\n{}", summary.table());
    let figures = measurements.table();
    if !figures.is_empty() {
        println!("Measured in this run:\n{figures}");
    }
}
