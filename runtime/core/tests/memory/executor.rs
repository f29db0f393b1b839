//! Tasks and timers while memory runs out.

use std::cell::Cell;
use std::rc::Rc;

use failing_memory::{Trial, every_allocation};
use rekernel_core::executor::{try_spawn, yield_now};
use rekernel_core::time::{Duration, Instant, sleep, timeout};

use crate::support::run;

/// Twenty tasks that sleep for different times, some of them aborted, some without memory to begin.
async fn work(done: &Rc<Cell<u32>>) {
    let start = Instant::now();
    for number in 0..20 {
        let counter = done.clone();
        let task = async move {
            let limit = Duration::from_millis(number + 1);
            sleep(limit).await;
            assert!(start.elapsed() >= limit, "a sleep was too short");
            yield_now().await;
            counter.set(counter.get() + 1);
        };
        match try_spawn(task) {
            Ok(handle) if number % 5 == 4 => handle.abort(),
            Ok(_) => {}
            Err(_) => done.set(done.get() + u32::from(number % 5 != 4)),
        }
        yield_now().await;
    }
    let late = timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
    assert!(late.is_err() && start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn tasks_and_timers() {
    let count = every_allocation("executor::tasks_and_timers", |trial: &mut Trial| {
        let done = Rc::new(Cell::new(0));
        run(async {
            trial.begin();
            work(&done).await;
            trial.end();
            assert_eq!(done.get(), 16);
            work(&done).await;
            assert_eq!(done.get(), 32);
        });
    });
    assert!(count > 50, "only {count}");
}
