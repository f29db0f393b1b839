//! The QEMU process, which must not outlive us.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Error, Result,
    command::{find, text_of},
    diagnosis::QEMU_LOG,
};

/// Owns the child process in a thread of its own.
///
/// The kernel is asked to kill QEMU when its parent dies, and takes "parent" to
/// be the thread that started it. So that thread lives as long as QEMU does.
#[derive(Debug)]
pub(crate) struct Keeper {
    end: mpsc::Sender<()>,
    process: u32,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts a command in `folder`, with its output going to a file in `logs`, and
    /// calls `ended` with what became of it.
    pub(crate) fn start(
        words: &[String],
        folder: &Path,
        logs: &Path,
        ended: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self> {
        let mut command = tied_to_us(words);
        let log = logs.join(QEMU_LOG);
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in a terminal is for us; we end QEMU in order.
            .process_group(0);
        let program = words[0].clone();
        let (end, ending) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let thread = thread::spawn(move || match command.spawn() {
            Ok(child) => {
                let _ = started.send(Ok(child.id()));
                ended(keep(child, &ending));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        let process = outcome
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
            .map_err(Error::file("start", program))?;
        Ok(Self {
            end,
            process,
            thread: Some(thread),
        })
    }

    /// The number of the process, which setpriv keeps.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Ends the process and waits until it is gone.
    pub(crate) fn end(&mut self) {
        // It has ended by itself if nobody receives.
        let _ = self.end.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// Has the command die with the thread that starts it, where util-linux's setpriv
/// can arrange that (an `unsafe` `pre_exec` could, too). Where it cannot, the
/// agent powers the machine off when it loses the control port.
fn tied_to_us(words: &[String]) -> Command {
    let tie = ["--pdeathsig", "KILL"];
    let setpriv = find("setpriv")
        .filter(|setpriv| text_of(Command::new(setpriv).args(tie).arg("true")).is_ok());
    let Some(setpriv) = setpriv else {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        return command;
    };
    let mut command = Command::new(setpriv);
    command.args(tie).arg("--").args(words);
    command
}

/// Waits for the child's end, or ends it when told to; says how it ended.
fn keep(mut child: Child, ending: &mpsc::Receiver<()>) -> String {
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return format!("QEMU ended ({status})"),
            Err(error) => return format!("QEMU was lost ({error})"),
        }
        match ending.recv_timeout(Duration::from_millis(20)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                // An error means that it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return "QEMU was ended".into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diagnosis::read_text, scratch::Scratch};

    /// A keeper of a shell script, and how it ended.
    fn keeper_of(script: &str, scratch: &Scratch) -> (Keeper, mpsc::Receiver<String>) {
        let words = ["sh", "-c", script].map(str::to_owned);
        let (sender, ended) = mpsc::channel();
        let keeper = Keeper::start(&words, Path::new("/"), scratch.path(), move |how| {
            sender.send(how).unwrap();
        });
        (keeper.unwrap(), ended)
    }

    fn is_running(pid: &str) -> bool {
        // A zombie would still have its folder.
        read_text(&Path::new("/proc").join(pid.trim()).join("stat"))
            .split(' ')
            .nth(2)
            .is_some_and(|state| state != "Z")
    }

    #[test]
    fn dropping_the_keeper_ends_the_process() {
        let scratch = Scratch::new("keeper").unwrap();
        let (keeper, ended) = keeper_of("echo $$; exec sleep 600", &scratch);
        let pid = loop {
            let text = read_text(&scratch.path().join(QEMU_LOG));
            if text.ends_with('\n') {
                break text;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(is_running(&pid));
        drop(keeper);
        assert!(!is_running(&pid));
        assert_eq!(ended.recv().unwrap(), "QEMU was ended");
    }

    #[test]
    fn the_process_does_not_depend_on_the_thread_that_asked_for_it() {
        let scratch = Scratch::new("keeper").unwrap();
        let (keeper, ended) = thread::scope(|scope| {
            let starting = scope.spawn(|| keeper_of("exec sleep 600", &scratch));
            starting.join().unwrap()
        });
        let outcome = ended.recv_timeout(Duration::from_millis(200));
        assert_eq!(outcome, Err(mpsc::RecvTimeoutError::Timeout));
        drop(keeper);
    }

    #[test]
    fn an_end_of_its_own_is_reported() {
        let scratch = Scratch::new("keeper").unwrap();
        let (_keeper, ended) = keeper_of("exit 3", &scratch);
        assert_eq!(ended.recv().unwrap(), "QEMU ended (exit status: 3)");
    }
}
