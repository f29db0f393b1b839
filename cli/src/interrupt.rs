//! Ctrl-C: asked for once, seen everywhere.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and the polite ways to end a process: SIGTERM, SIGHUP) is noted
/// instead of ending the process, so that no virtual machine is left behind.
///
/// # Errors
/// Where the process already handles these signals.
pub fn watch() -> Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::SeqCst))
        .context("Ctrl-C cannot be handled")
}

/// Whether the user wants the run to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The build's own error, unless the user interrupted it.
pub(crate) fn or_interrupted(error: anyhow::Error) -> anyhow::Error {
    if requested() {
        anyhow!("interrupted")
    } else {
        error
    }
}
