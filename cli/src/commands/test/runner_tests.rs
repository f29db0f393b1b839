//! The runner against guests that follow a script.

use anyhow::Context;

use super::*;
use crate::qemu::Line;

/// A host whose guests say these lines, one guest after the other, and then end; a guest whose
/// script ends in `HANG` or `FLOOD` goes on for ever instead.
struct Script {
    guests: VecDeque<Vec<&'static str>>,
    orders: Vec<String>,
    limits: Limits,
}

struct Actor {
    lines: VecDeque<&'static str>,
}

const HANG: &str = "(silence)";
const FLOOD: &str = "(again and again)";

impl Script {
    fn new(guests: &[&[&'static str]]) -> Self {
        Self {
            guests: guests.iter().map(|lines| lines.to_vec()).collect(),
            orders: Vec::new(),
            limits: Limits::default(),
        }
    }

    fn run(&mut self, names: &[&str]) -> (Result<()>, Vec<(String, Option<String>)>) {
        let tests: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(number, name)| Named {
                number,
                name: (*name).to_owned(),
            })
            .collect();
        let limits = self.limits;
        let mut report = Report::new(true, false);
        let debug = Path::new("/nonexistent.debug");
        let outcome = run(self, &tests, &limits, debug, &mut report);
        (outcome, report.verdicts())
    }
}

impl Boots for Script {
    type Guest = Actor;

    fn boot(&mut self, order: &str) -> Result<Actor> {
        self.orders.push(order.to_owned());
        let lines = self.guests.pop_front().context("one guest too many")?;
        Ok(Actor {
            lines: lines.into(),
        })
    }
}

impl Booted for Actor {
    fn next(&mut self, _: Duration) -> Result<Next> {
        Ok(match self.lines.front() {
            Some(&HANG) => Next::Silence,
            Some(&FLOOD) => Next::Line(Line {
                text: FLOOD.to_owned(),
                after: Duration::ZERO,
            }),
            Some(_) => Next::Line(Line {
                text: self.lines.pop_front().unwrap_or_default().to_owned(),
                after: Duration::ZERO,
            }),
            None => Next::Closed,
        })
    }

