//! The commands of the book (`docs/book`), as a reader types them.
//!
//! Each block of shell commands says in its info string where it runs:
//!
//! - `sh host`: on this machine, in the workspace. The blocks of a chapter run in their order; `SCRATCH` is a folder of
//!   the chapter's own, and 8080 stands for a port that is free.
//! - `sh host until "TEXT"`: one `cargo rekernel` command that goes on. It is awaited until it prints the text, and
//!   ended before the next such block, or with the chapter.
//! - `sh dom0`: in dom0 of the lab, in a folder with `http` and its `rekernel.cfg`.
//! - `sh not run: WHY`: for a reader only. The reason is in the table of the tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_rekernel::progress::status;

use crate::command::{BUILD_LIMIT, Cli, free_port};
use crate::guests::workspace;

/// Where a block runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    /// On this machine, until it has printed this.
    HostUntil(String),
    Dom0,
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// Some commands of a chapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Number of its first line in the chapter.
    line: usize,
    pub(crate) place: Place,
    pub(crate) script: String,
}

/// A file of the book.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    /// Its path from the book's folder.
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
}

/// The chapters that `SUMMARY.md` names, in its order.
pub(crate) fn chapters() -> Result<Vec<Chapter>> {
    let folder = workspace().join("docs/book");
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))
    };
    let summary = read("SUMMARY.md")?;
    let names = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0));
    names
        .map(|name| {
            let blocks = blocks(&read(name)?).with_context(|| name.to_owned())?;
            let name = name.to_owned();
            Ok(Chapter { name, blocks })
        })
        .collect()
}

/// The blocks of commands in a text of Markdown.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(information) = line.strip_prefix("```") else {
            continue;
        };
        let script: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        let Some(place) = information.strip_prefix("sh") else {
            continue;
        };
        found.push(Block {
            line: number + 2,
            place: Place::parse(place.trim()).with_context(|| format!("line {}", number + 1))?,
            script: script.join("\n"),
        });
    }
    Ok(found)
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let until = text.strip_prefix("host until \"");
        Ok(match (text, until, text.strip_prefix("not run: ")) {
            ("host", ..) => Self::Host,
            ("dom0", ..) => Self::Dom0,
            (_, Some(rest), _) => {
                let text = rest.strip_suffix('"').context("a quote is missing")?;
                Self::HostUntil(text.to_owned())
            }
            (_, _, Some(reason)) if !reason.is_empty() => Self::Nowhere(reason.to_owned()),
            _ => bail!(
                "`sh {text}` does not say where it runs: host, host until \"TEXT\", dom0, or not run: WHY"
            ),
        })
    }
}

impl Chapter {
    /// What is not run, and why.
    pub(crate) fn not_run(&self) -> impl Iterator<Item = (String, &str)> {
        self.blocks.iter().filter_map(|block| match &block.place {
            Place::Nowhere(reason) => {
                Some((format!("book: {}:{}", self.name, block.line), &**reason))
            }
            _ => None,
        })
    }

    /// Whether it has commands for this machine.
    pub(crate) fn is_for_host(&self) -> bool {
        let mut places = self.blocks.iter().map(|block| &block.place);
        places.any(|place| matches!(place, Place::Host | Place::HostUntil(_)))
    }

    /// Its blocks for dom0, each with its place in the book.
    pub(crate) fn for_dom0(&self) -> impl Iterator<Item = (String, &str)> {
        self.blocks
            .iter()
            .filter(|block| block.place == Place::Dom0)
            .map(|block| (format!("{}:{}", self.name, block.line), &*block.script))
    }

    /// Runs its blocks for this machine.
    pub(crate) fn run_on_host(&self) -> Result<()> {
        let why = "the book asks guests with it";
        lab::packages::ensure(&["curl"], why, &|line| status("Installing", line))?;
        let scratch = tempfile::tempdir()?;
        let port = free_port()?.to_string();
        let mut running: Option<Cli> = None;
        for block in &self.blocks {
            let script = block.script.replace("8080", &port);
            let outcome = match &block.place {
                Place::Host => run(&script, scratch.path()),
                Place::HostUntil(text) => {
                    // It has to be gone before the next one takes its port.
                    running.take().map_or(Ok(()), end)?;
                    start(&script, text, scratch.path()).map(|cli| running = Some(cli))
                }
                Place::Dom0 | Place::Nowhere(_) => Ok(()),
            };
            outcome.with_context(|| format!("{}:{}", self.name, block.line))?;
        }
        running.map_or(Ok(()), end)
    }
}

/// Where commands of a chapter find each other's guests, and no others.
fn environment(scratch: &Path) -> [(&'static str, &Path); 2] {
    [("SCRATCH", scratch), ("XDG_RUNTIME_DIR", scratch)]
}

fn run(script: &str, scratch: &Path) -> Result<()> {
    let limit = BUILD_LIMIT.as_secs().to_string();
    let output = Command::new("timeout")
        .args([&limit, "bash", "-euo", "pipefail", "-c", script])
        .envs(environment(scratch))
        .current_dir(workspace())
        .output()?;
    let said = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy);
    ensure!(
        output.status.success(),
        "`{script}` ended with {}: {}",
        output.status,
        said.concat()
    );
    Ok(())
}

fn start(script: &str, text: &str, scratch: &Path) -> Result<Cli> {
    let words: Vec<&str> = script.split_whitespace().collect();
    let ["cargo", "rekernel", arguments @ ..] = &*words else {
        bail!("`{script}` is not one command of cargo rekernel");
    };
    let mut cli = Cli::start_with(&workspace(), arguments, &environment(scratch))?;
    cli.wait_for(text, BUILD_LIMIT)?;
    Ok(cli)
}

/// Ctrl-C, after which all has to be well.
fn end(cli: Cli) -> Result<()> {
    cli.interrupt()?;
    let outcome = cli.wait(BUILD_LIMIT)?;
    ensure!(outcome.success, "after Ctrl-C: {outcome}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_the_book_says_where_it_runs() {
        let chapters = chapters().unwrap();
        let count = |wanted: fn(&Place) -> bool| {
            let blocks = chapters.iter().flat_map(|chapter| &chapter.blocks);
            blocks.filter(|block| wanted(&block.place)).count()
        };
        assert!(count(|place| *place == Place::Host) > 0);
        assert!(count(|place| *place == Place::Dom0) > 0);
        assert!(count(|place| matches!(place, Place::HostUntil(_))) > 0);
        // No file of the folder is left out of the summary.
        let mut files = 0;
        for folder in ["", "getting-started", "operating"] {
            for entry in fs::read_dir(workspace().join("docs/book").join(folder)).unwrap() {
                let name = entry.unwrap().file_name();
                files += usize::from(name.to_string_lossy().ends_with(".md"));
            }
        }
        assert_eq!(files, chapters.len() + 1);
    }

    #[test]
    fn blocks_are_found_with_their_places() {
        let text = "a\n```sh host\none\ntwo\n```\n```rust\nlet x;\n```\n```sh not run: no host\nthree\n```\n";
        let block = |line, place, script: &str| Block {
            line,
            place,
            script: script.to_owned(),
        };
        assert_eq!(
            blocks(text).unwrap(),
            [
                block(3, Place::Host, "one\ntwo"),
                block(10, Place::Nowhere("no host".to_owned()), "three"),
            ]
        );
        let place = Place::parse("host until \"it is ready\"").unwrap();
        assert_eq!(place, Place::HostUntil("it is ready".to_owned()));
        for text in [
            "",
            "host until ready",
            "domU",
            "not run: ",
            "host until \"x",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
