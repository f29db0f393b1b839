//! What the tool says about its own work, on standard error and in cargo's manner.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// One line of progress: a right-aligned verb as cargo prints it, then what it acts on.
pub fn status(verb: &str, what: &str) {
    print_labelled(&format!("{verb:>12}"), GREEN, what);
}

/// Something the user should know although the work goes on.
pub fn warning(what: &str) {
    print_labelled("warning:", YELLOW, what);
}

/// Why the work ended.
pub fn error(what: &str) {
    print_labelled("error:", RED, what);
}

const GREEN: &str = "\x1b[1;32m";
const YELLOW: &str = "\x1b[1;33m";
const RED: &str = "\x1b[1;31m";

fn print_labelled(label: &str, colour: &str, what: &str) {
    // Colours only where a person looks; NO_COLOR is the common wish not to have them.
    if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        eprintln!("{colour}{label}\x1b[0m {what}");
    } else {
        eprintln!("{label} {what}");
    }
}

/// A size in bytes for people: `1.2 MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} bytes", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            _ => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
        }
    }
}

/// A duration for people: `340 ms`, `12.3 s`, `4 min 10 s`.
#[derive(Clone, Copy, Debug)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            milliseconds @ 0..1000 => write!(f, "{milliseconds} ms"),
            1000..120_000 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            _ => write!(
                f,
                "{} min {} s",
                self.0.as_secs() / 60,
                self.0.as_secs() % 60
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_their_units() {
        assert_eq!(Bytes(999).to_string(), "999 bytes");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(3 << 20).to_string(), "3.0 MiB");
        assert_eq!(Took(Duration::from_millis(340)).to_string(), "340 ms");
        assert_eq!(Took(Duration::from_millis(12_340)).to_string(), "12.3 s");
        assert_eq!(Took(Duration::from_secs(250)).to_string(), "4 min 10 s");
    }
}
