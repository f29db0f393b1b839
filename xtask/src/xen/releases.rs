//! Which Xen the tests ran on, and a look at another one than the usual.

use std::time::Duration;

use anyhow::{Result, ensure};
use cargo_rekernel::progress::status;
use cargo_rekernel::xen::ensure_lab;
use lab::{BootOptions, Dom0, Prepared};

use super::guest::address;
use super::{Context, Guest, Plan, Wish, XL_LIMIT};
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};

/// Boots a prepared lab and notes what it consists of.
pub(super) fn boot(lab: &Prepared, measurements: &Measurements) -> Result<Dom0> {
    let dom0 = lab.boot(&BootOptions::default(), &|line| status("Lab", line))?;
    // The packages' names end after the second number.
    let xen = dom0.run("xl info xen_version", XL_LIMIT)?.stdout_text();
    let versions = format!(
        "Xen {}, Linux {}, QEMU {}",
        xen.trim(),
        lab.kernel_version(),
        lab.qemu_version()
    );
    measurements.note("host of the guests on Xen", versions);
    Ok(dom0)
}

/// The release whose Xen each usual run has a look at, besides the machine's own.
const OTHER: &str = "trixie";

const LOOK: &str = "Debian trixie's Xen and dom0: a guest answers and obeys";

/// Boots a guest on the Xen of another release, unless a release was asked for: then all tests
/// have run on that one.
pub(super) fn look_at_another(plan: &Plan, summary: &mut Summary) {
    let selection = &plan.selection;
    let wanted = selection.tiers.contains(&Tier::Xen) && LOOK.contains(selection.name);
    if selection.release.is_some() || !wanted {
        return;
    }
    let other = OTHER.parse().map_err(Into::into);
    let lab = other.and_then(|release| ensure_lab(Some(release)));
    if lab
        .as_ref()
        .is_ok_and(|lab| lab.xen_version() == plan.lab.xen_version())
    {
        let why = "the machine's own Xen, on which the others ran, is of this version";
        return summary.skip(Tier::Xen, LOOK, why);
    }
    summary.check(Tier::Xen, LOOK, || {
        let lab = lab?;
        let context = plan.context(&lab, boot(&lab, plan.measurements)?);
        look(&context)?;
        Ok(context.dom0.shut_down()?)
    });
}

fn look(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-elsewhere", 40))?;
    let page = context.sh(
        &format!("curl -sS --max-time 20 http://{}/", address(40)),
        XL_LIMIT,
    );
    let page = guest.explain(page)?;
    ensure!(page.contains(&address(40)), "the page is {page}");
    guest.explain(context.sh(&format!("xl shutdown -w {}", guest.name), XL_LIMIT))?;
    guest.wait_for("rekernel: poweroff", Duration::from_secs(5))?;
    guest.wait_until("the end after xl shutdown", XL_LIMIT, |listing| {
        listing.is_none()
    })
}
