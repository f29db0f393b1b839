//! Verdicts of single checks and the table at the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use cargo_rekernel::progress::{self, Took, status};
use clap::ValueEnum;

/// Where a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting, lints, documentation and the crates' own tests
    Host,
    /// Guests booted under QEMU
    Qemu,
    /// Guests created on a real Xen
    Xen,
    /// What the operator of a Xen host does to a guest
    Life,
}

impl Tier {
    pub(crate) const ALL: [Self; 4] = [Self::Host, Self::Qemu, Self::Xen, Self::Life];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Qemu => "qemu",
            Self::Xen => "xen",
            Self::Life => "life",
        }
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Every check of this run, in order.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    tier: Tier,
    name: String,
    verdict: Verdict,
    took: Duration,
}

impl Summary {
    /// Runs one check and notes its verdict; returns whether it passed.
    pub(crate) fn check(
        &mut self,
        tier: Tier,
        name: &str,
        body: impl FnOnce() -> Result<()>,
    ) -> bool {
        let started = Instant::now();
        let outcome = body();
        let took = started.elapsed();
        let passed = outcome.is_ok();
        let verdict = match outcome {
            Ok(()) => {
                status(
                    "Passed",
                    &format!("{}: {name} ({})", tier.name(), Took(took)),
                );
                Verdict::Passed
            }
            Err(error) => {
                progress::error(&format!(
                    "{}: {name} failed after {}: {error:#}",
                    tier.name(),
                    Took(took)
                ));
                Verdict::Failed(format!("{error:#}"))
            }
        };
        self.entries.push(Entry {
            tier,
            name: name.to_owned(),
            verdict,
            took,
        });
        passed
    }

    /// Notes that a check, or a whole tier, did not run.
    pub(crate) fn skip(&mut self, tier: Tier, name: &str, why: &str) {
        let verdict = Verdict::Skipped(why.to_owned());
        self.entries.push(Entry {
            tier,
            name: name.to_owned(),
            verdict,
            took: Duration::ZERO,
        });
    }

    /// Takes over what another thread has checked; each tier stays in one piece.
    pub(crate) fn append(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.entries.sort_by_key(|entry| entry.tier);
    }

    /// Whether a boot test with `text` in its name ran or said why it did not.
    pub(crate) fn has_check_named(&self, text: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.tier != Tier::Host && entry.name.contains(text))
    }

    /// Whether the run as a whole is a success: something passed and nothing failed.
    pub(crate) fn succeeded(&self) -> bool {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_))) == 0
            && self.count(|verdict| matches!(verdict, Verdict::Passed)) > 0
    }

    /// The table: every check, then the reasons, then the counts.
    pub(crate) fn table(&self) -> String {
        let width = self
            .entries
            .iter()
            .map(|entry| entry.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for entry in &self.entries {
            let (word, reason) = match &entry.verdict {
                Verdict::Passed => ("passed", String::new()),
                // The whole reason was shown when it happened; here it is a reminder.
                Verdict::Failed(reason) => ("FAILED", first_line(reason)),
                Verdict::Skipped(why) => ("skipped", first_line(why)),
            };
            let took = match &entry.verdict {
                Verdict::Skipped(_) => String::new(),
                _ => Took(entry.took).to_string(),
            };
            let row = format!(
                "{:<5} {:<width$}  {word:<7}  {took:>12}  {reason}",
                entry.tier.name(),
                entry.name
            );
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", row.trim_end());
        }
        text
    }

    /// The counts, as the last line of a run: `12 passed, 0 failed` and perhaps `, 1 skipped`.
    pub(crate) fn counts(&self) -> String {
        let passed = self.count(|verdict| matches!(verdict, Verdict::Passed));
        let failed = self.count(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        let skipped = if skipped > 0 {
            format!(", {skipped} skipped")
        } else {
            String::new()
        };
        format!("{passed} passed, {failed} failed{skipped}")
    }

    fn count(&self, matches: impl Fn(&Verdict) -> bool) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches(&entry.verdict))
            .count()
    }
}

fn first_line(text: &str) -> String {
    const LONGEST: usize = 100;
    let line = text.lines().next().unwrap_or("");
    match line.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn one_failure_fails_the_run_and_is_in_the_table() {
        let mut summary = Summary::default();
        assert!(!summary.succeeded(), "nothing ran: that is no success");
        assert!(summary.check(Tier::Host, "first", || Ok(())));
        assert!(summary.succeeded());
        assert!(!summary.check(Tier::Qemu, "second", || bail!("waited for x\nlast lines")));
        summary.skip(Tier::Xen, "all", "not asked for");
        assert!(!summary.succeeded());
        let table = summary.table();
        assert!(table.contains("qemu  second  FAILED"), "{table}");
        assert!(
            table.contains("waited for x\n") && !table.contains("last lines"),
            "{table}"
        );
        assert!(table.contains("not asked for"), "{table}");
        assert_eq!(summary.counts(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn what_two_threads_checked_stands_by_tier() {
        let mut summary = Summary::default();
        summary.check(Tier::Host, "first", || Ok(()));
        summary.check(Tier::Life, "fourth", || Ok(()));
        let mut other = Summary::default();
        other.check(Tier::Qemu, "second", || Ok(()));
        other.check(Tier::Life, "third", || bail!("no"));
        summary.append(other);
        let rows: Vec<_> = summary.entries.iter().map(|row| &*row.name).collect();
        assert_eq!(rows, ["first", "second", "fourth", "third"]);
        assert!(!summary.succeeded());
    }

    #[test]
    fn a_skipped_tier_alone_is_no_success() {
        let mut summary = Summary::default();
        summary.skip(Tier::Xen, "all", "no reason");
        assert!(!summary.succeeded());
        assert_eq!(summary.counts(), "0 passed, 0 failed, 1 skipped");
    }
}
