//! What an application wants done before the guest is suspended or ends, and after it was resumed.
//!
//! ```ignore
//! lifecycle::before_shutdown(async |why| database.flush(why).await);
//! lifecycle::after_resume(async |how| {
//!     if how == Resumed::Restored {
//!         sessions.borrow_mut().clear();
//!     }
//! });
//! ```
//!
//! Hooks are called in the order in which they were given, and run as tasks beside all others. The guest
//! waits until those before an event are done, for [`DEFAULT_DEADLINE`] or what [`set_deadline`] said;
//! then it goes on without them. On a machine whose host asks for nothing, they are never called.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;

use crate::context;
use crate::executor::{self, JoinHandle};
use crate::time::{Duration, Instant, timeout};

/// How long hooks may take.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// How the host wants the guest to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// For good.
    Poweroff,
    /// And be started again.
    Reboot,
    /// For good, without switching off the power: the same as a power-off for a virtual machine.
    Halt,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        })
    }
}

/// Where a suspended guest woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumed {
    /// Where it was: the suspension was cancelled, or was for a checkpoint. Nothing was torn down. Whoever
    /// has the checkpoint may still start a twin of this guest from it.
    Continued,
    /// Somewhere else, perhaps much later: restored from a file or migrated to another host. Network
    /// interfaces are connected anew, and perhaps there are others than before.
    Restored,
}

impl fmt::Display for Resumed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Continued => "continued",
            Self::Restored => "restored",
        })
    }
}

/// Has `hook` called each time before the guest is suspended.
///
/// xl waits a minute for a guest to suspend.
///
/// # Panics
/// Outside of a running runtime.
pub fn before_suspend<F, Fut>(mut hook: F) -> Hook
where
    F: FnMut() -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let hooks = &context::current().lifecycle.before_suspend;
    Hook::new(Kind::BeforeSuspend, hooks.add(move |()| hook()))
}

/// Has `hook` called each time the guest was resumed after a suspension, as soon as other tasks run again:
/// random numbers, clocks and timers are right by then, the network may take another moment.
///
/// # Panics
/// Outside of a running runtime.
pub fn after_resume<F, Fut>(hook: F) -> Hook
where
    F: FnMut(Resumed) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let hooks = &context::current().lifecycle.after_resume;
    Hook::new(Kind::AfterResume, hooks.add(hook))
}

/// Has `hook` called before the guest ends because its host asks for it: `xl shutdown`, `xl reboot`. Not
/// when main returns or the program ends the guest itself.
///
/// # Panics
/// Outside of a running runtime.
pub fn before_shutdown<F, Fut>(hook: F) -> Hook
where
    F: FnMut(Shutdown) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let hooks = &context::current().lifecycle.before_shutdown;
    Hook::new(Kind::BeforeShutdown, hooks.add(hook))
}

/// Sets how long the hooks before an event may take together.
///
/// # Panics
/// Outside of a running runtime.
pub fn set_deadline(deadline: Duration) {
    context::current().lifecycle.deadline.set(deadline);
}

/// A hook. Dropping this leaves it in place.
#[derive(Debug)]
pub struct Hook {
    kind: Kind,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    BeforeSuspend,
    AfterResume,
    BeforeShutdown,
}

impl Hook {
    fn new(kind: Kind, number: u64) -> Self {
        Self { kind, number }
    }

    /// Has it not called any more. What it is doing already goes on.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn remove(self) {
        let lifecycle = &context::current().lifecycle;
        match self.kind {
            Kind::BeforeSuspend => lifecycle.before_suspend.remove(self.number),
            Kind::AfterResume => lifecycle.after_resume.remove(self.number),
            Kind::BeforeShutdown => lifecycle.before_shutdown.remove(self.number),
        }
    }
}

/// Some hooks were not done by the deadline. They were stopped where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// How many.
    pub hooks: usize,
    /// How long they were waited for.
    pub deadline: Duration,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hooks, deadline } = self;
        let milliseconds = deadline.as_millis();
        write!(formatter, "hooks not done after {milliseconds} ms: {hooks}")
    }
}

impl core::error::Error for Unfinished {}

