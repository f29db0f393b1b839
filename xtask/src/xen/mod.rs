//! The Xen tier: a real Xen with a Debian dom0 is booted, and `xl` creates guests on it. The life tier
//! runs on the same boot, and on a second beside it.

mod bench;
mod command;
mod disk;
mod guest;
mod integrity;
mod limits;
mod network;
mod offload;
mod probes;
mod releases;
mod web;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use cargo_rekernel::xen::ensure_lab;
use lab::{Dom0, Prepared, Release};

pub(crate) use guest::{Guest, Wish, address, attach_arguments, interface};

use crate::guests::Guests;
use crate::life;
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};
use crate::test::Extent;

/// What every test of the tier can use.
pub(crate) struct Context<'a> {
    pub(crate) dom0: Dom0,
    /// What dom0 was booted from.
    pub(crate) lab: Prepared,
    pub(crate) guests: &'a Guests,
    pub(crate) measurements: &'a Measurements,
    pub(crate) extent: Extent,
}

/// One test: its name in the table, and what it does.
pub(crate) type Test = (&'static str, fn(&Context) -> Result<()>);

/// Time for one step of xl: several times what it needs in software emulation, beside another lab.
pub(crate) const XL_LIMIT: Duration = Duration::from_secs(120);

/// Time for a guest to boot and serve.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Makes the lab, or finds it ready. Takes a minute or two the first time, so it is called
/// beside the host tier.
pub(crate) fn prepare(release: Option<&Release>) -> Result<Prepared> {
    ensure_lab(release.cloned())
}

/// The lab, or why no guest can be created on Xen.
pub(crate) fn ready(lab: Result<Prepared>, tier: Tier, summary: &mut Summary) -> Option<Prepared> {
    let mut ready = None;
    summary.check(tier, "the lab is put together", || {
        ready = Some(lab?);
        Ok(())
    });
    if ready.is_none() {
        summary.skip(tier, "all guests", "there is no Xen to create them on");
    }
    ready
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

/// The tests on Xen, and what they need. Two threads share them: a lab keeps one of two processors
/// busy, hardly more.
pub(crate) struct Plan<'a> {
    lab: Prepared,
    guests: &'a Guests,
    selection: Selection<'a>,
    measurements: &'a Measurements,
    /// Those of the life tier that nobody has begun.
    waiting: Mutex<VecDeque<Test>>,
}

/// With fewer tests waiting than these, a second lab is not worth its boot.
const WORTH_A_BOOT: usize = 3;

impl<'a> Plan<'a> {
    pub(crate) fn new(
        lab: Prepared,
        guests: &'a Guests,
        selection: Selection<'a>,
        measurements: &'a Measurements,
    ) -> Self {
        let waiting = selection.of(Tier::Life, life::tests()).collect();
        Self {
            lab,
            guests,
            selection,
            measurements,
            waiting: Mutex::new(waiting),
        }
    }

    /// Boots the lab and runs the Xen tier on it, then tests of the life tier until none waits.
    pub(crate) fn run(&self, summary: &mut Summary) {
        let subjects = [
            web::TESTS,
            network::TESTS,
            offload::TESTS,
            integrity::TESTS,
            probes::TESTS,
            limits::TESTS,
            disk::TESTS,
            bench::TESTS,
        ];
        let tests: Vec<_> = self.selection.of(Tier::Xen, subjects.concat()).collect();
        if tests.is_empty() && self.waiting().is_empty() {
            return;
        }
        let tier = match tests.is_empty() {
            true => Tier::Life,
            false => Tier::Xen,
        };
        self.on_a_lab(summary, tier, |context, summary| {
            for test in tests {
                context.check(summary, Tier::Xen, test);
            }
            self.take_waiting(context, summary);
        });
    }

    /// Runs the tests that boot a Xen of their own, then helps [`run`](Self::run) with what waits.
    pub(crate) fn run_beside(&self, summary: &mut Summary) {
        let selection = &self.selection;
        for (test, body) in selection.of(Tier::Xen, command::TESTS.to_vec()) {
            summary.check(Tier::Xen, test, || body(selection.release));
        }
        releases::look_at_another(self, summary);
        if self.waiting().len() >= WORTH_A_BOOT {
            self.on_a_lab(summary, Tier::Life, |context, summary| {
                self.take_waiting(context, summary);
            });
        }
    }

    /// Says so where tests of the life tier were left: no lab booted.
    pub(crate) fn finish(self, summary: &mut Summary) {
        for (test, _) in self.waiting().drain(..) {
            summary.skip(Tier::Life, test, "there is no Xen to create guests on");
        }
    }

    fn on_a_lab(
        &self,
        summary: &mut Summary,
        tier: Tier,
        tests: impl FnOnce(&Context, &mut Summary),
    ) {
        let mut booted = None;
        summary.check(tier, "Xen and dom0 boot", || {
            booted = Some(self.context(&self.lab, releases::boot(&self.lab, self.measurements)?));
            Ok(())
        });
        let Some(context) = booted else {
            return summary.skip(tier, "all guests", "there is no Xen to create them on");
        };
        tests(&context, summary);
        summary.check(tier, "Xen and dom0 shut down in order", || {
            Ok(context.dom0.shut_down()?)
        });
    }

    fn context(&self, lab: &Prepared, dom0: Dom0) -> Context<'a> {
        Context {
            dom0,
            lab: lab.clone(),
            guests: self.guests,
            measurements: self.measurements,
            extent: self.selection.extent,
        }
    }

    fn take_waiting(&self, context: &Context, summary: &mut Summary) {
        loop {
            let next = self.waiting().pop_front();
            let Some(test) = next else {
                return;
            };
            context.check(summary, Tier::Life, test);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Test>> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Runs a test, then removes the files that it left in dom0: those lie in memory, which the tests of two
    /// tiers together fill.
    fn check(&self, summary: &mut Summary, tier: Tier, (test, body): Test) {
        summary.check(tier, test, || {
            let outcome = body(self);
            // A test that failed says more than a dom0 that cannot clean up after it.
            let cleaned = self.sh("rm -rf /guests /var/lib/xen/images", XL_LIMIT);
            outcome.and(cleaned.map(drop))
        });
    }

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
