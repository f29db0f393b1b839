//! `cargo rekernel doctor`: what this machine can do, what is missing, and how to get it.

mod checks;
mod xen;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::json;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel doctor
  cargo rekernel doctor --json | jq -r '.checks[] | select(.state == \"missing\").advice'

Nothing is installed or changed. The exit code is 0 unless something is missing that
`cargo rekernel run` needs.";

/// How to tell.
#[derive(Args, Clone, Debug)]
pub struct DoctorArguments {
    /// Print a JSON object, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Examines this machine. The exit code is a failure where guests cannot be run.
///
/// # Errors
/// None at present: what cannot be found out is a finding, too.
pub fn command(arguments: &DoctorArguments) -> Result<ExitCode> {
    let findings = checks::all();
    let can_run = can_run(&findings);
    if arguments.json {
        let checks: Vec<_> = findings.iter().map(Finding::json).collect();
        json::line(&json!({ "can_run": can_run, "checks": checks }));
    } else {
        print!("{}", report(&findings));
    }
    Ok(match can_run {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// What was looked at.
    name: &'static str,
    /// Who needs it.
    needed_by: Need,
    /// How it is.
    state: State,
    /// What was found, in words.
    found: String,
    /// What to do about it, where something is to be done.
    advice: Option<String>,
}

/// Who needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Every build and every run.
    Run,
    /// `--on xen`.
    Lab,
    /// Some tests of rekernel itself.
    Tests,
    /// `cargo rekernel gdb`.
    Gdb,
    /// Nobody: good to know.
    Nothing,
}

impl Need {
    fn text(self) -> &'static str {
        match self {
            Self::Run => "build, run, test",
            Self::Lab => "--on xen",
            Self::Tests => "rekernel's own tests",
            Self::Gdb => "gdb",
            Self::Nothing => "for information",
        }
    }
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As it should be.
    Good,
    /// It works, but less well than it could.
    Limited,
    /// It does not work.
    Missing,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

impl Finding {
    fn good(name: &'static str, needed_by: Need, found: impl Into<String>) -> Self {
        Self {
            name,
            needed_by,
            state: State::Good,
            found: found.into(),
            advice: None,
        }
    }

    fn bad(
        name: &'static str,
        needed_by: Need,
        state: State,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..Self::good(name, needed_by, found)
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "needed_by": self.needed_by.text(),
            "state": self.state.text(),
            "found": self.found,
            "advice": self.advice,
        })
    }
}

fn can_run(findings: &[Finding]) -> bool {
    !findings
        .iter()
        .any(|finding| finding.needed_by == Need::Run && finding.state == State::Missing)
}

/// A line per finding, under a heading per need, advice below the finding.
fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for need in [Need::Run, Need::Lab, Need::Gdb, Need::Tests, Need::Nothing] {
        text.push_str(&format!("{}\n", need.text()));
        for finding in findings.iter().filter(|finding| finding.needed_by == need) {
            let (state, name) = (finding.state.text(), finding.name);
            text.push_str(&format!("  {state:<8} {name:<16} {}\n", finding.found));
            if let Some(advice) = &finding.advice {
                text.push_str(&format!("  {:<8} {:<16} -> {advice}\n", "", ""));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_run_needs_decides() {
        let lab = Finding::bad("apt", Need::Lab, State::Missing, "none", "use Debian");
        let slow = Finding::bad("kvm", Need::Run, State::Limited, "does not work", "use it");
        assert!(can_run(&[lab.clone(), slow.clone()]));
        let rust = Finding::bad("Rust", Need::Run, State::Missing, "1.80.0", "rustup update");
        assert!(!can_run(&[lab, slow, rust]));
    }

    #[test]
    fn the_report_has_the_advice_below_the_finding() {
        let findings = [
            Finding::good("QEMU", Need::Run, "7.2.22"),
            Finding::bad("apt", Need::Lab, State::Missing, "none", "use Debian"),
        ];
        let text = report(&findings);
        assert!(
            text.contains("  ok       QEMU             7.2.22\n"),
            "{text}"
        );
        assert!(text.contains("apt              none\n"), "{text}");
        assert!(text.contains("-> use Debian\n"), "{text}");
    }

    /// On whatever machine this runs: every check comes to an end and says something.
    #[test]
    fn this_machine_can_be_examined() {
        for finding in checks::all() {
            assert!(!finding.found.is_empty(), "{finding:?}");
            assert_eq!(
                finding.state != State::Good,
                finding.advice.is_some(),
                "{finding:?}"
            );
        }
    }
}
