//! The executor, its timers and its clocks, in virtual time.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use rekernel_core::executor::{Aborted, counters, run, spawn, yield_now};
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::random;
use rekernel_core::time::{Duration, Elapsed, Instant, sleep, sleep_until, timeout, wall_clock};

/// A machine whose clock jumps to the next timer when it idles, and whose device becomes ready
/// when asked for events.
#[derive(Default)]
struct Machine {
    now: Cell<Duration>,
    idled: Cell<usize>,
    device: RefCell<Option<Waker>>,
    entropy: Cell<Option<u8>>,
}

impl Platform for Machine {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wall_clock(&self) -> Option<Duration> {
        Some(Duration::from_secs(1_000_000) + self.now.get())
    }

    fn dispatch_events(&self) -> bool {
        match self.device.take() {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }

    fn idle(&self, deadline: Option<Duration>) {
        self.idled.set(self.idled.get() + 1);
        let deadline = deadline.expect("nothing would ever wake the machine");
        self.now.set(self.now.get().max(deadline));
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        let value = self.entropy.get().ok_or(NoEntropy)?;
        self.entropy.set(Some(value + 1));
        *seed = [value; 32];
        Ok(())
    }
}

fn machine() -> &'static Machine {
    Box::leak(Box::default())
}

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn output_of_main_and_of_tasks() {
    let sum = run(machine(), async {
        let tasks: Vec<_> = (0..10).map(|number| spawn(async move { number })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 45);
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let order = Rc::new(RefCell::new(Vec::new()));
    run(machine(), async {
        for delay in [30, 10, 20, 10, 0] {
            let order = order.clone();
            drop(spawn(async move {
                sleep(milliseconds(delay)).await;
                order.borrow_mut().push((delay, Instant::now()));
            }));
        }
        sleep(milliseconds(100)).await;
    });
    let boot = Instant::since_boot(Duration::ZERO);
    let expected = [0, 10, 10, 20, 30].map(|delay| (delay, boot + milliseconds(delay)));
    assert_eq!(*order.borrow(), expected);
}

#[test]
fn timeouts() {
    run(machine(), async {
        assert_eq!(
            timeout(milliseconds(10), pending::<()>()).await,
            Err(Elapsed)
        );
        assert_eq!(timeout(milliseconds(10), async { 7 }).await, Ok(7));
        // What is ready at the last moment still counts.
        let late = timeout(milliseconds(10), sleep(milliseconds(10))).await;
        assert_eq!(late, Ok(()));
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(20));
        let forever = timeout(Duration::MAX, sleep(milliseconds(5))).await;
        assert_eq!(forever, Ok(()));
    });
}

#[test]
fn cancelled_timers_wake_nobody() {
    let machine = machine();
    run(machine, async {
        for _ in 0..1000 {
            let _ = timeout(Duration::from_secs(1), yield_now()).await;
        }
        sleep(milliseconds(1)).await;
    });
    // It idled for the one sleep that was awaited.
    assert_eq!(machine.idled.get(), 1);
}

#[test]
fn a_sleep_after_long_work_is_not_too_short() {
    let machine = machine();
    run(machine, async {
        // Work during which nobody reads the clock.
        machine.now.set(milliseconds(100));
        let begin = machine.now.get();
        sleep(milliseconds(50)).await;
        assert_eq!(machine.now.get() - begin, milliseconds(50));
        machine.now.set(milliseconds(300));
        assert_eq!(Instant::recent().duration_since_boot(), milliseconds(150));
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(300));
        assert_eq!(Instant::recent().duration_since_boot(), milliseconds(300));
    });
}

#[test]
fn a_sleep_counts_from_where_it_was_made() {
    run(machine(), async {
        let early = sleep(milliseconds(30));
        sleep(milliseconds(10)).await;
        early.await;
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(30));
        let mut moved = sleep(milliseconds(10));
        moved.reset(Instant::now() + milliseconds(5));
        (&mut moved).await;
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(35));
        moved.reset(Instant::now() + milliseconds(7));
        moved.await;
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(42));
    });
}

#[test]
fn what_the_executor_does_is_counted() {
    run(machine(), async {
        let before = counters();
        yield_now().await;
        drop(spawn(async {}));
        yield_now().await;
        let after = counters();
        assert_eq!(after.rounds - before.rounds, 2);
        // Main twice, the task once.
        assert_eq!(after.polls - before.polls, 3);
    });
}

#[test]
fn a_sleep_moves_to_another_task() {
    run(machine(), async {
        let mut moving = Box::pin(sleep(milliseconds(50)));
        let polled_here = poll_fn(|task| Poll::Ready(moving.as_mut().poll(task)));
        assert_eq!(polled_here.await, Poll::Pending);
        let there = spawn(moving);
        there.await.unwrap();
        assert_eq!(Instant::now().duration_since_boot(), milliseconds(50));
        sleep_until(Instant::since_boot(Duration::ZERO)).await;
    });
}

