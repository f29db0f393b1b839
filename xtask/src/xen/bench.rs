//! `cargo xtask bench`, kept working: its shortest form.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Context, Test, XL_LIMIT};
use crate::bench::{self, Candidate, Files, Measurement, Plan, TscMode, figures};

pub(super) const TESTS: &[Test] = &[(
    "bench: a short round against Linux PV has its figures",
    short_round,
)];

/// Figures so short are worth nothing; that they are there, and that what each candidate was asked
/// for was done, is what is tested.
fn short_round(context: &Context) -> Result<()> {
    let plan = Plan {
        rounds: 1,
        candidates: vec![Candidate::Rekernel, Candidate::LinuxPv, Candidate::Floor],
        measurements: vec![Measurement::Boot, Measurement::KeepAlive, Measurement::Bulk],
        // Shorter, and a Linux guest on a busy machine may not have sent anything.
        load: Duration::from_secs(1),
        idle_connections: 10,
        tsc: TscMode::Native,
    };
    let outcome = bench::run(&context.dom0, &Files::prepare()?, &plan)?;
    context.sh("rm -r /bench", XL_LIMIT)?;
    ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let samples = outcome.samples;
    for figure in [
        figures::FIRST_BYTE,
        figures::ROUND_TRIP,
        figures::CPU_PER_REQUEST,
        figures::TO_GUEST_8,
        figures::CPU_FROM_GUEST_1,
    ] {
        let ratio = samples.ratio(&figure, Candidate::LinuxPv);
        let ratio = ratio.with_context(|| format!("`{}` was not measured", figure.name))?;
        ensure!(
            ratio.median > 0.0,
            "the ratio of `{}` is {}",
            figure.name,
            ratio.median
        );
    }
    let floor = samples.spread(&figures::FIRST_BYTE, Candidate::Floor);
    floor.context("the floor was not measured").map(drop)
}
