//! Both ends against each other, against an enemy, and around the wrap.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::{BackRing, FrontRing, RingError, RingFull, RingIndex, SLOTS_OFFSET, Slot, word};
use crate::fake::{AdversarialPage, FakePage, Random};
use crate::hypervisor::SharedPage;

const SLOT_SIZE: usize = 12;
const CLOSE_TO_WRAP: RingIndex = RingIndex::new(0xffff_ff00);

/// A message with something to check in each byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl Slot for Number {
    const SIZE: usize = 12;

    fn decode(bytes: &[u8]) -> Self {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        let number = u64::from_le_bytes(word);
        Self(if bytes[8..] == [0x5a; 4] {
            number
        } else {
            u64::MAX
        })
    }

    fn encode(&self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.0.to_le_bytes());
        into[8..].fill(0x5a);
    }
}

type Front<P> = FrontRing<P, Number, Number>;
type Back<P> = BackRing<P, Number, Number>;

fn pair(start: RingIndex) -> (FakePage, Front<FakePage>, Back<FakePage>) {
    let page = FakePage::zeroed();
    let front = Front::starting_at(page.clone(), SLOT_SIZE, start);
    let back = Back::attach(page.clone(), SLOT_SIZE);
    (page, front, back)
}

#[test]
fn a_full_ring_takes_no_more_until_a_response_is_popped() {
    let (_, mut front, mut back) = pair(CLOSE_TO_WRAP);
    for number in 0..256 {
        assert_eq!(
            front.push_request(&Number(number)),
            Ok(CLOSE_TO_WRAP.advanced(number as u32))
        );
    }
    assert_eq!(front.push_request(&Number(256)), Err(RingFull));
    assert_eq!(front.push_raw(&[1]), Err(RingFull));
    assert!(front.publish_requests());
    assert_eq!(back.pop_request(), Ok(Some(Number(0))));
    assert!(back.push_response(&Number(1000)).is_ok());
    assert_eq!(front.free_requests(), 0, "not yet popped");
    let _ = back.publish_responses();
    assert_eq!(front.pop_response(), Ok(Some(Number(1000))));
    assert_eq!(front.pop_response(), Ok(None));
    assert_eq!(front.free_requests(), 1);
    assert!(front.push_request(&Number(256)).is_ok());
    // Not published yet: the slots around it are.
    assert_eq!(back.waiting_requests(), Ok(255));
}

#[test]
fn a_response_needs_a_request() {
    let (_, mut front, mut back) = pair(RingIndex::ZERO);
    assert_eq!(back.push_response(&Number(1)), Err(RingFull));
    assert!(front.push_request(&Number(1)).is_ok());
    let _ = front.publish_requests();
    assert_eq!(
        back.push_response(&Number(1)),
        Err(RingFull),
        "not taken yet"
    );
    assert_eq!(back.pop_request(), Ok(Some(Number(1))));
    assert!(back.push_response(&Number(1)).is_ok());
    assert_eq!(back.push_response(&Number(1)), Err(RingFull));
}

#[test]
fn a_producer_beyond_what_was_published_is_an_error() {
    for claim in [3, 257, 256, u32::MAX, 0x8000_0000] {
        let (page, mut front, _) = pair(CLOSE_TO_WRAP);
        // Three are in the ring, two of them published: neither is the third believed.
        for number in 0..2 {
            front.push_request(&Number(number)).unwrap();
        }
        let _ = front.publish_requests();
        front.push_request(&Number(2)).unwrap();
        let claimed = CLOSE_TO_WRAP.advanced(claim).value();
        page.store(word::RESPONSE_PRODUCER, claimed);
        assert!(
            front.final_check_for_responses(),
            "there is something to look at"
        );
        let expected = RingError::ProducerOutOfRange {
            field: "rsp_prod",
            value: claimed,
            consumed: CLOSE_TO_WRAP.value(),
            possible: 2,
        };
        assert_eq!(front.pop_response(), Err(expected), "claim {claim}");
        assert_eq!(front.pop_raw(&mut [0; 4]), Err(expected));
        assert_eq!(front.next_response(), CLOSE_TO_WRAP, "nothing was taken");
    }
}

#[test]
fn a_producer_that_goes_back_is_an_error() {
    let (page, mut front, mut back) = pair(CLOSE_TO_WRAP);
    front.push_request(&Number(1)).unwrap();
    let _ = front.publish_requests();
    back.pop_request().unwrap();
    back.push_response(&Number(1)).unwrap();
    let _ = back.publish_responses();
    assert_eq!(front.pop_response(), Ok(Some(Number(1))));
    page.store(word::RESPONSE_PRODUCER, CLOSE_TO_WRAP.value());
    assert!(front.pop_response().is_err());
}

