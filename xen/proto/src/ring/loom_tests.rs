//! Both ends in parallel, in every interleaving and every order that the memory model allows.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use super::{BackRing, FrontRing, RingIndex, SLOTS_OFFSET, Slot, word};
use crate::hypervisor::SharedPage;

const SLOT_SIZE: usize = 4;
const START: RingIndex = RingIndex::new(u32::MAX);

struct Number(u32);

impl Slot for Number {
    const SIZE: usize = 4;

    fn decode(bytes: &[u8]) -> Self {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        Self(u32::from_le_bytes(word))
    }

    fn encode(&self, into: &mut [u8]) {
        into.copy_from_slice(&self.0.to_le_bytes());
    }
}

type Front = FrontRing<Page, Number, Number>;
type Back = BackRing<Page, Number, Number>;

/// The ring's words and the last slot and the first: those that positions around [`START`]
/// fall on. `FENCED` tells whether the full fence is one.
#[derive(Clone)]
struct Page {
    words: Arc<[AtomicU32; 4]>,
    slots: Arc<[AtomicU32; 2]>,
    fenced: bool,
}

impl Page {
    fn new(fenced: bool) -> Self {
        Self {
            words: Arc::new(core::array::from_fn(|_| AtomicU32::new(0))),
            slots: Arc::new(core::array::from_fn(|_| AtomicU32::new(0))),
            fenced,
        }
    }

    fn slot(&self, offset: usize) -> &AtomicU32 {
        &self.slots[usize::from(offset == SLOTS_OFFSET)]
    }
}

impl SharedPage for Page {
    fn load(&self, word: usize) -> u32 {
        self.words[word].load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u32) {
        self.words[word].store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let value = self.slot(offset).load(Ordering::Relaxed);
        into.copy_from_slice(&value.to_le_bytes());
    }

    fn write(&self, offset: usize, from: &[u8]) {
        if offset == 0 {
            // The header of a new ring, which is all zeroes already.
            return;
        }
        let mut word = [0; 4];
        word.copy_from_slice(from);
        let value = u32::from_le_bytes(word);
        self.slot(offset).store(value, Ordering::Relaxed);
    }

    fn full_fence(&self) {
        if self.fenced {
            fence(Ordering::SeqCst);
        }
    }
}

/// A ring whose event words lie behind: notifications depend on the next final check.
fn used_ring(fenced: bool) -> (Front, Back) {
    let page = Page::new(fenced);
    let front = Front::starting_at(page.clone(), SLOT_SIZE, START);
    page.store(word::REQUEST_EVENT, START.value());
    page.store(word::RESPONSE_EVENT, START.value());
    let back = Back::attach(page, SLOT_SIZE);
    (front, back)
}

/// A frontend publishes two requests, one after the other, while the backend takes what there
/// is and goes to sleep when the final check allows it.
fn publish_while_the_backend_falls_asleep(fenced: bool) {
    loom::model(move || {
        let (mut front, mut back) = used_ring(fenced);
        let event = Arc::new(AtomicBool::new(false));
        let raised = event.clone();
        let frontend = loom::thread::spawn(move || {
            for number in [11, 22] {
                front.push_request(&Number(number)).expect("there is room");
                if front.publish_requests() {
                    raised.store(true, Ordering::Release);
                }
            }
        });
        let mut taken = 0;
        let asleep = loop {
            match back.pop_request().expect("the index is right") {
                Some(Number(number)) => {
                    taken += 1;
                    assert_eq!(number, 11 * taken, "the slot's content came with it");
                }
                None => break !back.final_check_for_requests(),
            }
        };
        frontend.join().expect("the frontend does not panic");
        let told = event.load(Ordering::Acquire);
        assert!(!asleep || told || taken == 2, "the backend sleeps for ever");
    });
}

#[test]
fn no_order_of_events_loses_a_notification() {
    publish_while_the_backend_falls_asleep(true);
}

/// The test above means something: without the fence it fails.
#[test]
#[should_panic(expected = "the backend sleeps for ever")]
fn without_the_full_fence_a_notification_is_lost() {
    publish_while_the_backend_falls_asleep(false);
}

#[test]
fn a_slot_is_used_again_only_after_its_response() {
    loom::model(|| {
        let (mut front, mut back) = used_ring(true);
        front.push_request(&Number(11)).expect("there is room");
        let _ = front.publish_requests();
        let backend = loom::thread::spawn(move || {
            let Some(Number(number)) = back.pop_request().expect("the index is right") else {
                panic!("it was published before");
            };
            back.push_response(&Number(number * 2))
                .expect("it was taken");
            back.publish_responses()
        });
        let early = front.pop_response().expect("the index is right");
        let asleep = early.is_none() && !front.final_check_for_responses();
        let told = backend.join().expect("the backend does not panic");
        assert!(!asleep || told, "the frontend sleeps for ever");
        let answer = early.or_else(|| front.pop_response().expect("the index is right"));
        assert_eq!(answer.map(|Number(number)| number), Some(22));
    });
}
