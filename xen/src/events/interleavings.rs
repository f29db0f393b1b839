//! Every order in which two events can meet the handler and the run loop.
//!
//! Sending an event takes Xen three steps on another processor. At each access of ours to the
//! shared page, any number of those steps may have happened just before. Interrupts come in while
//! the processor sleeps and nowhere else; a sleep ends with an interrupt and nothing else, so an
//! event that raises none and was not seen before is lost. All of it is enumerated; there is no
//! chance in it.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::memory::test_page;

const STEPS: usize = 6;

/// What Xen does to send an event to a port (`evtchn_2l_set_pending`): one of three steps, each
/// atomic.
fn step(shared: &Frame, port: u32, number: usize, skip: &Cell<bool>) {
    let (word, bit) = (port as usize / 64, 1_u64 << (port % 64));
    match number {
        0 => {
            let before = shared
                .word64(PENDING + word * 8)
                .fetch_or(bit, Ordering::SeqCst);
            skip.set(before & bit != 0);
        }
        1 => {
            let mask = shared.word64(MASK + word * 8).load(Ordering::SeqCst);
            skip.set(skip.get() || mask & bit != 0);
        }
        _ if skip.get() => {}
        _ => {
            let selector = shared.word64(SELECTOR);
            if selector.fetch_or(1 << word, Ordering::SeqCst) & (1 << word) == 0 {
                shared.byte(UPCALL_PENDING).store(1, Ordering::SeqCst);
            }
        }
    }
}

struct World {
    events: Events,
    shared: Rc<Frame>,
    /// Where the two events go.
    ports: [u32; 2],
    /// How many of Xen's steps happen before each of our accesses; the rest when it is over.
    schedule: RefCell<Vec<usize>>,
    accesses: Cell<usize>,
    done: Cell<usize>,
    skip: Cell<bool>,
    in_hook: Cell<bool>,
}

impl World {
    fn advance(&self, steps: usize) {
        for number in self.done.get()..(self.done.get() + steps).min(STEPS) {
            step(&self.shared, self.ports[number / 3], number % 3, &self.skip);
            self.done.set(number + 1);
        }
    }

    /// Sleeps until an interrupt comes, and takes it. False when none ever will.
    fn sleep(&self) -> bool {
        self.in_hook.set(true);
        let is_due = || self.shared.byte(UPCALL_PENDING).load(Ordering::SeqCst) != 0;
        while !is_due() && self.done.get() < STEPS {
            self.advance(1);
        }
        let woken = is_due();
        self.in_hook.set(false);
        if woken {
            self.events.note(&self.shared);
        }
        woken
    }

    /// Before an access to the shared page.
    fn before_access(&self) {
        if self.in_hook.replace(true) {
            return;
        }
        let number = self.accesses.replace(self.accesses.get() + 1);
        let steps = self.schedule.borrow().get(number).copied().unwrap_or(0);
        self.advance(steps);
        self.in_hook.set(false);
    }

    /// Steps of Xen's outside of any access of ours.
    fn meanwhile(&self, steps: usize) {
        self.in_hook.set(true);
        self.advance(steps);
        self.in_hook.set(false);
    }

    /// Whether each event was sent by now: its first step was done.
    fn sent(&self) -> [bool; 2] {
        [self.done.get() >= 1, self.done.get() >= 4]
    }
}

/// Runs one schedule. Returns how many accesses there were.
fn run(shared: &Rc<Frame>, ports: [u32; 2], schedule: &[usize]) -> usize {
    shared.clear();
    let world = Rc::new(World {
        events: Events::new(),
        shared: Rc::clone(shared),
        ports,
        schedule: RefCell::new(schedule.to_vec()),
        // Place 0 of the schedule is before the first turn.
        accesses: Cell::new(1),
        done: Cell::new(0),
        skip: Cell::new(false),
        in_hook: Cell::new(false),
    });
    let hooked = Rc::clone(&world);
    test_page::before_each_access(Some(Rc::new(move || hooked.before_access())));
    world.meanwhile(schedule[0]);
    let mut counted = [0; 2];
    // Which events had been sent when a task that waits for their port last looked.
    let mut seen = [false; 2];
    for turn in 0.. {
        assert!(turn < 20, "the run loop never sleeps: {schedule:?}");
        world.events.dispatch(&world.shared);
        for (index, &port) in ports.iter().enumerate() {
            let count = world.events.events(port);
            if core::mem::replace(&mut counted[index], count) != count {
                seen[index] = world.sent()[index];
            }
        }
        if !world.events.prepare_to_sleep(&world.shared) && !world.sleep() {
            break;
        }
    }
    test_page::before_each_access(None);
    assert_eq!(seen, [true; 2], "an event was lost: {schedule:?}");
    for port in ports {
        let word = |offset| {
            let word = world.shared.word64(offset + port as usize / 64 * 8);
            word.load(Ordering::SeqCst)
        };
        assert_eq!(word(PENDING), 0, "an event is stuck: {schedule:?}");
        assert_eq!(word(MASK), 0, "the port stays masked: {schedule:?}");
    }
    world.accesses.get()
}

/// All ways to spread `steps` over places from `place` on, as far as places are reached.
fn enumerate(
    shared: &Rc<Frame>,
    ports: [u32; 2],
    schedule: &mut Vec<usize>,
    steps: usize,
    runs: &mut usize,
) {
    *runs += 1;
    let accesses = run(shared, ports, schedule);
    if steps == 0 || schedule.len() >= accesses {
        return;
    }
    for here in 0..=steps {
        schedule.push(here);
        if here > 0 || schedule.len() < accesses {
            enumerate(shared, ports, schedule, steps - here, runs);
        }
        schedule.pop();
    }
}

fn no_order_loses_an_event(ports: [u32; 2]) {
    let shared = Rc::new(test_page::frame());
    let mut runs = 0;
    for first in 0..=STEPS {
        enumerate(&shared, ports, &mut vec![first], STEPS - first, &mut runs);
    }
    assert!(runs > 1000, "only {runs} orders");
}

#[test]
fn two_events_of_one_port() {
    no_order_loses_an_event([65, 65]);
}

#[test]
fn two_ports_of_one_word() {
    no_order_loses_an_event([65, 66]);
}

#[test]
fn two_ports_of_two_words() {
    no_order_loses_an_event([65, 130]);
}
