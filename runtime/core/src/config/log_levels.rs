//! What to log: a level, and levels of single targets.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use log::LevelFilter;

/// The levels that `log=` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    default: LevelFilter,
    targets: Vec<(String, LevelFilter)>,
}

impl LogLevels {
    /// The level of messages for `target`: that of the longest configured target which is
    /// `target` itself or a module around it, else the default.
    pub fn level(&self, target: &str) -> LevelFilter {
        self.targets
            .iter()
            .filter(|(prefix, _)| is_within(target, prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .map_or(self.default, |(_, level)| *level)
    }

    /// The most talkative level of all: what to give `log::set_max_level`.
    pub fn most_verbose(&self) -> LevelFilter {
        self.targets
            .iter()
            .map(|(_, level)| *level)
            .fold(self.default, Ord::max)
    }

    /// Reads `debug` or `info,net=debug`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Self::default();
        for word in text.split(',') {
            match word.split_once('=') {
                Some((target, level)) if !target.is_empty() => {
                    levels
                        .targets
                        .push((target.to_owned(), parse_level(level)?));
                }
                Some(_) => return Err(format!("{word:?} names no log target")),
                None => levels.default = parse_level(word)?,
            }
        }
        Ok(levels)
    }
}

/// As [`parse`](LogLevels::parse) reads it.
impl fmt::Display for LogLevels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", Lower(self.default))?;
        for (target, level) in &self.targets {
            write!(formatter, ",{target}={}", Lower(*level))?;
        }
        Ok(())
    }
}

/// A level in lower case.
struct Lower(LevelFilter);

impl fmt::Display for Lower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.as_str().chars();
        letters
            .map(|letter| letter.to_ascii_lowercase())
            .try_for_each(|letter| formatter.write_char(letter))
    }
}

impl Default for LogLevels {
    fn default() -> Self {
        Self {
            default: LevelFilter::Info,
            targets: Vec::new(),
        }
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is none of off, error, warn, info, debug, trace"))
}

fn is_within(target: &str, prefix: &str) -> bool {
    match target.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with("::"),
        None => false,
    }
}