    fn end(&mut self) -> Result<String> {
        Ok("the guest ended".to_owned())
    }
}

fn reasons(verdicts: &[(String, Option<String>)]) -> Vec<&str> {
    let reasons = verdicts.iter().map(|(_, reason)| reason.as_deref());
    reasons.map(|reason| reason.unwrap_or("ok")).collect()
}

#[test]
fn tests_that_pass_or_return_errors_share_a_guest() {
    let mut script = Script::new(&[&[
        "rekernel: version 0.1.0",
        "rekernel: test 0 begins",
        "rekernel: test 0 ok",
        "rekernel: test 1 begins",
        "rekernel: test 1 failed: no luck",
        "rekernel: test 2 begins",
        "rekernel: test 2 ok",
        "rekernel: poweroff",
    ]]);
    let (outcome, verdicts) = script.run(&["a", "b", "c"]);
    outcome.unwrap();
    let expected = ["ok", "it returned an error: no luck", "ok"];
    assert_eq!(reasons(&verdicts), expected);
    assert_eq!(script.orders, ["rekernel.test=0-2"]);
}

#[test]
fn after_a_panic_the_rest_runs_in_a_new_guest() {
    let mut script = Script::new(&[
        &[
            "rekernel: test 0 begins",
            "rekernel: panic at a.rs:1:1: boom",
            "rekernel: backtrace",
            " #0 0x1000",
            "rekernel: crash",
        ],
        &[
            "rekernel: test 1 begins",
            "rekernel: test 1 ok",
            "rekernel: poweroff",
        ],
    ]);
    let (outcome, verdicts) = script.run(&["a", "b"]);
    outcome.unwrap();
    let reason = reasons(&verdicts)[0];
    assert!(
        reason.starts_with("panic at a.rs:1:1: boom\nbacktrace:\n"),
        "{reason}"
    );
    assert!(reason.contains("0x1000"), "{reason}");
    assert_eq!(reasons(&verdicts)[1], "ok");
    assert_eq!(script.orders, ["rekernel.test=0-1", "rekernel.test=1"]);
}

#[test]
fn a_test_that_ends_the_guest_has_failed() {
    let mut script = Script::new(&[
        &["rekernel: test 0 begins", "rekernel: poweroff"],
        &["rekernel: test 1 begins"],
    ]);
    let (outcome, verdicts) = script.run(&["a_powers_off", "b_vanishes"]);
    outcome.unwrap();
    let expected = "the guest ended during the test";
    assert_eq!(reasons(&verdicts), [expected, expected]);
}

#[test]
fn a_test_that_goes_on_for_ever_has_failed() {
    let mut script = Script::new(&[
        &["rekernel: test 0 begins", HANG],
        &["rekernel: test 1 begins", FLOOD],
    ]);
    script.limits.test = Duration::ZERO;
    let (outcome, verdicts) = script.run(&["a_hangs", "b_floods"]);
    outcome.unwrap();
    for reason in reasons(&verdicts) {
        assert!(reason.contains("--timeout"), "{reason}");
    }
}

#[test]
fn a_guest_that_does_not_get_to_a_test_is_an_error() {
    for end in [HANG, FLOOD] {
        let mut script = Script::new(&[&[end]]);
        script.limits.boot = Duration::ZERO;
        let error = script.run(&["a"]).0.unwrap_err().to_string();
        assert!(error.contains("neither began a test nor ended"), "{error}");
    }
}

#[test]
fn what_no_test_can_be_blamed_for_is_an_error() {
    for (guest, words) in [
        (&["rekernel: poweroff"][..], "without running a test"),
        (
            &["rekernel: panic at x:1:1: early"],
            "panic at x:1:1: early",
        ),
        (&["hello"], "hello"),
        (&["rekernel: test 7 begins"], "test 7 began"),
        (
            &[
                "rekernel: test 0 begins",
                "rekernel: test 0 ok",
                "rekernel: panic at x:1:1: late",
            ],
            "panic at x:1:1: late",
        ),
    ] {
        let (outcome, _) = Script::new(&[guest]).run(&["a"]);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A guest that repeats itself must not end a test twice, or one that it does not run.
#[test]
fn verdicts_out_of_turn_are_only_text() {
    let mut script = Script::new(&[&[
        "rekernel: test 0 ok",
        "rekernel: test 0 begins",
        "rekernel: test 1 ok",
        "rekernel: test 0 begins",
        "rekernel: test 0 ok",
        "rekernel: test 0 failed: late",
        "rekernel: test 1 begins",
        "rekernel: test 1 ok",
        "rekernel: poweroff",
    ]]);
    let (outcome, verdicts) = script.run(&["a", "b"]);
    outcome.unwrap();
    assert_eq!(reasons(&verdicts), ["ok", "ok"]);
}

#[test]
fn the_list_is_believed_only_from_a_guest_that_powers_off() {
    let limits = Limits::default();
    let whole: &[&str] = &[
        "rekernel: test 0 is a::b",
        "rekernel: test 1 is a::c",
        "rekernel: poweroff",
    ];
    let tests = list(&mut Script::new(&[whole]), &limits).unwrap();
    assert_eq!(tests[1].name, "a::c");
    let error = list(&mut Script::new(&[&whole[..2]]), &limits).unwrap_err();
    assert!(error.to_string().contains("the guest ended"), "{error}");
}

#[test]
fn many_tests_are_told_in_pieces() {
    let names: Vec<_> = (0..=MOST_TESTS).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut script = Script::new(&[&[]]);
    // The guest ends at once; what counts is what it was told.
    script.run(&names).0.unwrap_err();
    assert_eq!(
        script.orders,
        [format!("rekernel.test=0-{}", MOST_TESTS - 1)]
    );
}