#[test]
fn only_what_was_woken_is_polled() {
    run(machine(), async {
        let polls = Rc::new(Cell::new(0));
        let waker = Rc::new(RefCell::new(None));
        let task = spawn({
            let (polls, waker) = (polls.clone(), waker.clone());
            poll_fn(move |task| {
                polls.set(polls.get() + 1);
                *waker.borrow_mut() = Some(task.waker().clone());
                match polls.get() {
                    1..3 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            })
        });
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(polls.get(), 1);
        // Several wakes before the poll are one.
        let first: Waker = waker.borrow().clone().unwrap();
        first.wake_by_ref();
        first.wake_by_ref();
        yield_now().await;
        yield_now().await;
        assert_eq!(polls.get(), 2);
        first.wake_by_ref();
        task.await.unwrap();
        // A wake after the end is for nobody, even once another task has the place.
        let other = spawn(async { yield_now().await });
        first.wake();
        other.await.unwrap();
        assert_eq!(polls.get(), 3);
    });
}

#[test]
fn a_task_that_never_rests_starves_nobody() {
    let machine = machine();
    run(machine, async {
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        let mut events = 0;
        poll_fn(|task| {
            events += 1;
            if events > 100 {
                return Poll::Ready(());
            }
            // The device wakes this task when its events are dispatched.
            *machine.device.borrow_mut() = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    });
    assert_eq!(machine.idled.get(), 0);
}

#[test]
fn aborting() {
    struct Dropped(Rc<Cell<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Rc::new(Cell::new(0));
    run(machine(), async {
        let held = Dropped(dropped.clone());
        let task = spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(dropped.get(), 1);
        assert!(task.is_finished());
        assert_eq!(task.await, Err(Aborted));

        // Before its first poll.
        let held = Dropped(dropped.clone());
        let task = spawn(async move { drop(held) });
        task.abort();
        assert_eq!(dropped.get(), 2);
        assert_eq!(task.await, Err(Aborted));

        // After its end, the output stays.
        let task = spawn(async { 5 });
        yield_now().await;
        task.abort();
        assert_eq!(task.await, Ok(5));

        // By itself.
        let own = Rc::new(RefCell::new(
            None::<rekernel_core::executor::JoinHandle<()>>,
        ));
        let held = Dropped(dropped.clone());
        let task = spawn({
            let own = own.clone();
            async move {
                let _held = held;
                own.borrow().as_ref().unwrap().abort();
                pending::<()>().await;
            }
        });
        *own.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn tasks_left_over_are_dropped_while_the_runtime_still_stands() {
    struct SpawnsWhenDropped;
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            drop(spawn(async {}));
            let _ = Instant::now();
        }
    }
    run(machine(), async {
        let held = SpawnsWhenDropped;
        drop(spawn(async move {
            let _held = held;
            sleep(Duration::from_secs(1000)).await;
        }));
        yield_now().await;
    });
}

#[test]
fn the_places_of_tasks_are_reused() {
    run(machine(), async {
        for _ in 0..10_000 {
            spawn(async {}).await.unwrap();
        }
    });
}

#[test]
fn clocks() {
    run(machine(), async {
        let begin = Instant::now();
        sleep(milliseconds(1500)).await;
        assert_eq!(begin.elapsed(), milliseconds(1500));
        assert_eq!(
            wall_clock(),
            Some(Duration::from_secs(1_000_000) + milliseconds(1500))
        );
        assert_eq!(begin - Instant::now(), Duration::ZERO);
        assert_eq!(begin - Duration::from_secs(5), begin);
        assert!(begin + Duration::MAX > Instant::now());
    });
}

#[test]
fn randomness_fails_closed() {
    let machine = machine();
    run(machine, async {
        let mut key = [7; 16];
        assert_eq!(random::fill(&mut key), Err(NoEntropy));
        assert_eq!(key, [7; 16]);
        machine.entropy.set(Some(1));
        random::fill(&mut key).unwrap();
        assert_ne!(key, [7; 16]);
        let mut next = [0; 16];
        random::fill(&mut next).unwrap();
        assert_ne!(next, key);
        // After a resume the old state must not go on, whatever happens.
        machine.entropy.set(None);
        assert_eq!(random::reseed(), Err(NoEntropy));
        assert_eq!(random::fill(&mut key), Err(NoEntropy));
    });
}

#[test]
fn two_seeds_give_two_streams_and_one_seed_gives_one() {
    let stream = |seed| {
        let machine = machine();
        machine.entropy.set(Some(seed));
        run(machine, async {
            let mut bytes = [0; 1000];
            random::fill(&mut bytes[..300]).unwrap();
            random::fill(&mut bytes[300..]).unwrap();
            bytes
        })
    };
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
}

#[test]
#[should_panic(expected = "needs a running runtime")]
fn outside_of_a_runtime() {
    let _ = Instant::now();
}
