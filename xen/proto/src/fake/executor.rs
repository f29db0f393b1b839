//! A single-threaded executor for tests: it runs until nothing can go on.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use core::time::Duration;

use super::FakeHypervisor;

/// More polls than any test needs before everything waits.
const MAX_POLLS: u32 = 1_000_000;

/// Runs tasks on the fake clock of a [`FakeHypervisor`]. Clones are the same executor.
#[derive(Clone)]
pub struct Executor {
    inner: Rc<Inner>,
}

struct Inner {
    hypervisor: FakeHypervisor,
    tasks: RefCell<Vec<Task>>,
}

struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    aborted: Rc<Cell<bool>>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Executor {
    /// An executor without tasks.
    pub fn new(hypervisor: &FakeHypervisor) -> Self {
        Self {
            inner: Rc::new(Inner {
                hypervisor: hypervisor.clone(),
                tasks: RefCell::new(Vec::new()),
            }),
        }
    }

    /// Adds a task. It first runs with the next `run_…` or `block_on`.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> TaskHandle<T> {
        let output = Rc::new(RefCell::new(None));
        let aborted = Rc::new(Cell::new(false));
        let place = output.clone();
        let task = Task {
            future: Some(Box::pin(async move {
                let value = future.await;
                *place.borrow_mut() = Some(value);
            })),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            aborted: aborted.clone(),
        };
        self.inner.tasks.borrow_mut().push(task);
        TaskHandle { output, aborted }
    }

    /// Runs all tasks until each waits for an event or for time.
    ///
    /// # Panics
    /// If that does not happen within a million polls.
    pub fn run_until_stalled(&self) {
        let mut polls = 0;
        while self.poll_woken_tasks(&mut polls) {
            assert!(polls < MAX_POLLS, "tasks wake each other for ever");
        }
    }

    /// Runs each task that can go on once. False if there was none.
    pub fn run_once(&self) -> bool {
        self.poll_woken_tasks(&mut 0)
    }

    /// Runs all tasks for `duration` of fake time, stopping at each timer on the way.
    pub fn run_for(&self, duration: Duration) {
        let hypervisor = &self.inner.hypervisor;
        let end = hypervisor.clock().now() + duration;
        loop {
            self.run_until_stalled();
            match hypervisor.clock().next_deadline() {
                Some(deadline) if deadline <= end => hypervisor.clock().advance_to(deadline),
                _ => break,
            }
        }
        hypervisor.clock().advance_to(end);
        self.run_until_stalled();
    }

    /// Runs all tasks until `future` is ready, moving time on to the next timer whenever
    /// everything waits.
    ///
    /// # Panics
    /// If everything waits and there is no timer: it would never be ready.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let handle = self.spawn(future);
        loop {
            self.run_until_stalled();
            if let Some(output) = handle.take() {
                return output;
            }
            let clock = self.inner.hypervisor.clock();
            let deadline = clock.next_deadline();
            let deadline = deadline.expect("everything waits, and for no timer");
            clock.advance_to(deadline);
        }
    }

    /// Polls each woken task once. False if there was none.
    fn poll_woken_tasks(&self, polls: &mut u32) -> bool {
        let mut any = false;
        let mut index = 0;
        loop {
            // Not borrowed while polling: tasks spawn tasks.
            let (mut future, woken, aborted) = {
                let mut tasks = self.inner.tasks.borrow_mut();
                let Some(task) = tasks.get_mut(index) else {
                    break;
                };
                index += 1;
                if task.aborted.get() {
                    let future = task.future.take();
                    drop(tasks);
                    // What it drops may wake others.
                    any |= future.is_some();
                    drop(future);
                    continue;
                }
                if task.future.is_none() || !task.woken.0.swap(false, Ordering::SeqCst) {
                    continue;
                }
                let Some(future) = task.future.take() else {
                    continue;
                };
                (future, task.woken.clone(), task.aborted.clone())
            };
            any = true;
            *polls += 1;
            let waker = Waker::from(woken);
            let ready = future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready();
            if !ready && !aborted.get() {
                self.inner.tasks.borrow_mut()[index - 1].future = Some(future);
            }
        }
        any
    }
}

/// A spawned task's output to come. Dropping it lets the task go on.
pub struct TaskHandle<T> {
    output: Rc<RefCell<Option<T>>>,
    aborted: Rc<Cell<bool>>,
}

impl<T> TaskHandle<T> {
    /// Whether the output is there.
    pub fn is_finished(&self) -> bool {
        self.output.borrow().is_some()
    }

    /// The output, once, if it is there.
    pub fn take(&self) -> Option<T> {
        self.output.borrow_mut().take()
    }

    /// Drops the task's future the next time the executor runs.
    pub fn abort(&self) {
        self.aborted.set(true);
    }
}
