//! Two tasks, a flag and a list of deadlines: all the executor that a probe needs.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use pvh_boot::interrupts;
use spin::Mutex;
use xen::{Machine, Timers, clock, console};

use crate::say;

static WOKEN: AtomicBool = AtomicBool::new(true);
static DEADLINES: Mutex<BTreeSet<Duration>> = Mutex::new(BTreeSet::new());

/// Polls both until the second is ready.
pub(crate) fn run<T>(
    machine: &Machine,
    background: impl Future<Output = ()>,
    main: impl Future<Output = T>,
) -> T {
    struct Flag;
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            WOKEN.store(true, Ordering::Relaxed);
        }
    }
    let waker = Waker::from(Arc::new(Flag));
    let mut context = Context::from_waker(&waker);
    let mut background = pin!(background);
    let mut main = pin!(main);
    loop {
        machine.dispatch_events();
        if WOKEN.swap(false, Ordering::Relaxed) {
            let _ = background.as_mut().poll(&mut context);
            if let Poll::Ready(result) = main.as_mut().poll(&mut context) {
                return result;
            }
        }
        let next = next_deadline();
        if next.is_some_and(|next| next <= clock::now()) {
            WOKEN.store(true, Ordering::Relaxed);
            continue;
        }
        clock::set_timer(next);
        if !machine.prepare_to_sleep() {
            interrupts::halt_unless(|| machine.events_noted() || WOKEN.load(Ordering::Relaxed));
        }
    }
}

/// The first deadline that has not passed; whoever waits for one that has is woken.
fn next_deadline() -> Option<Duration> {
    let now = clock::now();
    let mut deadlines = DEADLINES.lock();
    while let Some(&first) = deadlines.first() {
        if first > now {
            return Some(first);
        }
        deadlines.pop_first();
        WOKEN.store(true, Ordering::Relaxed);
    }
    // Something is due: do not halt.
    WOKEN.load(Ordering::Relaxed).then_some(now)
}

pub(crate) struct ProbeTimers;

impl Timers for ProbeTimers {
    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(poll_fn(move |_| {
            if clock::now() >= deadline {
                return Poll::Ready(());
            }
            DEADLINES.lock().insert(deadline);
            Poll::Pending
        }))
    }
}

/// Waits for `duration`.
pub(crate) async fn sleep(duration: Duration) {
    ProbeTimers.sleep_until(clock::now() + duration).await;
}

/// The result of whichever is ready first.
pub(crate) async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let mut one = pin!(one);
    let mut other = pin!(other);
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await
}

/// Says what is typed, line by line.
pub(crate) async fn echo() -> Result<(), String> {
    let mut line = String::new();
    loop {
        let mut bytes = [0; 64];
        let count = console::read(&mut bytes);
        for &byte in &bytes[..count] {
            match byte {
                b'\r' | b'\n' if line.is_empty() => {}
                b'\r' | b'\n' => say!("INPUT {:?}", core::mem::take(&mut line)),
                byte => line.push(byte.into()),
            }
        }
        if count == 0 {
            poll_fn(console::poll_input).await;
        }
    }
}
