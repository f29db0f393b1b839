//! Running the host's own programs, with errors that show what was run.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, Result};

/// Runs a command to its end and returns its standard output.
pub(crate) fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(command, error.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut wrote = last_lines(&String::from_utf8_lossy(&output.stderr), 6);
    if wrote.is_empty() {
        wrote = last_lines(&String::from_utf8_lossy(&output.stdout), 6);
    }
    Err(failed(
        command,
        format!("{}: {}", output.status, wrote.join(" / ")),
    ))
}

/// Like [`output_of`], as text.
pub(crate) fn text_of(command: &mut Command) -> Result<String> {
    output_of(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The error for a command that could not run or did not succeed.
fn failed(command: &Command, reason: String) -> Error {
    Error::Command {
        command: shown(command),
        reason,
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell needs it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%~^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Where a command is found on the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Tools for administrators are often not on a user's path.
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The last `count` lines that are not blank, without the control characters that
/// consoles are fond of.
pub(crate) fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            line.trim_end()
                .chars()
                .filter(|c| !c.is_control())
                .collect()
        })
        .filter(|line: &String| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_what_it_wrote() {
        let error = text_of(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`sh -c 'echo no such luck"), "{text}");
        assert!(
            text.contains("status: 3") && text.contains(": no such luck"),
            "{text}"
        );
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error() {
        let error = text_of(&mut Command::new("rekernel-no-such-command")).unwrap_err();
        assert!(error.to_string().contains("rekernel-no-such-command"));
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("pkg=1:7.2+b1"), "pkg=1:7.2+b1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn last_lines_skips_blanks_and_controls() {
        assert_eq!(
            last_lines("a\n\nb\r\n\x1b[0mc\n\n", 2),
            ["b".to_string(), "[0mc".into()]
        );
        assert!(last_lines("", 5).is_empty());
    }
}
