//! What a running runtime consists of, found from anywhere by the task that runs on it.

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

use crate::cpu_local;
use crate::executor::{Tasks, Timers};
use crate::lifecycle::Lifecycle;
use crate::net::Stack;
use crate::platform::Platform;
use crate::random::Generator;
use crate::time::Instant;

/// The state behind the free functions of this crate (`spawn`, `sleep`, `fill`, ...).
pub(crate) struct Context {
    pub(crate) platform: &'static dyn Platform,
    pub(crate) tasks: Tasks,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) random: RefCell<Generator>,
    pub(crate) stack: Stack,
    pub(crate) lifecycle: Lifecycle,
    /// What the clock said when it was last read.
    recent: Cell<Instant>,
    pub(crate) rounds: Cell<u64>,
}

impl Context {
    pub(crate) fn new(platform: &'static dyn Platform) -> Self {
        Self {
            platform,
            tasks: Tasks::new(),
            timers: RefCell::new(Timers::new()),
            random: RefCell::new(Generator::new()),
            stack: Stack::new(),
            lifecycle: Lifecycle::new(),
            recent: Cell::new(Instant::since_boot(platform.now())),
            rounds: Cell::new(0),
        }
    }

    /// Reads the clock.
    pub(crate) fn now(&self) -> Instant {
        let now = Instant::since_boot(self.platform.now());
        self.recent.set(now);
        now
    }

    /// What the clock said when it was last read.
    pub(crate) fn recent(&self) -> Instant {
        self.recent.get()
    }
}

/// The running runtime.
///
/// # Panics
/// When there is none: the caller is outside of [`run`](crate::executor::run).
#[track_caller]
pub(crate) fn current() -> Rc<Context> {
    match cpu_local::current() {
        Some(context) => context,
        None => panic!("this needs a running runtime: call it from within executor::run"),
    }
}
