//! The Xen tier: a real Xen with a Debian dom0 is booted once, and `xl` creates guests on it. The
//! life tier runs on the same boot.

mod bench;
mod command;
mod guest;
mod integrity;
mod limits;
mod network;
mod offload;
mod probes;
mod releases;
mod web;

use std::time::Duration;

use anyhow::{Result, bail};
use cargo_rekernel::xen::ensure_lab;
use lab::{Dom0, Prepared, Release};

pub(crate) use guest::{Guest, Wish, address};

use crate::guests::Guests;
use crate::life;
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};
use crate::test::Extent;

/// What every test of the tier can use.
pub(crate) struct Context<'a> {
    pub(crate) dom0: Dom0,
    pub(crate) guests: &'a Guests,
    pub(crate) measurements: &'a Measurements,
    pub(crate) extent: Extent,
}

/// One test: its name in the table, and what it does.
pub(crate) type Test = (&'static str, fn(&Context) -> Result<()>);

/// Time for one step of xl: several times what it needs in software emulation.
pub(crate) const XL_LIMIT: Duration = Duration::from_secs(60);

/// Time for a guest to boot and serve.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Makes the lab, or finds it ready. Takes a minute or two the first time, so it is called
/// beside the host tier.
pub(crate) fn prepare(release: Option<&Release>) -> Result<Prepared> {
    ensure_lab(release.cloned())
}

/// Which of the tests on Xen to run.
pub(crate) struct Selection<'a> {
    /// The tiers asked for: [`Tier::Xen`], [`Tier::Life`] or both.
    pub(crate) tiers: &'a [Tier],
    /// What the names of the tests must contain.
    pub(crate) name: &'a str,
    pub(crate) extent: Extent,
    /// The release of Debian whose Xen was asked for.
    pub(crate) release: Option<&'a Release>,
}

/// Boots the lab and runs the selected tests.
pub(crate) fn run(
    lab: Result<Prepared>,
    guests: &Guests,
    selection: &Selection,
    summary: &mut Summary,
    measurements: &Measurements,
) {
    let &[first, ..] = selection.tiers else {
        return;
    };
    let mut booted = None;
    summary.check(first, "Xen and dom0 boot", || {
        let lab = lab?;
        booted = Some((releases::boot(&lab, measurements)?, lab));
        Ok(())
    });
    let Some((dom0, lab)) = booted else {
        summary.skip(first, "all guests", "there is no Xen to create them on");
        return;
    };
    let context = Context {
        dom0,
        guests,
        measurements,
        extent: selection.extent,
    };
    let subjects = [
        web::TESTS,
        network::TESTS,
        offload::TESTS,
        integrity::TESTS,
        probes::TESTS,
        limits::TESTS,
        bench::TESTS,
    ];
    for (tier, tests) in [(Tier::Xen, subjects.concat()), (Tier::Life, life::tests())] {
        for (test, body) in selection.of(tier, tests) {
            summary.check(tier, test, || body(&context));
        }
    }
    let Context { dom0, .. } = context;
    summary.check(first, "Xen and dom0 shut down in order", || {
        Ok(dom0.shut_down()?)
    });
    for (test, body) in selection.of(Tier::Xen, command::TESTS.to_vec()) {
        summary.check(Tier::Xen, test, || body(selection.release));
    }
    releases::look_at_another(&lab, guests, selection, summary, measurements);
}

impl Selection<'_> {
    /// Those of a tier's tests that were asked for.
    fn of<Body>(
        &self,
        tier: Tier,
        tests: Vec<(&'static str, Body)>,
    ) -> impl Iterator<Item = (&'static str, Body)> {
        let wanted = self.tiers.contains(&tier);
        tests
            .into_iter()
            .filter(move |(test, _)| wanted && test.contains(self.name))
    }
}

impl Context<'_> {
    /// Runs a script in dom0 that must succeed; returns what it printed.
    pub(crate) fn sh(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.dom0.run(script, limit)?;
        if !output.success() {
            let (printed, errors) = (output.stdout_text(), output.stderr_text());
            bail!(
                "`{script}` in dom0 ended with status {}: {} {}",
                output.status,
                printed.trim(),
                errors.trim()
            );
        }
        Ok(output.stdout_text())
    }
}
