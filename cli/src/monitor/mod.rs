//! Asking a running guest: how questions reach it, and what its answers mean.
//!
//! The guest's side is `rekernel_core::monitor`. A question travels through xenstore to a guest on Xen
//! ([`dom0`]), through a second serial port to one under QEMU ([`serial`]). A guest that `cargo rekernel
//! run` has started is reached through a socket of that process ([`door`]), which only its user may open.

pub mod answer;
pub mod dom0;
pub mod door;
pub mod serial;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::console::printable;

pub use answer::Report;

/// How long an answer may take: the guest may have much to do, and its host, too.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A way to ask one guest.
pub trait Channel: Send {
    /// Sends a question and returns the guest's answer, first and last line included.
    ///
    /// # Errors
    /// Where the guest does not answer, or cannot be reached.
    fn exchange(&mut self, number: u64, command: &str) -> Result<String>;
}

/// Asks, and returns the lines of the answer.
///
/// # Errors
/// Where the guest does not answer, cannot be reached, or refuses.
pub fn ask(channel: &mut dyn Channel, command: &str) -> Result<Vec<String>> {
    let number = number();
    let text = channel.exchange(number, command)?;
    lines(number, &text)
}

/// A number that no other question has, as far as anybody could tell.
fn number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Short enough to be read by people who look at the nodes.
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000
}

/// The lines between the first and the last of an answer.
fn lines(number: u64, text: &str) -> Result<Vec<String>> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if let Some(problem) = first.strip_prefix(&format!("{number} error: ")) {
        bail!("the guest refuses: {}", printable(problem.as_bytes()));
    }
    if first != format!("{number} ok") {
        bail!("the guest's answer begins with {first:?}");
    }
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    match lines.pop() {
        Some(last) if is_last(number, &last) => Ok(lines),
        last => bail!(
            "the guest's answer ends with {:?}",
            last.unwrap_or_default()
        ),
    }
}

/// Whether a line ends the answer to a question of this number.
fn is_last(number: u64, line: &str) -> bool {
    let Some(rest) = line.strip_prefix(&number.to_string()) else {
        return false;
    };
    rest == " end" || rest.starts_with(" end: ") || rest.starts_with(" error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_answer_are_those_in_between() {
        assert_eq!(lines(7, "7 ok\na: b=1\n7 end\n").unwrap(), ["a: b=1"]);
        assert_eq!(
            lines(7, "7 ok\n7 end: the rest was left out").unwrap(),
            [""; 0]
        );
    }

    #[test]
    fn a_refusal_brings_no_escape_sequence_to_the_terminal() {
        let refusal = lines(7, "7 error: \u{1b}[31m").unwrap_err();
        assert_eq!(refusal.to_string(), "the guest refuses: \\u{1b}[31m");
    }

    #[test]
    fn refusals_and_torn_answers_are_errors() {
        let error = |text| lines(7, text).unwrap_err().to_string();
        assert!(error("7 error: unknown command \"x\"").contains("unknown command \"x\""));
        assert!(error("8 ok\n8 end").contains("8 ok"));
        assert!(error("7 ok\na: b=1").contains("a: b=1"));
        assert!(error("").contains("\"\""));
    }
}
