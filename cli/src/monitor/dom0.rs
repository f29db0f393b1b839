//! A guest on Xen is asked by a shell script in dom0, which writes and reads its xenstore nodes: only
//! dom0's root may, and nothing but Xen's own tools is needed there.

use std::io::Write;
use std::ops::Range;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Channel, LIMIT};

/// Runs scripts in a dom0.
pub trait Shell: Send {
    /// Runs `script` with `sh` and returns what it printed.
    ///
    /// # Errors
    /// What it said as errors, where it ends with another status than 0.
    fn run(&self, script: &str) -> Result<String>;
}

/// A domain of a dom0.
pub struct Domain<S: Shell> {
    shell: S,
    name: String,
}

impl<S: Shell> Domain<S> {
    /// The domain that xl calls `name`.
    ///
    /// # Errors
    /// Where that cannot be the name of a domain.
    pub fn new(shell: S, name: &str) -> Result<Self> {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.:+".contains(c);
        ensure!(
            !name.is_empty() && !name.starts_with('-') && name.chars().all(is_usual),
            "{name:?} is no name of a domain"
        );
        Ok(Self {
            shell,
            name: name.to_owned(),
        })
    }
}

impl<S: Shell> Channel for Domain<S> {
    fn exchange(&mut self, number: u64, command: &str) -> Result<String> {
        let printed = self.shell.run(&script(&self.name, number, command))?;
        Ok(unescaped(&printed))
    }
}

