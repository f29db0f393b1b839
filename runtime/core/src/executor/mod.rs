//! A single-threaded executor: tasks are spawned at any time, need not be `Send`, and are
//! polled only when something woke them.
//!
//! Fairness: each round polls every task that was ready when the round began once, then lets
//! the platform dispatch its events. A task that keeps waking itself costs the others one poll
//! per round and never keeps a device waiting.
//!
//! The clock is read after each sleep of the processor, and every `ROUNDS_PER_READING` rounds while
//! there is none: what happens in between goes by [`Instant::recent`](crate::time::Instant::recent).
//!
//! The executor itself never panics on anything a task does; a panic inside a task is the
//! guest's panic (there is nothing to unwind with).

mod tasks;
mod timers;

pub(crate) use tasks::Tasks;
pub use tasks::{Aborted, JoinHandle};
pub(crate) use timers::{Deadline, TimerId, Timers};

use alloc::rc::Rc;
use core::future::Future;
use core::pin::pin;
use core::task::{Context as TaskContext, Poll};

use crate::context::{self, Context};
use crate::cpu_local;
use crate::memory::OutOfMemory;
use crate::platform::Platform;

/// Runs `main` and everything it spawns until `main` is done; then drops the tasks that are
/// left and returns its output.
///
/// While nothing is ready the platform idles until the next timer.
pub fn run<F: Future>(platform: &'static dyn Platform, main: F) -> F::Output {
    let context = Rc::new(Context::new(platform));
    let _running = Running::start(&context);
    drive(&context, main)
}

/// Starts `future` as a task of its own. Dropping the handle leaves the task running.
///
/// # Panics
/// Outside of a running runtime, and when there is no memory for the task: see [`try_spawn`].
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    match try_spawn(future) {
        Ok(handle) => handle,
        Err(OutOfMemory) => panic!("no memory is left for a task: try_spawn reports this instead"),
    }
}

/// As [`spawn`], for work that a program can refuse: a connection's, a request's.
///
/// # Errors
/// [`OutOfMemory`]: the future was dropped.
///
/// # Panics
/// Outside of a running runtime.
pub fn try_spawn<F>(future: F) -> Result<JoinHandle<F::Output>, OutOfMemory>
where
    F: Future + 'static,
{
    context::current().tasks.try_spawn(future)
}

/// Lets every other ready task run, and the platform dispatch its events, before going on.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|task| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What the executor did since it started, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns of the run loop with at least one task to poll.
    pub rounds: u64,
    /// Polls of tasks, main among them.
    pub polls: u64,
}

/// What the executor did so far.
///
/// # Panics
/// Outside of a running runtime.
pub fn counters() -> Counters {
    let context = context::current();
    Counters {
        rounds: context.rounds.get(),
        polls: context.tasks.polls(),
    }
}

/// Who waits and who does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Tasks there are, main not counted.
    pub tasks: usize,
    /// Tasks that wait for their turn, main among them.
    pub ready: usize,
    /// Timers that run.
    pub timers: usize,
}

/// Who waits and who does not, now.
///
/// # Panics
/// Outside of a running runtime.
pub fn task_counts() -> TaskCounts {
    let context = context::current();
    TaskCounts {
        tasks: context.tasks.count(),
        ready: context.tasks.ready_count(),
        timers: context.timers.borrow().count(),
    }
}

/// How many rounds go by one reading of the clock: a timer is late by as many at most.
const ROUNDS_PER_READING: u32 = 4;

fn drive<F: Future>(context: &Context, main: F) -> F::Output {
    let mut main = pin!(main);
    let main_waker = context.tasks.main_waker();
    main_waker.wake_by_ref();
    let mut rounds_by_this_reading = 0;
    loop {
        if rounds_by_this_reading == 0 {
            read_clock(context);
        }
        let mut output = None;
        let any = context.tasks.poll_ready(|| {
            if let Poll::Ready(ready) = main
                .as_mut()
                .poll(&mut TaskContext::from_waker(&main_waker))
            {
                output = Some(ready);
            }
            output.is_some()
        });
        if let Some(output) = output {
            return output;
        }
        if any {
            context.rounds.set(context.rounds.get() + 1);
            rounds_by_this_reading = (rounds_by_this_reading + 1) % ROUNDS_PER_READING;
        }
        context.platform.dispatch_events();
        if !context.tasks.any_ready() {
            if context.timers.borrow().any_starting() {
                read_clock(context);
                if context.tasks.any_ready() {
                    continue;
                }
            }
            let deadline = context.timers.borrow().next_deadline();
            context
                .platform
                .idle(deadline.map(|deadline| deadline.duration_since_boot()));
            context.platform.dispatch_events();
            rounds_by_this_reading = 0;
        }
    }
}

/// Reads the clock, and wakes whom it is time for.
fn read_clock(context: &Context) {
    let now = context.now();
    context.timers.borrow_mut().read(now);
    loop {
        let due = context.timers.borrow_mut().next_due(now);
        match due {
            Some(waker) => waker.wake(),
            None => return,
        }
    }
}

/// The runtime is the current one of this CPU for as long as this exists.
struct Running {
    context: Rc<Context>,
    previous: Option<Rc<Context>>,
}

impl Running {
    fn start(context: &Rc<Context>) -> Self {
        Self {
            context: context.clone(),
            previous: cpu_local::replace(Some(context.clone())),
        }
    }
}

impl Drop for Running {
    /// Ends what is left while it can still reach its runtime.
    fn drop(&mut self) {
        self.context.tasks.clear();
        self.context.stack.clear();
        self.context.lifecycle.clear();
        cpu_local::replace(self.previous.take());
    }
}
