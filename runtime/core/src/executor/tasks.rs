//! The tasks of an executor, which of them are ready, and the handles to them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};

use spin::mutex::SpinMutex;

use crate::cpu_local;
use crate::memory::{self, Counted, OutOfMemory, Room};

/// All tasks of one executor.
pub(crate) struct Tasks {
    slots: RefCell<Slots>,
    ready: Arc<ReadyQueue>,
    polls: Cell<u64>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            slots: RefCell::new(Slots::default()),
            ready: Arc::new(ReadyQueue::default()),
            polls: Cell::new(0),
        }
    }

    pub(crate) fn try_spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>, OutOfMemory>
    where
        F: Future + 'static,
    {
        let outcome = memory::shared(RefCell::new(Outcome::new()))?;
        let reported = outcome.clone();
        let task = memory::boxed(async move {
            let output = future.await;
            Outcome::complete(&reported, Ok(output));
        })?;
        let mut slots = self.slots.borrow_mut();
        slots.reserve()?;
        self.ready.reserve()?;
        Room::<Counted<TaskWake>>::counted()?.release();
        let id = slots.insert(Box::into_pin(task), &self.ready);
        Ok(JoinHandle { outcome, id })
    }

    /// Polls every task that is ready now once, in the order they became ready. `poll_main`
    /// stands for the main task and says whether it is done, which ends the round. Returns
    /// whether any task was ready.
    pub(crate) fn poll_ready(&self, mut poll_main: impl FnMut() -> bool) -> bool {
        // Who is woken meanwhile stands behind them.
        let count = self.ready.len();
        for _ in 0..count {
            let Some(wake) = self.ready.pop() else {
                break;
            };
            // From here on a wake makes the task ready again.
            wake.queued.store(false, Ordering::Release);
            self.polls.set(self.polls.get() + 1);
            match wake.id {
                TaskId::MAIN => {
                    if poll_main() {
                        break;
                    }
                }
                id => self.poll_task(id),
            }
        }
        count > 0
    }

    pub(crate) fn any_ready(&self) -> bool {
        self.ready.len() > 0
    }

    /// Tasks there are.
    pub(crate) fn count(&self) -> usize {
        let slots = self.slots.borrow();
        slots.slots.len() - slots.free.len()
    }

    /// Tasks that wait for their turn in the next round.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Polls so far.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// The waker of the future that [`run`](super::run) was given.
    pub(crate) fn main_waker(&self) -> Waker {
        // Fails with what comes next, at the latest: nothing can begin without memory.
        let _ = self.ready.reserve();
        Waker::from(Arc::new(TaskWake::new(TaskId::MAIN, &self.ready)))
    }

    /// Drops all tasks, also those that are spawned by the destructors of others.
    pub(crate) fn clear(&self) {
        const BEHIND_ALL: usize = usize::MAX;
        let mut end = BEHIND_ALL;
        loop {
            // Destructors run when nothing is borrowed.
            let taken = self.slots.borrow_mut().take_last_before(end);
            end = match taken {
                Some((index, _task)) => index,
                None if end == BEHIND_ALL => return,
                // What they spawned may stand anywhere.
                None => BEHIND_ALL,
            };
        }
    }

    fn poll_task(&self, id: TaskId) {
        // The task is taken out while it runs: it may spawn and abort, also itself.
        let Some((mut future, waker)) = self.slots.borrow_mut().start_poll(id) else {
            return;
        };
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let finished = match poll {
            Poll::Ready(()) => {
                self.slots.borrow_mut().remove(id);
                Some(future)
            }
            Poll::Pending => self.slots.borrow_mut().end_poll(id, future),
        };
        // Destructors run here, when nothing is borrowed.
        drop(finished);
    }

    fn abort(&self, id: TaskId) {
        let aborted = self.slots.borrow_mut().remove(id);
        drop(aborted);
    }
}

/// A task's future, which reports its output to its [`Outcome`].
type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    /// Counts the tasks that lived here, so that a late wake meant for an earlier one is
    /// recognised.
    generation: u64,
    task: Option<Task>,
}

struct Task {
    /// `None` while it is being polled.
    future: Option<TaskFuture>,
    waker: Waker,
}

impl Slots {
    /// Finds memory for one more task, also for the day when it leaves.
    fn reserve(&mut self) -> Result<(), OutOfMemory> {
        if !self.free.is_empty() {
            return Ok(());
        }
        self.slots.try_reserve(1)?;
        // Each of the slots may be free at a time.
        let count = self.slots.len() + 1;
        Ok(self.free.try_reserve(count)?)
    }

