//! The Xen tier: a real Xen with a Debian dom0 is booted once, and `xl` creates guests on it.

mod bench;
mod command;
mod guest;
mod integrity;
mod life;
mod limits;
mod network;
mod offload;
mod web;

use std::time::Duration;

use anyhow::{Result, bail};
use cargo_rekernel::progress::status;
use cargo_rekernel::xen::ensure_lab;
use lab::{BootOptions, Dom0, Prepared};

pub(crate) use guest::{Guest, Wish};

use crate::guests::Guests;
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};
use crate::test::Extent;

/// What every test of the tier can use.
pub(crate) struct Context<'a> {
    dom0: Dom0,
    guests: &'a Guests,
    measurements: &'a Measurements,
    extent: Extent,
}

/// One test: its name in the table, and what it does.
type Test = (&'static str, fn(&Context) -> Result<()>);

/// Time for one step of xl: several times what it needs in software emulation.
const XL_LIMIT: Duration = Duration::from_secs(60);

/// Time for a guest to boot and serve.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Makes the lab, or finds it ready. Takes a minute or two the first time, so it is called
/// beside the host tier.
pub(crate) fn prepare() -> Result<Prepared> {
    ensure_lab()
}

/// Runs the tests whose name contains `name`.
pub(crate) fn run(
    lab: Result<Prepared>,
    guests: &Guests,
    name: &str,
    extent: Extent,
    summary: &mut Summary,
    measurements: &Measurements,
) {
    let mut dom0 = None;
    summary.check(Tier::Xen, "Xen and dom0 boot", || {
        dom0 = Some(lab?.boot(&BootOptions::default(), &|line| status("Lab", line))?);
        Ok(())
    });
    let Some(dom0) = dom0 else {
        summary.skip(Tier::Xen, "all guests", "there is no Xen to create them on");
        return;
    };
    let context = Context {
        dom0,
        guests,
        measurements,
        extent,
    };
    let subjects = [
        web::TESTS,
        network::TESTS,
        offload::TESTS,
        integrity::TESTS,
        life::TESTS,
        limits::TESTS,
        bench::TESTS,
    ];
    for (test, body) in subjects.concat() {
        if test.contains(name) {
            summary.check(Tier::Xen, test, || body(&context));
        }
    }
    let Context { dom0, .. } = context;
    summary.check(Tier::Xen, "Xen and dom0 shut down in order", || {
        Ok(dom0.shut_down()?)
    });
    for (test, body) in command::TESTS {
        if test.contains(name) {
            summary.check(Tier::Xen, test, body);
        }
    }
}

impl Context<'_> {
    /// Runs a script in dom0 that must succeed; returns what it printed.
    fn sh(&self, script: &str, limit: Duration) -> Result<String> {
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
