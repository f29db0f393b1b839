//! `cargo xtask bench`: how a rekernel guest compares with Linux guests on the same Xen.
//!
//! One boot of the lab; in each round every candidate is created anew and goes through all
//! measurements. What counts are the ratios of candidates within a round: under software
//! emulation no absolute figure means anything. docs/benchmarks/README.md has the method.

mod candidates;
mod dom0;
pub(crate) mod figures;
mod measurements;
mod report;
mod run;
mod statistics;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cargo_rekernel::package::cargo;
use cargo_rekernel::progress::{Took, status};
use cargo_rekernel::xen::ensure_lab;
use lab::BootOptions;

pub(crate) use candidates::Candidate;
pub(crate) use measurements::Measurement;
pub(crate) use run::{Files, Plan, TscMode, run};

use crate::guests::workspace;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often every candidate is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Take these measurements only
    #[arg(long, value_enum, value_name = "MEASUREMENT", value_delimiter = ',')]
    only: Vec<Measurement>,

    /// Measure these candidates only
    #[arg(long, value_enum, value_delimiter = ',')]
    candidates: Vec<Candidate>,

    /// Short loads: to see whether it works, not for figures
    #[arg(long)]
    quick: bool,

    /// How guests read the time stamp counter
    #[arg(long, value_enum, default_value_t = TscMode::Native)]
    tsc: TscMode,

    /// Where the report goes
    #[arg(long, value_name = "FOLDER", default_value = "docs/benchmarks")]
    output: PathBuf,

    /// Run the benchmarks of the crates on this machine instead
    #[arg(long)]
    host: bool,
}

/// Runs it.
pub(crate) fn command(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.host {
        return host();
    }
    let started = Instant::now();
    let plan = arguments.plan();
    let lab = ensure_lab(None)?;
    let files = Files::prepare()?;
    let options = BootOptions {
        memory_mib: 2560,
        dom0_memory_mib: 768,
        // A processor each for dom0 and the guest, and nobody moves: less noise.
        xen_arguments: "dom0_vcpus_pin".to_owned(),
        ..BootOptions::default()
    };
    let dom0 = lab.boot(&options, &|line| status("Lab", line))?;
    let environment = report::Environment::of(&lab, &files, &plan);
    let outcome = run(&dom0, &files, &plan)?;
    dom0.shut_down()?;
    let report = report::Report {
        environment,
        outcome,
    };
    println!("\n{}", report.table());
    let folder = workspace().join(&arguments.output);
    for file in report.write(&folder)? {
        status("Wrote", &file.display().to_string());
    }
    status(
        "Finished",
        &format!("measuring in {}", Took(started.elapsed())),
    );
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn plan(&self) -> Plan {
        let all_or = |chosen: &Vec<_>, all: &[_]| {
            if chosen.is_empty() {
                all.to_vec()
            } else {
                chosen.clone()
            }
        };
        Plan {
            rounds: self.rounds,
            candidates: all_or(&self.candidates, &Candidate::ALL),
            measurements: if self.only.is_empty() {
                Measurement::ALL.to_vec()
            } else {
                self.only.clone()
            },
            load: Duration::from_millis(if self.quick { 700 } else { 3000 }),
            idle_connections: if self.quick { 1000 } else { 10_000 },
            tsc: self.tsc,
        }
    }
}

/// Crates that have benchmarks of their own.
const WITH_BENCHMARKS: [&str; 4] = ["netfront", "pvh-boot", "rekernel-core", "xen-proto"];

/// The benchmarks of the crates: they need neither Xen nor QEMU.
fn host() -> Result<ExitCode> {
    for package in WITH_BENCHMARKS {
        status("Running", &format!("cargo bench -p {package}"));
        let outcome = cargo()
            .args(["bench", "--package", package])
            .current_dir(workspace())
            .status()
            .context("cargo could not be started")?;
        ensure!(
            outcome.success(),
            "the benchmarks of {package} ended with {outcome}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