    /// For a task that memory was [reserved](Self::reserve) for, and for its [`TaskWake`].
    fn insert(&mut self, future: TaskFuture, ready: &Arc<ReadyQueue>) -> TaskId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let id = TaskId {
            index,
            generation: slot.generation,
        };
        let waker = Waker::from(Arc::new(TaskWake::new(id, ready)));
        waker.wake_by_ref();
        slot.task = Some(Task {
            future: Some(future),
            waker,
        });
        id
    }

    fn start_poll(&mut self, id: TaskId) -> Option<(TaskFuture, Waker)> {
        let task = self.task(id)?;
        Some((task.future.take()?, task.waker.clone()))
    }

    /// Puts a future back, or returns it when its task was aborted meanwhile.
    fn end_poll(&mut self, id: TaskId, future: TaskFuture) -> Option<TaskFuture> {
        match self.task(id) {
            Some(task) => {
                task.future = Some(future);
                None
            }
            None => Some(future),
        }
    }

    fn remove(&mut self, id: TaskId) -> Option<Task> {
        self.task(id)?;
        let slot = &mut self.slots[id.index];
        slot.generation += 1;
        self.free.push(id.index);
        slot.task.take()
    }

    /// Takes out the last of the tasks that stand before `end`; says where it stood.
    fn take_last_before(&mut self, end: usize) -> Option<(usize, Task)> {
        let slots = &self.slots[..end.min(self.slots.len())];
        let index = slots.iter().rposition(|slot| slot.task.is_some())?;
        let generation = self.slots[index].generation;
        let task = self.remove(TaskId { index, generation })?;
        Some((index, task))
    }

    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        let slot = self.slots.get_mut(id.index)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.task.as_mut()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TaskId {
    index: usize,
    generation: u64,
}

impl TaskId {
    /// The future given to [`run`](super::run): not in a slot, because it need not be `'static`.
    const MAIN: Self = Self {
        index: usize::MAX,
        generation: 0,
    };
}

/// The tasks that were woken and not polled since.
///
/// A waker must be `Send + Sync`, hence the lock; a guest has one thread and its interrupt
/// handlers wake nobody, so it is never contended.
#[derive(Default)]
struct ReadyQueue {
    tasks: SpinMutex<VecDeque<Arc<TaskWake>>>,
    /// The [`TaskWake`]s there are. Each stands in the queue once at most, and there is room for all:
    /// to wake somebody needs no memory.
    wakes: AtomicUsize,
}

impl ReadyQueue {
    /// Finds room for one more [`TaskWake`].
    fn reserve(&self) -> Result<(), OutOfMemory> {
        let mut tasks = self.tasks.lock();
        let more = self.wakes.load(Ordering::Relaxed) + 1 - tasks.len();
        Ok(tasks.try_reserve(more)?)
    }

    fn push(&self, task: Arc<TaskWake>) {
        self.tasks.lock().push_back(task);
    }

    fn pop(&self) -> Option<Arc<TaskWake>> {
        self.tasks.lock().pop_front()
    }

    fn len(&self) -> usize {
        self.tasks.lock().len()
    }
}

/// What the waker of one task holds.
struct TaskWake {
    id: TaskId,
    /// Whether the task already stands in the queue: it stands there once at most.
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl TaskWake {
    fn new(id: TaskId, ready: &Arc<ReadyQueue>) -> Self {
        ready.wakes.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            queued: AtomicBool::new(false),
            ready: ready.clone(),
        }
    }
}

impl Drop for TaskWake {
    fn drop(&mut self) {
        self.ready.wakes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.clone());
        }
    }
}

/// The end of a spawned task: a future of its output.
pub struct JoinHandle<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
    id: TaskId,
}

impl<T> JoinHandle<T> {
    /// Drops the task where it waits. One that is done already keeps its output.
    pub fn abort(&self) {
        if let Some(runtime) = cpu_local::current() {
            runtime.tasks.abort(self.id);
        }
        Outcome::complete(&self.outcome, Err(Aborted));
    }

    /// Whether the task is done or was aborted.
    pub fn is_finished(&self) -> bool {
        self.outcome.borrow().finished
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Aborted>;

    /// Pending for ever once it has been ready: await a handle once.
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut outcome = self.outcome.borrow_mut();
        match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waiting = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// What a task leaves for its handle.
struct Outcome<T> {
    finished: bool,
    result: Option<Result<T, Aborted>>,
    waiting: Option<Waker>,
}

impl<T> Outcome<T> {
    fn new() -> Self {
        Self {
            finished: false,
            result: None,
            waiting: None,
        }
    }

    /// Keeps the first result and wakes who awaits it.
    fn complete(outcome: &RefCell<Self>, result: Result<T, Aborted>) {
        let waiting = {
            let mut outcome = outcome.borrow_mut();
            if outcome.finished {
                return;
            }
            outcome.finished = true;
            outcome.result = Some(result);
            outcome.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// The task was aborted before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the task was aborted")
    }
}

impl core::error::Error for Aborted {}
