use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::memory::test_page;

/// What Xen does when a port gets an event (`evtchn_2l_set_pending`).
fn send(shared: &Frame, port: u32) {
    let (word, bit) = (port as usize / 64, 1_u64 << (port % 64));
    if shared.word64(PENDING + word * 8).fetch_or(bit, Relaxed) & bit != 0 {
        return;
    }
    let masked = shared.word64(MASK + word * 8).load(Relaxed) & bit != 0;
    let selector = shared.word64(SELECTOR);
    if !masked && selector.fetch_or(1 << word, Relaxed) & (1 << word) == 0 {
        shared.byte(UPCALL_PENDING).store(1, Relaxed);
    }
}

fn interrupt_is_due(shared: &Frame) -> bool {
    shared.byte(UPCALL_PENDING).load(Relaxed) != 0
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn machine() -> (Box<Events>, Frame) {
    (Box::new(Events::new()), test_page::frame())
}

#[test]
fn events_of_all_words_are_noted_and_cleared() {
    let (events, shared) = machine();
    for port in [0, 1, 63, 64, 4095] {
        send(&shared, port);
    }
    events.note(&shared);
    assert!(!interrupt_is_due(&shared));
    assert_eq!(shared.word64(SELECTOR).load(Relaxed), 0);
    assert!((0..WORDS).all(|word| shared.word64(PENDING + word * 8).load(Relaxed) == 0));
    for port in [0, 1, 63, 64, 4095] {
        assert_eq!(events.events(port), 1, "port {port}");
    }
    assert_eq!(events.events(2), 0);
    assert!(events.any_noted());
    assert!(events.dispatch(&shared));
    assert!(!events.dispatch(&shared));
    assert!(!events.any_noted());
}

#[test]
fn a_masked_port_is_left_alone() {
    let (events, shared) = machine();
    events.mask_all(&shared);
    send(&shared, 5);
    assert!(!interrupt_is_due(&shared));
    // Even when its word is selected for another port's sake.
    shared.word64(MASK).fetch_and(!(1 << 6), Relaxed);
    send(&shared, 6);
    events.note(&shared);
    assert_eq!((events.events(5), events.events(6)), (0, 1));
    assert_eq!(shared.word64(PENDING).load(Relaxed), 1 << 5);
}

#[test]
fn a_storm_interrupts_once_per_sleep_and_loses_nothing() {
    let (events, shared) = machine();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut interrupts = 0;
    for turn in 1..=10 {
        events.wake_on_event(9, &waker);
        for _ in 0..1000 {
            send(&shared, 9);
            if interrupt_is_due(&shared) {
                interrupts += 1;
                events.note(&shared);
            }
        }
        assert!(events.dispatch(&shared));
        assert_eq!(woken.0.load(Relaxed), turn);
    }
    assert_eq!(interrupts, 1);
    // The run loop found the others, one a turn and the second of the first.
    assert_eq!(events.events(9), 11);
    assert!(!events.prepare_to_sleep(&shared));
    // The last event is not left behind.
    assert_eq!(shared.word64(PENDING).load(Relaxed), 0);
    assert_eq!(shared.word64(MASK).load(Relaxed), 0);
}

#[test]
fn the_run_loop_needs_no_interrupt() {
    let (events, shared) = machine();
    let woken = Arc::new(Woken::default());
    events.wake_on_event(9, &Waker::from(Arc::clone(&woken)));
    send(&shared, 9);
    assert!(events.dispatch(&shared));
    assert!(!interrupt_is_due(&shared));
    assert_eq!((events.events(9), woken.0.load(Relaxed)), (1, 1));
    // Masked, so it raises no upcall; found before the sleep.
    send(&shared, 9);
    assert!(!interrupt_is_due(&shared));
    assert!(events.prepare_to_sleep(&shared));
    assert!(events.dispatch(&shared));
    assert!(!events.prepare_to_sleep(&shared));
    send(&shared, 9);
    assert!(interrupt_is_due(&shared) && events.prepare_to_sleep(&shared));
    assert_eq!(events.events(9), 2);
}

#[test]
fn a_port_is_opened_with_what_came_before() {
    let (events, shared) = machine();
    events.mask_all(&shared);
    send(&shared, 70);
    events.silence(&shared, 70);
    events.open(&shared, 70);
    assert!(events.prepare_to_sleep(&shared));
    assert!(events.dispatch(&shared));
    assert_eq!(events.events(70), 1);
    send(&shared, 70);
    assert!(interrupt_is_due(&shared));
}

#[test]
fn an_event_between_dispatch_and_poll_wakes_at_the_next_turn() {
    let (events, shared) = machine();
    let woken = Arc::new(Woken::default());
    send(&shared, 9);
    events.note(&shared);
    // Nobody waits yet: the count alone tells.
    assert!(events.dispatch(&shared));
    assert_eq!(events.events(9), 1);
    send(&shared, 9);
    events.note(&shared);
    events.wake_on_event(9, &Waker::from(Arc::clone(&woken)));
    assert!(events.dispatch(&shared));
    assert_eq!(woken.0.load(Relaxed), 1);
    // A waker is used once.
    send(&shared, 9);
    events.note(&shared);
    assert!(events.dispatch(&shared));
    assert_eq!(woken.0.load(Relaxed), 1);
}

#[test]
fn a_silenced_port_is_neither_dispatched_nor_unmasked() {
    let (events, shared) = machine();
    let woken = Arc::new(Woken::default());
    events.wake_on_event(70, &Waker::from(Arc::clone(&woken)));
    send(&shared, 70);
    events.note(&shared);
    events.silence(&shared, 70);
    events.dispatch(&shared);
    assert!(!events.prepare_to_sleep(&shared));
    assert_eq!(woken.0.load(Relaxed), 0);
    assert_eq!(shared.word64(MASK + 8).load(Relaxed), 1 << 6);
    assert_eq!(Arc::strong_count(&woken), 1);
}

#[test]
fn a_second_waiter_takes_the_place_of_the_first() {
    let (events, shared) = machine();
    let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    events.wake_on_event(3, &Waker::from(Arc::clone(&first)));
    events.wake_on_event(3, &Waker::from(Arc::clone(&second)));
    send(&shared, 3);
    events.note(&shared);
    events.dispatch(&shared);
    assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
}

#[test]
fn bits_of_a_word() {
    assert_eq!(bits(0).count(), 0);
    assert_eq!(bits(1 | 1 << 63).collect::<Vec<_>>(), [0, 63]);
    assert_eq!(bits(u64::MAX).count(), 64);
}

#[test]
fn another_life_begins_with_nothing_noted_and_everyone_told() {
    let (events, shared) = machine();
    let woken = Arc::new(Woken::default());
    for port in [3, 70] {
        events.open(&shared, port);
        events.wake_on_event(port, &woken.clone().into());
        send(&shared, port);
    }
    events.note(&shared);
    assert_eq!((events.life(), events.open_ports()), (0, 2));

    // Xen has put another page in its place, in which the toolstack's port has an event already.
    for offset in (0..4096).step_by(8) {
        shared.word64(offset).store(0, Relaxed);
    }
    send(&shared, 3);
    events.start_over(&shared);
    assert_eq!((events.life(), events.open_ports()), (1, 0));
    assert_eq!(woken.0.load(Relaxed), 2);
    assert!(!events.any_noted());
    assert!(!events.dispatch(&shared));
    assert!((0..WORDS).all(|word| shared.word64(MASK + word * 8).load(Relaxed) == u64::MAX));

    // Port 3 is another one now, and its event is not lost.
    let before = events.events(3);
    events.silence(&shared, 3);
    events.open(&shared, 3);
    assert_eq!(events.events(3), before + 1);
    assert!(events.dispatch(&shared));
    events.close(&shared, 3);
    assert_eq!(events.open_ports(), 0);
}