/// What `xenstore-read` has made printable, as it was: it prints `\n` for a line feed, and other bytes
/// that are no ASCII text as `\` with an octal or, after `x`, a hexadecimal number.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (value, length) = match rest {
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'r', ..] => (b'\r', 1),
            [b'x', ..] => number_in(rest, 1..3, 16),
            [b'0'..=b'7', ..] => number_in(rest, 0..3, 8),
            [other, ..] => (*other, 1),
            [] => (b'\\', 0),
        };
        bytes.push(value);
        rest = &rest[length..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number in these places, and how many bytes are done with then.
fn number_in(text: &[u8], places: Range<usize>, base: u32) -> (u8, usize) {
    let end = places.end;
    let digits = text
        .get(places)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    match digits.map(|digits| u8::from_str_radix(digits, base)) {
        Some(Ok(value)) => (value, end),
        // Nothing that xenstore-read prints.
        _ => (b'\\', 0),
    }
}

/// Asks through the nodes of `xen::questions`.
fn script(name: &str, number: u64, command: &str) -> String {
    let command = command.replace('\'', "");
    let tries = LIMIT.as_millis() / 100;
    // What the guest wrote is only ever a word of a comparison or an output.
    format!(
        "name='{name}'; number={number}
id=$(xl domid \"$name\") || exit 1
nodes=/local/domain/$id/data/rekernel
xenstore-write \"$nodes/question\" '{number} {command}' || exit 1
try=0
while :; do
  ending=$(xenstore-read \"$nodes/answer\" 2>/dev/null)
  [ \"${{ending%% *}}\" = \"$number\" ] && break
  try=$((try + 1))
  [ $try -lt {tries} ] || {{ echo \"domain $id does not answer\" >&2; exit 1; }}
  sleep 0.1
done
count=${{ending##* }}
case $count in [1-9] | [1-9][0-9]) ;; *) echo \"domain $id answers in '$count' pieces\" >&2; exit 1 ;; esac
set --; place=0
while [ $place -lt $count ]; do set -- \"$@\" \"$nodes/answer/$place\"; place=$((place + 1)); done
xenstore-read \"$@\"
"
    )
}

/// A dom0 that is reached with a program which runs a script from its standard input.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<String>,
}

impl Program {
    /// This machine, if `host` is `local`, else another one by `ssh`.
    ///
    /// # Errors
    /// Where ssh would take `host` for an option.
    pub fn reaching(host: &str) -> Result<Self> {
        ensure!(
            !host.is_empty() && !host.starts_with('-'),
            "{host:?} is no host: say local, HOST or USER@HOST"
        );
        let words: &[&str] = match host {
            "local" => &["sh", "-s"],
            host => &["ssh", "-o", "BatchMode=yes", host, "sh", "-s"],
        };
        Ok(Self {
            words: words.iter().map(|&word| word.to_owned()).collect(),
        })
    }
}

impl Shell for Program {
    fn run(&self, script: &str) -> Result<String> {
        let program = &self.words[0];
        let mut child = Command::new(program)
            .args(&self.words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} could not be started"))?;
        let mut input = child.stdin.take().context("no input")?;
        // A program that ends early says why below.
        let _ = input.write_all(script.as_bytes());
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed: {}", self.words.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// xenstore as files below a folder; the answer is there already.
    fn host() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let tools = [
            (
                "xl",
                "#!/bin/sh\n[ \"$2\" = http ] || { echo 'no domain' >&2; exit 1; }\necho 5\n"
                    .to_owned(),
            ),
            (
                "xenstore-write",
                format!(
                    "#!/bin/sh\nmkdir -p \"{path}$(dirname $1)\"; printf %s \"$2\" > \"{path}$1\"\n"
                ),
            ),
            (
                "xenstore-read",
                format!(
                    "#!/bin/sh\nfor node; do cat \"{path}$node.value\" || exit 1; echo; done\n"
                ),
            ),
        ];
        for (name, text) in tools {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        folder
    }

    struct FakeHost<'a>(&'a tempfile::TempDir);

    impl Shell for FakeHost<'_> {
        fn run(&self, script: &str) -> Result<String> {
            let path = format!("PATH={}:$PATH\n", self.0.path().display());
            Program::reaching("local")?.run(&(path + script))
        }
    }

    fn answer(host: &tempfile::TempDir, ending: &str, pieces: &[&str]) {
        let nodes = host.path().join("local/domain/5/data/rekernel/answer");
        std::fs::create_dir_all(&nodes).unwrap();
        std::fs::write(nodes.with_extension("value"), ending).unwrap();
        for (place, piece) in pieces.iter().enumerate() {
            // As the real one prints it.
            let printed = piece.replace('\\', "\\\\").replace('\n', "\\n");
            std::fs::write(nodes.join(format!("{place}.value")), printed).unwrap();
        }
    }

    #[test]
    fn pieces_are_put_together() {
        let host = host();
        answer(&host, "7 2", &["7 ok\na: b=\"\\\"\"", "c: d=2\n7 end"]);
        let mut domain = Domain::new(FakeHost(&host), "http").unwrap();
        assert_eq!(
            domain.exchange(7, "inspect").unwrap(),
            "7 ok\na: b=\"\\\"\"\nc: d=2\n7 end\n"
        );
        let question = host.path().join("local/domain/5/data/rekernel/question");
        assert_eq!(std::fs::read_to_string(question).unwrap(), "7 inspect");
    }

    #[test]
    fn what_was_made_printable_is_as_it_was() {
        for (printed, text) in [
            ("plain", "plain"),
            (r"a\nb\\n\t", "a\nb\\n\t"),
            (r"caf\xc3\xa9 \001\x", "café \u{1}\\x"),
            (r"\", "\\"),
            (r"\xzz\9", "\\xzz9"),
        ] {
            assert_eq!(unescaped(printed), text);
        }
    }

    #[test]
    fn what_a_guest_writes_does_nothing_in_the_shell() {
        let host = host();
        let trap = host.path().join("trap");
        for count in ["$(touch trap)", "1; touch trap", "", "999", "*"] {
            let count = count.replace("trap", &trap.display().to_string());
            answer(&host, &format!("7 {count}"), &["7 ok"]);
            let mut domain = Domain::new(FakeHost(&host), "http").unwrap();
            assert!(domain.exchange(7, "inspect").is_err(), "{count}");
        }
        assert!(!trap.exists());
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let host = host();
        for name in ["", "-x", "a b", "a'; reboot; '", "$(x)"] {
            assert!(Domain::new(FakeHost(&host), name).is_err(), "{name}");
        }
        let error = Domain::new(FakeHost(&host), "other")
            .unwrap()
            .exchange(7, "inspect")
            .unwrap_err();
        assert!(error.to_string().contains("no domain"), "{error}");
        assert!(Program::reaching("-oProxyCommand=x").is_err());
    }
}
