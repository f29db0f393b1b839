//! What an operator asks of a running guest, and how the answer looks.
//!
//! A question is a line, `NUMBER COMMAND`; the number is the asker's choice and tells the answer to
//! it from others. The answer is lines:
//!
//! ```text
//! 17 ok
//! memory heap: used_kib=812 total_kib=61440
//! 17 end
//! ```
//!
//! or just `17 error: WHY`. How lines travel depends on the platform: xenstore nodes that none but the
//! host can write, or a second serial port. Nothing of this is on the network.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::config::LogLevels;

/// Bytes of an answer, at most; what does not fit is left out, which its last line says.
pub const LONGEST_ANSWER: usize = 32 * 1024;

/// A question of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// What the answer is to begin and end with.
    pub number: u64,
    /// What is wanted, or why that cannot be understood.
    pub command: Result<Command, BadCommand<'a>>,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A report on everything.
    Inspect,
    /// The levels of the log as they are.
    ShowLog,
    /// Other levels of the log, from now on.
    SetLog(LogLevels),
}

/// Why a command is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCommand<'a> {
    /// There is no command of this name.
    Unknown(&'a str),
    /// The levels for the log are none.
    Levels(String),
}

impl<'a> Question<'a> {
    /// Takes a line apart. `None` if it does not begin with a number: there is nobody to answer.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (number, command) = line.trim().split_once(' ')?;
        Some(Self {
            number: number.parse().ok()?,
            command: Command::parse(command.trim()),
        })
    }
}

impl Command {
    fn parse(text: &str) -> Result<Self, BadCommand<'_>> {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("inspect", "") => Ok(Self::Inspect),
            ("log", "") => Ok(Self::ShowLog),
            ("log", levels) => match LogLevels::parse(levels) {
                Ok(levels) => Ok(Self::SetLog(levels)),
                Err(problem) => Err(BadCommand::Levels(problem)),
            },
            _ => Err(BadCommand::Unknown(text)),
        }
    }
}

impl fmt::Display for BadCommand<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                formatter,
                "unknown command {text:?}; known are inspect, log, log LEVELS"
            ),
            Self::Levels(problem) => formatter.write_str(problem),
        }
    }
}

impl core::error::Error for BadCommand<'_> {}

/// An answer while it is written.
#[derive(Debug)]
pub struct Answer {
    number: u64,
    text: String,
    is_cut: bool,
}

/// Room for the last lines.
const ENDING: usize = 64;

impl Answer {
    /// An answer to the question of this number, without lines.
    pub fn new(number: u64) -> Self {
        let mut answer = Self {
            number,
            text: String::new(),
            is_cut: false,
        };
        answer.line(format_args!("{number} ok"));
        answer
    }

    /// Adds a line. Where there is no memory or no room for it, it and what follows are left out.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.is_cut {
            return;
        }
        let before = self.text.len();
        let mut bounded = Bounded(&mut self.text);
        if writeln!(bounded, "{line}").is_err() {
            self.text.truncate(before);
            self.is_cut = true;
        }
    }

    /// The whole.
    pub fn finish(mut self) -> String {
        let cut = match self.is_cut {
            true => ": the rest was left out",
            false => "",
        };
        // Bounded, like the rest, should there be no memory at all.
        if self.text.try_reserve(ENDING).is_ok() {
            let _ = writeln!(self.text, "{} end{cut}", self.number);
        }
        self.text
    }

    /// The answer to a question that makes no sense.
    pub fn refusal(number: u64, problem: &dyn fmt::Display) -> String {
        let mut text = String::new();
        let _ = writeln!(Bounded(&mut text), "{number} error: {problem}");
        text
    }
}

/// A text that grows no longer than it may, and only where there is memory.
struct Bounded<'a>(&'a mut String);

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = self.0.len() + text.len() + ENDING <= LONGEST_ANSWER;
        if !fits || self.0.try_reserve(text.len()).is_err() {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn command(line: &str) -> Result<Command, String> {
        let question = Question::parse(line).unwrap();
        assert_eq!(question.number, 17);
        question.command.map_err(|problem| problem.to_string())
    }

    #[test]
    fn questions_are_understood() {
        assert_eq!(command("17 inspect"), Ok(Command::Inspect));
        assert_eq!(command(" 17  inspect \r"), Ok(Command::Inspect));
        assert_eq!(command("17 log"), Ok(Command::ShowLog));
        let levels = LogLevels::parse("info,net=debug").unwrap();
        assert_eq!(
            command("17 log info,net=debug"),
            Ok(Command::SetLog(levels))
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(command("17 reboot").unwrap_err().contains("\"reboot\""));
        assert!(command("17 inspect all").is_err());
        assert!(command("17 log loud").unwrap_err().contains("\"loud\""));
        for line in ["", "17", "inspect", "-1 inspect", "x inspect"] {
            assert_eq!(Question::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_answer_says_where_it_begins_and_ends() {
        let mut answer = Answer::new(17);
        answer.line(format_args!("memory heap: used_kib={}", 3));
        assert_eq!(answer.finish(), "17 ok\nmemory heap: used_kib=3\n17 end\n");
        assert_eq!(Answer::refusal(17, &"no"), "17 error: no\n");
    }

    #[test]
    fn an_answer_is_bounded_and_says_so() {
        let mut answer = Answer::new(17);
        for number in 0..LONGEST_ANSWER {
            answer.line(format_args!("line {number}"));
        }
        let text = answer.finish();
        assert!(text.len() <= LONGEST_ANSWER);
        assert!(text.ends_with("\n17 end: the rest was left out\n"));
        // Whole lines only.
        assert!(
            text.lines()
                .all(|line| line.starts_with("line ") || line.starts_with("17 "))
        );
    }
}
