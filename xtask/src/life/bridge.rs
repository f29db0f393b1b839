//! A bridge beside that of all other guests, for the time of a test.

use anyhow::Result;

use crate::xen::{Context, XL_LIMIT};

/// Makes a bridge on which dom0 has this address, and runs `body` while the command `meanwhile` runs in dom0.
/// Removes the bridge at the end.
pub(super) fn with_bridge(
    context: &Context,
    name: &str,
    address: &str,
    meanwhile: &str,
    body: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let make = format!(
        ". /lab/common && add_bridge {name} && ip address add {address}/24 dev {name} && ip link set {name} up || exit
         ({meanwhile} >/dev/null 2>&1 & echo $! >/tmp/{name}.process)"
    );
    let outcome = context.sh(&make, XL_LIMIT).and_then(|_| body());
    let tidied = context.sh(
        &format!("kill $(cat /tmp/{name}.process); ip link delete {name}"),
        XL_LIMIT,
    );
    outcome.and(tidied.map(drop))
}