#[test]
fn a_frontend_cannot_overrun_a_backend() {
    let (page, mut front, mut back) = pair(CLOSE_TO_WRAP);
    front.push_request(&Number(1)).unwrap();
    let _ = front.publish_requests();
    back.pop_request().unwrap();
    // One is unanswered, so 255 more are possible.
    page.store(word::REQUEST_PRODUCER, CLOSE_TO_WRAP.advanced(257).value());
    assert!(back.pop_request().is_err());
    page.store(word::REQUEST_PRODUCER, CLOSE_TO_WRAP.advanced(256).value());
    assert!(back.pop_request().is_ok());
}

#[test]
fn the_page_is_believed_nowhere_but_where_it_must_be() {
    let (page, mut front, mut back) = pair(CLOSE_TO_WRAP);
    for number in 0..10 {
        front.push_request(&Number(number)).unwrap();
    }
    // The peer scribbles over our own producer index: publishing repairs it.
    page.store(word::REQUEST_PRODUCER, 77);
    let _ = front.publish_requests();
    assert_eq!(back.waiting_requests(), Ok(10));
}

#[test]
fn an_enemy_gets_no_panic_and_no_second_read() {
    let mut broken = 0;
    let mut popped = 0;
    for seed in 0..2000 {
        let mut front = Front::starting_at(AdversarialPage::new(seed), SLOT_SIZE, CLOSE_TO_WRAP);
        for round in 0..20 {
            let pushed = front.push_request(&Number(round));
            assert!(pushed.is_ok() || front.free_requests() == 0);
            let _ = front.publish_requests();
            let _ = front.final_check_for_responses();
            front.page().take_most_reads();
            match front.pop_response() {
                Ok(response) => popped += usize::from(response.is_some()),
                Err(_) => {
                    broken += 1;
                    break;
                }
            }
            assert!(front.page().take_most_reads() <= 1, "a byte was read twice");
        }
    }
    assert!(
        broken > 100 && popped > 100,
        "{broken} broken, {popped} popped"
    );
}

#[test]
fn a_new_ring_leaves_nothing_of_the_page_before_the_slots() {
    let page = FakePage::zeroed();
    page.write(0, &[0xaa; 4096]);
    let _front = Front::new(page.clone(), SLOT_SIZE);
    let mut header = [0xaa; SLOTS_OFFSET];
    page.read(0, &mut header);
    assert_eq!(
        header[..16],
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    );
    assert_eq!(header[16..], [0; 48]);
}

#[test]
#[should_panic(expected = "message larger than a slot")]
fn a_message_larger_than_a_slot_is_our_bug() {
    let (_, mut front, _) = pair(RingIndex::ZERO);
    let _ = front.push_raw(&[0; SLOT_SIZE + 1]);
}

/// What one end does in the middle of a step of the other's.
type Interruption = Box<dyn FnOnce()>;

/// A page that lets the peer run just before one access of ours.
#[derive(Clone)]
struct Interrupted {
    page: FakePage,
    before: Rc<RefCell<Option<(Access, Interruption)>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Load(usize),
    Store(usize),
}

impl Interrupted {
    fn interrupt(&self, access: Access) {
        let due = self
            .before
            .borrow_mut()
            .take_if(|(before, _)| *before == access);
        if let Some((_, interruption)) = due {
            interruption();
        }
    }
}

impl SharedPage for Interrupted {
    fn load(&self, word: usize) -> u32 {
        self.interrupt(Access::Load(word));
        self.page.load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.interrupt(Access::Store(word));
        self.page.store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }
}

/// Every access of ours at which the peer may come in.
fn accesses() -> impl Iterator<Item = Access> {
    (0..4).flat_map(|word| [Access::Load(word), Access::Store(word)])
}

#[test]
fn a_response_that_comes_during_the_final_check_is_seen_or_told() {
    for access in accesses() {
        let (page, _, _) = pair(CLOSE_TO_WRAP);
        let before = Rc::new(RefCell::new(None));
        let page = Interrupted { page, before };
        let mut front = Front::starting_at(page.clone(), SLOT_SIZE, CLOSE_TO_WRAP);
        let back = Rc::new(RefCell::new(Back::attach(page.page.clone(), SLOT_SIZE)));
        // Two round trips, so that the event word lies behind.
        let answer = |back: &mut Back<FakePage>| {
            back.pop_request().unwrap();
            back.push_response(&Number(1)).unwrap();
            back.publish_responses()
        };
        for _ in 0..2 {
            front.push_request(&Number(1)).unwrap();
            let _ = front.publish_requests();
        }
        answer(&mut back.borrow_mut());
        front.pop_response().unwrap();

        let told = Rc::new(Cell::new(false));
        let interruption = {
            let (back, told) = (back.clone(), told.clone());
            Box::new(move || told.set(answer(&mut back.borrow_mut())))
        };
        *page.before.borrow_mut() = Some((access, interruption));
        let seen = front.final_check_for_responses();
        let came = page.before.borrow_mut().take().is_none();
        assert!(!came || seen || told.get(), "the response is lost");
        let relevant = matches!(
            access,
            Access::Load(word::RESPONSE_PRODUCER) | Access::Store(word::RESPONSE_EVENT)
        );
        assert_eq!(came, relevant);
    }
}

