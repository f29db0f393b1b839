//! Memory for a driver's dealings with xenstore.
//!
//! They make paths, requests, replies and log lines: small blocks, in many places, for which stable Rust has no
//! way to fail. So the question whether there is memory is asked before each turn of such a task, for all of it.

use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

use crate::hypervisor::Hypervisor;

/// More than a turn takes, in bytes.
const TURN: usize = 32 * 1024;

/// How long a task without memory waits for its turn.
const PAUSE: Duration = Duration::from_millis(100);

/// Awaits `work`, but polls it only while there is memory for a whole turn: finds a block, gives it back,
/// and nobody else can take it before the turn is over, as tasks do not interrupt each other. Without
/// memory the turn comes later.
pub async fn with_memory<H: Hypervisor, F: Future>(hypervisor: &H, work: F) -> F::Output {
    let mut work = pin!(work);
    let mut pause: Option<H::Sleep> = None;
    poll_fn(|context| {
        loop {
            if let Some(sleep) = &mut pause {
                if Pin::new(sleep).poll(context).is_pending() {
                    return Poll::Pending;
                }
                pause = None;
            }
            if has_memory() {
                return work.as_mut().poll(context);
            }
            pause = Some(hypervisor.sleep_until(hypervisor.now() + PAUSE));
        }
    })
    .await
}

fn has_memory() -> bool {
    Vec::<u8>::new().try_reserve_exact(TURN).is_ok()
}
