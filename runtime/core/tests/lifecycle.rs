//! Hooks for the time before a suspension or the end, and after a resume, in virtual time.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;

use rekernel_core::executor::{run, yield_now};
use rekernel_core::lifecycle::{
    DEFAULT_DEADLINE, Resumed, Shutdown, Unfinished, after_resume, before_shutdown, before_suspend,
    run_after_resume, run_before_shutdown, run_before_suspend, set_deadline,
};
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::random;
use rekernel_core::time::{Duration, Instant, sleep};

/// A machine whose clock jumps to the next timer when it idles.
#[derive(Default)]
struct Machine {
    now: Cell<Duration>,
    /// What its source of entropy gives next; it never gives the same again.
    entropy: Cell<u8>,
}

impl Machine {
    fn leaked(entropy: u8) -> &'static Self {
        Box::leak(Box::new(Self {
            now: Cell::default(),
            entropy: Cell::new(entropy),
        }))
    }
}

impl Platform for Machine {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wall_clock(&self) -> Option<Duration> {
        None
    }

    fn dispatch_events(&self) -> bool {
        false
    }

    fn idle(&self, deadline: Option<Duration>) {
        let deadline = deadline.expect("nothing would ever wake the machine");
        self.now.set(self.now.get().max(deadline));
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        *seed = [self.entropy.get(); 32];
        self.entropy.set(self.entropy.get() + 1);
        Ok(())
    }
}

type Steps = Rc<RefCell<Vec<&'static str>>>;

fn note(steps: &Steps, step: &'static str) -> impl Fn() + Clone + 'static {
    let steps = steps.clone();
    move || steps.borrow_mut().push(step)
}

#[test]
fn all_hooks_run_beside_each_other_and_are_waited_for() {
    run(Machine::leaked(0), async {
        let steps = Steps::default();
        for (delay, begins, ends) in [(300, "first", "first done"), (100, "second", "second done")]
        {
            let (begins, ends) = (note(&steps, begins), note(&steps, ends));
            before_suspend(move || {
                let (begins, ends) = (begins.clone(), ends.clone());
                async move {
                    begins();
                    sleep(Duration::from_millis(delay)).await;
                    ends();
                }
            });
        }
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(run_before_suspend().await, Ok(()));
            assert_eq!(began.elapsed(), Duration::from_millis(300));
            let done = steps.take();
            assert_eq!(done, ["first", "second", "second done", "first done"]);
        }
    });
}

#[test]
fn the_deadline_is_for_all_together() {
    run(Machine::leaked(0), async {
        let dropped = Rc::new(());
        for _ in 0..3 {
            let held = dropped.clone();
            before_shutdown(move |_| {
                let held = held.clone();
                async move {
                    pending::<()>().await;
                    drop(held);
                }
            });
        }
        before_shutdown(|_| ready(()));
        for deadline in [None, Some(Duration::from_millis(70))] {
            if let Some(deadline) = deadline {
                set_deadline(deadline);
            }
            let deadline = deadline.unwrap_or(DEFAULT_DEADLINE);
            let began = Instant::now();
            let outcome = run_before_shutdown(Shutdown::Reboot).await;
            assert_eq!(outcome, Err(Unfinished { hooks: 3, deadline }));
            assert_eq!(began.elapsed(), deadline);
            // Stopped where they were: only the hooks themselves hold it.
            yield_now().await;
            assert_eq!(Rc::strong_count(&dropped), 4);
        }
    });
}

#[test]
fn hooks_are_told_why() {
    run(Machine::leaked(0), async {
        let told = Rc::new(RefCell::new(Vec::new()));
        let place = told.clone();
        before_shutdown(move |how| {
            place.borrow_mut().push(how.to_string());
            ready(())
        });
        let place = told.clone();
        after_resume(move |how| {
            place.borrow_mut().push(how.to_string());
            ready(())
        });
        for how in [Shutdown::Poweroff, Shutdown::Reboot, Shutdown::Halt] {
            assert_eq!(run_before_shutdown(how).await, Ok(()));
        }
        run_after_resume(Resumed::Continued);
        run_after_resume(Resumed::Restored);
        let expected = ["poweroff", "reboot", "halt", "continued", "restored"];
        assert_eq!(*told.borrow(), expected);
    });
}

#[test]
fn nobody_waits_for_what_is_done_after_a_resume() {
    run(Machine::leaked(0), async {
        after_resume(|_| pending());
        let began = Instant::now();
        run_after_resume(Resumed::Restored);
        assert_eq!(run_before_suspend().await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn hooks_may_add_and_remove_hooks() {
    run(Machine::leaked(0), async {
        let steps = Steps::default();
        let once = Rc::new(RefCell::new(None));
        let (own, first, second) = (once.clone(), note(&steps, "first"), note(&steps, "added"));
        *once.borrow_mut() = Some(before_suspend(move || {
            first();
            if let Some(hook) = own.take() {
                let hook: rekernel_core::lifecycle::Hook = hook;
                hook.remove();
                let second = second.clone();
                before_suspend(move || {
                    second();
                    ready(())
                });
            }
            ready(())
        }));
        let removed = note(&steps, "never");
        let hook = before_suspend(move || {
            removed();
            ready(())
        });
        hook.remove();
        for expected in ["first", "added", "added"] {
            assert_eq!(run_before_suspend().await, Ok(()));
            assert_eq!(steps.take(), [expected]);
        }
    });
}

/// Two machines restored from one image have the same memory; only what they draw from the processor
/// differs.
#[test]
fn twins_differ_once_seeded_anew() {
    let drawn = |entropy_after_the_image| {
        let machine = Machine::leaked(1);
        run(machine, async {
            let (mut before, mut after) = ([0; 32], [0; 32]);
            random::fill(&mut before).unwrap();
            machine.entropy.set(entropy_after_the_image);
            random::reseed().unwrap();
            random::fill(&mut after).unwrap();
            (before, after)
        })
    };
    let (one, other) = (drawn(10), drawn(20));
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}
