//! The socket by which other commands of the same user reach a guest that `run` has started.
//!
//! A command is a line; what comes back is the guest's answer, or a line `failed: WHY`.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::{Channel, LIMIT};
use crate::progress::warning;

/// Open for as long as it is not dropped.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
}

impl Door {
    /// Lets others ask the guest `name` through `channel`.
    ///
    /// # Errors
    /// Where there is no place for the socket that belongs to this user alone.
    pub fn open(name: &str, channel: Box<dyn Channel>) -> Result<Self> {
        Self::open_in(&folder()?, name, channel)
    }

    /// The door, if it opened. A guest runs all the same where it did not, which is told.
    pub fn or_warning(door: Result<Self>) -> Option<Self> {
        door.inspect_err(|error| {
            warning(&format!(
                "`cargo rekernel inspect` will not find this guest: {error:#}"
            ));
        })
        .ok()
    }

    fn open_in(folder: &Path, name: &str, mut channel: Box<dyn Channel>) -> Result<Self> {
        let path = folder.join(format!("{name}.{}", std::process::id()));
        // One of a dead process that had our number.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                // One that went away has no interest in the answer.
                let _ = serve(visitor, &mut *channel);
            }
        });
        Ok(Self { path })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A question is no longer than this.
const LONGEST_QUESTION: u64 = 1024;

fn serve(mut visitor: UnixStream, channel: &mut dyn Channel) -> Result<()> {
    visitor.set_read_timeout(Some(LIMIT))?;
    let mut line = String::new();
    BufReader::new((&visitor).take(LONGEST_QUESTION)).read_line(&mut line)?;
    let outcome = match line.trim().split_once(' ') {
        Some((number, command)) => number
            .parse()
            .context("a question begins with a number")
            .and_then(|number| channel.exchange(number, command)),
        None => Err(anyhow::anyhow!("a question is a number and a command")),
    };
    match outcome {
        Ok(answer) => visitor.write_all(answer.as_bytes())?,
        Err(error) => writeln!(visitor, "failed: {error:#}")?,
    }
    Ok(())
}

/// A guest that a process of this user runs.
#[derive(Debug)]
pub struct Visitor {
    path: PathBuf,
}

impl Visitor {
    /// Finds the guest; `process` tells one from others of the same name.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub fn find(name: &str, process: Option<u32>) -> Result<Self> {
        Self::find_in(&folder()?, name, process)
    }

    fn find_in(folder: &Path, name: &str, process: Option<u32>) -> Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)?.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some((guest, owner)) = file.rsplit_once('.') else {
                continue;
            };
            if guest != name || process.is_some_and(|wanted| owner != wanted.to_string()) {
                continue;
            }
            match UnixStream::connect(entry.path()) {
                Ok(_) => found.push((owner.to_owned(), entry.path())),
                // Its process ended without a chance to tidy up.
                Err(_) => drop(fs::remove_file(entry.path())),
            }
        }
        match found.as_slice() {
            [] => bail!(
                "no guest `{name}` of yours runs here. Start it with `cargo rekernel run {name}`, or say with \
                 --dom0 on which Xen host it is: local, HOST or USER@HOST"
            ),
            [(_, path)] => Ok(Self { path: path.clone() }),
            several => {
                let processes: Vec<_> = several.iter().map(|(owner, _)| owner.as_str()).collect();
                bail!(
                    "more than one guest `{name}` runs: say --process with one of {}",
                    processes.join(", ")
                )
            }
        }
    }
}

impl Channel for Visitor {
    fn exchange(&mut self, number: u64, command: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.path).context("the guest has ended")?;
        stream.set_read_timeout(Some(2 * LIMIT))?;
        writeln!(stream, "{number} {command}")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("the guest does not answer")?;
        match answer.strip_prefix("failed: ") {
            Some(why) => bail!("{}", why.trim()),
            None => Ok(answer),
        }
    }
}

/// The folder of these sockets: the user's own, which nobody else may enter.
fn folder() -> Result<PathBuf> {
    let own = fs::metadata("/proc/self")
        .context("/proc is not there")?
        .uid();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) => PathBuf::from(runtime).join("rekernel"),
        None => std::env::temp_dir().join(format!("rekernel-{own}")),
    };
    private(&folder, own)?;
    Ok(folder)
}

fn private(folder: &Path, own: u32) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("{} cannot be made", folder.display()));
        }
        _ => {}
    }
    // Where everybody may write somebody may have been faster.
    let metadata = fs::symlink_metadata(folder)?;
    ensure!(
        metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o077 == 0,
        "{} is not yours alone: remove it",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Echo;

    impl Channel for Echo {
        fn exchange(&mut self, number: u64, command: &str) -> Result<String> {
            ensure!(command != "fail", "as you wish");
            Ok(format!("{number} ok\ngot {command}: a=1\n{number} end\n"))
        }
    }

    #[test]
    fn a_guest_is_found_by_its_name_and_asked() {
        let folder = tempfile::tempdir().unwrap();
        let find = |name| Visitor::find_in(folder.path(), name, None);
        let error = find("http").unwrap_err().to_string();
        assert!(error.contains("--dom0"), "{error}");
        let door = Door::open_in(folder.path(), "http", Box::new(Echo)).unwrap();
        let mut visitor = find("http").unwrap();
        let lines = super::super::ask(&mut visitor, "log net=debug").unwrap();
        assert_eq!(lines, ["got log net=debug: a=1"]);
        let error = super::super::ask(&mut visitor, "fail").unwrap_err();
        assert!(error.to_string().contains("as you wish"), "{error}");
        assert!(find("other").is_err());
        drop(door);
        assert!(find("http").is_err());
    }

    #[test]
    fn of_several_one_has_to_be_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let _door = Door::open_in(folder.path(), "http", Box::new(Echo)).unwrap();
        let _other = UnixListener::bind(folder.path().join("http.1")).unwrap();
        let error = Visitor::find_in(folder.path(), "http", None).unwrap_err();
        assert!(error.to_string().contains("--process"), "{error}");
        assert!(Visitor::find_in(folder.path(), "http", Some(1)).is_ok());
        // What a dead process has left is no guest.
        drop(UnixListener::bind(folder.path().join("echo.2")).unwrap());
        assert!(Visitor::find_in(folder.path(), "echo", None).is_err());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let own = fs::metadata(folder.path()).unwrap().uid();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        private(folder.path(), own).unwrap();
        assert!(private(folder.path(), own + 1).is_err());
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(private(folder.path(), own).is_err());
    }
}
