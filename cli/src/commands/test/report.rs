//! What is printed: the lines of `cargo test`, or JSON objects.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use serde_json::json;

use super::selection::Selection;
use crate::json;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should.
    Passed,
    /// Not so.
    Failed {
        /// Why: lines for people.
        reason: String,
    },
}

/// Collects verdicts and prints them.
pub(super) struct Report {
    json: bool,
    show_output: bool,
    started: Instant,
    running: String,
    passed: usize,
    failures: Vec<Section>,
    successes: Vec<Section>,
}

/// What is printed of one test at the end.
struct Section {
    name: String,
    text: String,
}

#[cfg(test)]
impl Report {
    /// The verdicts so far, by name: why a test failed, or nothing.
    pub(super) fn verdicts(&self) -> Vec<(String, Option<String>)> {
        let failed = |section: &Section| (section.name.clone(), Some(section.text.clone()));
        let passed = |section: &Section| (section.name.clone(), None);
        let failures = self.failures.iter().map(failed);
        let mut all: Vec<_> = failures.chain(self.successes.iter().map(passed)).collect();
        all.sort();
        all
    }
}

impl Report {
    pub(super) fn new(json: bool, show_output: bool) -> Self {
        Self {
            json,
            show_output,
            started: Instant::now(),
            running: String::new(),
            passed: 0,
            failures: Vec::new(),
            successes: Vec::new(),
        }
    }

    /// Prints the names only.
    pub(super) fn list(&self, selection: &Selection) {
        for test in &selection.chosen {
            match self.json {
                true => json::event("test", json!({ "name": test.name })),
                false => say(&format!("{}: test\n", test.name)),
            }
        }
        if !self.json {
            say(&format!("\n{}\n", counted(selection.chosen.len())));
        }
    }

    pub(super) fn begin(&self, selection: &Selection) {
        match self.json {
            true => json::event("begin", json!({ "tests": selection.chosen.len() })),
            false => say(&format!("\nrunning {}\n", counted(selection.chosen.len()))),
        }
    }

    pub(super) fn test_begins(&mut self, name: &str) {
        name.clone_into(&mut self.running);
        if !self.json {
            say(&format!("test {name} ... "));
        }
    }

    /// Takes the verdict over the test that began last, with what was on the console meanwhile.
    pub(super) fn test_ends(&mut self, verdict: Verdict, output: &str, took: Duration) {
        let name = std::mem::take(&mut self.running);
        let (word, reason) = match verdict {
            Verdict::Passed => ("ok", None),
            Verdict::Failed { reason } => ("FAILED", Some(reason)),
        };
        if self.json {
            json::event(
                "test",
                json!({
                    "name": name,
                    "passed": reason.is_none(),
                    "reason": reason,
                    "output": output,
                    "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                }),
            );
        } else {
            say(&format!("{word}\n"));
        }
        let parts = [output, reason.as_deref().unwrap_or("")];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let section = Section {
            name,
            text: parts.join("\n"),
        };
        match reason {
            Some(_) => self.failures.push(section),
            None => {
                self.passed += 1;
                self.successes.push(section);
            }
        }
    }

    /// Prints what failed and the counts. Says whether nothing failed.
    pub(super) fn end(&self, selection: &Selection) -> bool {
        let took = self.started.elapsed();
        let (passed, failed) = (self.passed, self.failures.len());
        if self.json {
            json::event(
                "end",
                json!({ "passed": passed, "failed": failed, "filtered_out": selection.filtered_out }),
            );
            return failed == 0;
        }
        if self.show_output {
            say(&sections("successes", &self.successes));
        }
        say(&sections("failures", &self.failures));
        let result = if failed == 0 { "ok" } else { "FAILED" };
        say(&format!(
            "\ntest result: {result}. {passed} passed; {failed} failed; {} filtered out; finished in {:.2}s\n\n",
            selection.filtered_out,
            took.as_secs_f64()
        ));
        failed == 0
    }
}

/// What tests said, then their names; nothing for no tests.
fn sections(heading: &str, sections: &[Section]) -> String {
    if sections.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{heading}:\n");
    for section in sections.iter().filter(|section| !section.text.is_empty()) {
        text.push_str(&format!("\n---- {} ----\n{}\n", section.name, section.text));
    }
    text.push_str(&format!("\n{heading}:\n"));
    for section in sections {
        text.push_str(&format!("    {}\n", section.name));
    }
    text
}

fn counted(tests: usize) -> String {
    match tests {
        1 => "1 test".to_owned(),
        _ => format!("{tests} tests"),
    }
}

/// Prints at once, also in the middle of a line. Whoever closed our output does not want it.
fn say(text: &str) {
    let mut output = stdout();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_with_its_output_and_its_name() {
        let mut report = Report::new(true, false);
        report.test_begins("a::works");
        report.test_ends(Verdict::Passed, "", Duration::ZERO);
        report.test_begins("a::breaks");
        let reason = "panic at a.rs:1:1: boom".to_owned();
        report.test_ends(Verdict::Failed { reason }, "said before", Duration::ZERO);
        assert_eq!(
            sections("failures", &report.failures),
            "\nfailures:\n\n---- a::breaks ----\nsaid before\npanic at a.rs:1:1: boom\n\nfailures:\n    a::breaks\n"
        );
        assert_eq!(sections("successes", &[]), "");
        let selection = Selection {
            chosen: Vec::new(),
            filtered_out: 0,
        };
        assert!(!report.end(&selection));
        assert_eq!(
            (report.passed, counted(1), counted(2)),
            (1, "1 test".into(), "2 tests".into())
        );
    }
}