#[test]
fn a_backend_that_falls_asleep_during_publishing_is_told_or_sees() {
    for access in accesses() {
        let (page, _, _) = pair(CLOSE_TO_WRAP);
        let before = Rc::new(RefCell::new(None));
        let page = Interrupted { page, before };
        let mut front = Front::starting_at(page.clone(), SLOT_SIZE, CLOSE_TO_WRAP);
        let mut back = Back::attach(page.page.clone(), SLOT_SIZE);
        // One request is taken, so that the event word lies behind.
        front.push_request(&Number(1)).unwrap();
        let _ = front.publish_requests();
        back.pop_request().unwrap();

        front.push_request(&Number(2)).unwrap();
        let sees = Rc::new(Cell::new(false));
        let interruption = {
            let sees = sees.clone();
            Box::new(move || sees.set(back.final_check_for_requests()))
        };
        *page.before.borrow_mut() = Some((access, interruption));
        let told = front.publish_requests();
        let came = page.before.borrow_mut().take().is_none();
        assert!(!came || told || sees.get(), "the backend sleeps for ever");
        let relevant = matches!(
            access,
            Access::Store(word::REQUEST_PRODUCER) | Access::Load(word::REQUEST_EVENT)
        );
        assert_eq!(came, relevant);
    }
}

/// One end of a ring that sleeps between events, as drivers do.
#[derive(Default)]
struct Sleeper {
    event: bool,
    asleep: bool,
}

impl Sleeper {
    /// Whether it may run: awake, or woken.
    fn runs(&mut self) -> bool {
        if self.asleep && !self.event {
            return false;
        }
        self.event = false;
        self.asleep = false;
        true
    }
}

/// Sends numbers through a ring and back with random batches, each end sleeping whenever the
/// final check allows it. Nobody may sleep for ever.
fn play(seed: u64, start: RingIndex, total: u64, batch: u64) {
    let random = Random::new(seed);
    let (_, mut front, mut back) = pair(start);
    let (mut frontend, mut backend) = (Sleeper::default(), Sleeper::default());
    let mut sent = 0;
    let mut answered: Vec<u64> = Vec::new();
    let mut held: Vec<Number> = Vec::new();
    while (answered.len() as u64) < total {
        let mut ran = false;
        if frontend.runs() {
            ran = true;
            for _ in 0..random.below(batch) {
                if sent < total && front.push_request(&Number(sent)).is_ok() {
                    sent += 1;
                }
            }
            backend.event |= front.publish_requests();
            for _ in 0..random.below(batch) {
                if let Some(Number(number)) = front.pop_response().unwrap() {
                    answered.push(number);
                }
            }
            let may_send = sent < total && front.free_requests() > 0;
            frontend.asleep = !may_send && !front.final_check_for_responses();
        }
        if backend.runs() {
            ran = true;
            for _ in 0..random.below(batch) {
                held.extend(back.pop_request().unwrap());
            }
            for _ in 0..random.below(batch).min(held.len() as u64) {
                let Number(number) = held.remove(0);
                back.push_response(&Number(number + 1)).unwrap();
            }
            frontend.event |= back.publish_responses();
            backend.asleep = held.is_empty() && !back.final_check_for_requests();
        }
        assert!(
            ran,
            "both ends sleep with {} of {total} answered",
            answered.len()
        );
    }
    let expected: Vec<u64> = (1..=total).collect();
    assert_eq!(answered, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_sleeps_for_ever(seed: u64, batch in 1_u64..300, start: u32) {
        play(seed, RingIndex::new(start), 500, batch + 1);
        play(seed, CLOSE_TO_WRAP, 700, batch + 1);
    }

    #[test]
    fn distances_survive_the_wrap(start: u32, ahead in 0_u32..=256) {
        let start = RingIndex::new(start);
        prop_assert_eq!(start.advanced(ahead).distance_from(start), ahead);
        prop_assert!(start.advanced(ahead).place(256) < 256);
    }
}