/// Runs the hooks for the time before a suspension. For the runtime.
///
/// # Errors
/// [`Unfinished`].
#[doc(hidden)]
pub async fn run_before_suspend() -> Result<(), Unfinished> {
    let runtime = context::current();
    let running = runtime.lifecycle.before_suspend.start(());
    finish(running, runtime.lifecycle.deadline.get()).await
}

/// Starts the hooks for the time after a suspension. For the runtime.
#[doc(hidden)]
pub fn run_after_resume(how: Resumed) {
    drop(context::current().lifecycle.after_resume.start(how));
}

/// Runs the hooks for the time before the end. For the runtime.
///
/// # Errors
/// [`Unfinished`].
#[doc(hidden)]
pub async fn run_before_shutdown(how: Shutdown) -> Result<(), Unfinished> {
    let runtime = context::current();
    let running = runtime.lifecycle.before_shutdown.start(how);
    finish(running, runtime.lifecycle.deadline.get()).await
}

/// Waits for all, and stops those that are not done in time.
async fn finish(running: Vec<JoinHandle<()>>, deadline: Duration) -> Result<(), Unfinished> {
    let until = Instant::now() + deadline;
    let mut hooks = 0;
    for mut hook in running {
        let left = until.duration_since(Instant::now());
        if timeout(left, &mut hook).await.is_err() {
            hook.abort();
            hooks += 1;
        }
    }
    match hooks {
        0 => Ok(()),
        hooks => Err(Unfinished { hooks, deadline }),
    }
}

/// The hooks of one runtime.
pub(crate) struct Lifecycle {
    before_suspend: Hooks<()>,
    after_resume: Hooks<Resumed>,
    before_shutdown: Hooks<Shutdown>,
    deadline: Cell<Duration>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            before_suspend: Hooks::new(),
            after_resume: Hooks::new(),
            before_shutdown: Hooks::new(),
            deadline: Cell::new(DEFAULT_DEADLINE),
        }
    }

    /// Drops all hooks.
    pub(crate) fn clear(&self) {
        self.before_suspend.clear();
        self.after_resume.clear();
        self.before_shutdown.clear();
    }
}

type BoxedHook<T> = Box<dyn FnMut(T) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Hooks of one kind, by number, in order.
struct Hooks<T> {
    entries: RefCell<Vec<(u64, BoxedHook<T>)>>,
    next_number: Cell<u64>,
    /// Removed while the hooks were being called.
    removed: RefCell<Vec<u64>>,
}

impl<T: Copy> Hooks<T> {
    fn new() -> Self {
        Self {
            entries: RefCell::new(Vec::new()),
            next_number: Cell::new(0),
            removed: RefCell::new(Vec::new()),
        }
    }

    fn add<F, Fut>(&self, mut hook: F) -> u64
    where
        F: FnMut(T) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let hook: BoxedHook<T> = Box::new(move |argument| Box::pin(hook(argument)));
        self.entries.borrow_mut().push((number, hook));
        number
    }

    fn remove(&self, number: u64) {
        let mut entries = self.entries.borrow_mut();
        let position = entries.iter().position(|(known, _)| *known == number);
        let removed = match position {
            Some(position) => Some(entries.remove(position)),
            None => {
                self.removed.borrow_mut().push(number);
                None
            }
        };
        // A hook's drop is foreign code, and may remove another.
        drop(entries);
        drop(removed);
    }

    /// Calls all hooks, and starts what each wants done as a task.
    fn start(&self, argument: T) -> Vec<JoinHandle<()>> {
        // Taken out meanwhile: a hook may add and remove hooks.
        let mut called = self.entries.take();
        self.removed.borrow_mut().clear();
        let running = called
            .iter_mut()
            .map(|(_, hook)| executor::spawn(hook(argument)))
            .collect();
        let removed = self.removed.take();
        let (gone, mut kept): (Vec<_>, Vec<_>) = called
            .into_iter()
            .partition(|(number, _)| removed.contains(number));
        let mut entries = self.entries.borrow_mut();
        kept.append(&mut entries);
        *entries = kept;
        drop(entries);
        drop(gone);
        running
    }

    fn clear(&self) {
        let entries = self.entries.take();
        drop(entries);
    }
}
