//! One trial after the other, each with the next allocation failing.

use std::env;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::state;

/// Tells the process of the trials where to begin.
const BEGIN: &str = "FAILING_MEMORY_BEGIN";
/// Has it do one trial only, and show where the allocation is that fails.
const SHOW: &str = "FAILING_MEMORY_SHOW";
/// Begins the line that says which trial is next.
const TRIAL: &str = "failing-memory: trial ";
/// Begins the line that says how many allocations there are.
const DONE: &str = "failing-memory: done after ";

/// Places that are looked for before a test gives up.
const MOST_PLACES: usize = 40;

/// One trial: an allocation fails of what is done between [`begin`](Self::begin) and [`end`](Self::end), which
/// may come several times.
#[derive(Debug)]
pub struct Trial {
    fails_at: u64,
    count: u64,
    shows: bool,
}

impl Trial {
    /// The allocation with this number fails, counted from 0.
    pub fn failing(number: u64) -> Self {
        Self {
            fails_at: number,
            count: 0,
            shows: false,
        }
    }

    /// From now on this thread's allocations count, and that one fails.
    pub fn begin(&mut self) {
        state::begin(self.count, self.fails_at, self.shows);
    }

    /// Memory does not run out any more.
    pub fn end(&mut self) {
        self.count = state::end();
    }

    /// Does `work` between [`begin`](Self::begin) and [`end`](Self::end).
    pub fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.begin();
        let result = work();
        self.end();
        result
    }

    /// Whether the allocation that was to fail has come.
    pub fn has_failed(&self) -> bool {
        self.count > self.fails_at
    }
}

/// Has `scenario` done over and over, each time with the next allocation failing between
/// [`Trial::begin`] and [`Trial::end`], until there is none left to fail. `test` is the path of the test that calls
/// this. Returns how many allocations failed.
///
/// The scenario has to do the same in each trial; what comes after the failure may differ.
///
/// # Panics
/// When an allocation could not report its failure: names all such places. When the scenario panics.
pub fn every_allocation(test: &str, scenario: impl Fn(&mut Trial)) -> u64 {
    if let Ok(begin) = env::var(BEGIN) {
        run_trials(begin.parse().expect("a number"), scenario);
        return 0;
    }
    let mut places: Vec<(String, u64)> = Vec::new();
    let mut begin = 0;
    loop {
        let output = start(test, begin, false);
        if let Some(count) = number_after(&output, DONE) {
            assert!(places.is_empty(), "{}", complaint(&places));
            return count;
        }
        let trial = number_after(&output, TRIAL)
            .unwrap_or_else(|| panic!("no trial of {test} began:\n{output}"));
        assert!(
            output.contains("memory allocation of"),
            "trial {trial} of {test} failed:\n{output}"
        );
        places.push((place(&start(test, trial, true)), trial));
        assert!(places.len() < MOST_PLACES, "{}", complaint(&places));
        begin = trial + 1;
    }
}

/// In the process of the trials.
fn run_trials(begin: u64, scenario: impl Fn(&mut Trial)) {
    let shows = env::var(SHOW).is_ok();
    for number in begin.. {
        println!("{TRIAL}{number}");
        let mut trial = Trial {
            shows,
            ..Trial::failing(number)
        };
        scenario(&mut trial);
        if !trial.has_failed() {
            println!("{DONE}{number}");
            return;
        }
        assert!(!shows, "the allocation reported its failure this time");
    }
}

/// What a process of trials printed, standard error last.
fn start(test: &str, begin: u64, shows: bool) -> String {
    let program = env::current_exe().expect("the test's own program");
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(BEGIN, begin.to_string())
        .stdin(Stdio::null());
    if shows {
        command.env(SHOW, "1");
    }
    let output = command.output().expect("the test's own program starts");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn number_after(output: &str, words: &str) -> Option<u64> {
    let last = output.rsplit_once(words)?.1;
    let digits = last.split(|other: char| !other.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The functions and lines of a backtrace that are of this workspace or a library: those of the standard
/// library and of this crate say nothing.
fn place(output: &str) -> String {
    let mut frames = String::new();
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    for pair in lines.windows(2) {
        let (function, line) = (pair[0], pair[1]);
        let is_foreign = line.starts_with("at ")
            && !["/rustc/", "/library/", "failing-memory/src"]
                .iter()
                .any(|known| line.contains(known));
        if is_foreign && frames.lines().count() < 8 {
            let name = function.split_once(": ").map_or(function, |(_, name)| name);
            let file = line.rsplit('/').take(3).collect::<Vec<_>>();
            let file: Vec<_> = file.into_iter().rev().collect();
            let _ = writeln!(frames, "    {name} {}", file.join("/"));
        }
    }
    frames
}

fn complaint(places: &[(String, u64)]) -> String {
    let mut text = format!(
        "{} allocations end the guest when they fail:\n",
        places.len()
    );
    for (place, trial) in places {
        let _ = writeln!(text, "  the {trial}th, in\n{place}");
    }
    text
}
