//! The QEMU process: started, watched, talked to over its control port, and
//! ended, whatever happens to us.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    BootOptions, Diagnosis, Error, Result,
    command::{find, last_lines, text_of},
    qemu::{Qemu, RunFiles},
    scratch::Scratch,
};

/// A running QEMU. Dropping it ends the process and removes its files.
#[derive(Debug)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
    control: Mutex<UnixStream>,
    keeper: Keeper,
    reader: Option<JoinHandle<()>>,
    keep_logs: Option<PathBuf>,
    scratch: Scratch,
}

impl Machine {
    pub(crate) fn start(qemu: &Qemu, prepared: &Path, options: &BootOptions) -> Result<Self> {
        let scratch = Scratch::new("run")?;
        let folder = scratch.path();
        let share = folder.join("share");
        for name in ["steps", "transfer", "consoles"] {
            let path = share.join(name);
            fs::create_dir_all(&path).map_err(Error::file("create", path))?;
        }
        let files = RunFiles {
            control: folder.join("control"),
            serial: folder.join(SERIAL),
            share,
        };
        let listener =
            UnixListener::bind(&files.control).map_err(Error::file("listen on", &files.control))?;
        let shared = Arc::new(Shared::default());
        let command = qemu.command(options, &files);
        let keeper = Keeper::start(&command, prepared, folder, Arc::clone(&shared))?;
        let control = accept(&listener, &shared, folder)?;
        let reading = control
            .try_clone()
            .map_err(Error::file("open", &files.control))?;
        let state = Arc::clone(&shared);
        let reader = thread::spawn(move || read_reports(reading, &state));
        let machine = Self {
            shared,
            control: Mutex::new(control),
            keeper,
            reader: Some(reader),
            keep_logs: options.keep_logs.clone(),
            scratch,
        };
        // dom0 waits for the first line, so that it does not wait for a dead end.
        machine.order("hello")?;
        Ok(machine)
    }

    /// The folder shared with dom0.
    pub(crate) fn share(&self) -> PathBuf {
        self.scratch.path().join("share")
    }

    /// What the serial console holds so far.
    pub(crate) fn serial(&self) -> String {
        read_text(&self.scratch.path().join(SERIAL))
    }

    pub(crate) fn wait_until_ready(&self, limit: Duration, progress: &dyn Fn(&str)) -> Result<()> {
        let mut told = None;
        self.wait("dom0 to be ready", limit, |state| {
            if told != state.stage {
                told.clone_from(&state.stage);
                progress(&format!("dom0: {}", told.as_deref().unwrap_or_default()));
            }
            state.ready.then_some(())
        })
    }

    /// Gives the agent an order.
    pub(crate) fn order(&self, order: &str) -> Result<()> {
        let mut control = lock(&self.control);
        control
            .write_all(format!("{order}\n").as_bytes())
            .map_err(|error| Error::Stopped {
                waited_for: format!("dom0 to take the order `{order}`"),
                reason: format!("the control port is closed ({error})"),
                diagnosis: Box::new(self.diagnosis()),
            })
    }

    /// Waits until `done` gives a value, dom0 or QEMU fails, or `limit` passes.
    pub(crate) fn wait<T>(
        &self,
        waited_for: &str,
        limit: Duration,
        mut done: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(value) = done(&mut state) {
                return Ok(value);
            }
            let failure = state.failed.clone().or_else(|| state.ended.clone());
            let left = deadline.saturating_duration_since(Instant::now());
            if failure.is_none() && !left.is_zero() {
                let waited = self.shared.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(state);
            let diagnosis = Box::new(self.diagnosis());
            let waited_for = waited_for.to_owned();
            return Err(match failure {
                Some(reason) => Error::Stopped {
                    waited_for,
                    reason,
                    diagnosis,
                },
                None => Error::TimedOut {
                    waited_for,
                    limit,
                    diagnosis,
                },
            });
        }
    }

    /// How QEMU ended, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        lock(&self.shared.state).ended.clone()
    }

    pub(crate) fn diagnosis(&self) -> Diagnosis {
        diagnosis(&self.shared, self.scratch.path())
    }

    fn save_logs(&self, target: &Path) -> io::Result<()> {
        fs::create_dir_all(target)?;
        let consoles = self.share().join("consoles");
        let guests = fs::read_dir(consoles)?.flatten().map(|entry| entry.path());
        let own = [SERIAL, QEMU_LOG].map(|name| self.scratch.path().join(name));
        for file in own.into_iter().chain(guests) {
            fs::copy(&file, target.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.keeper.end();
        if let Some(reader) = self.reader.take() {
            // It ends with QEMU's side of the control port.
            let _ = reader.join();
        }
        if let Some(target) = &self.keep_logs
            && let Err(error) = self.save_logs(target)
        {
            eprintln!(
                "cannot keep the lab's logs in {}: {error}",
                target.display()
            );
        }
    }
}

const SERIAL: &str = "xen-console.log";
const QEMU_LOG: &str = "qemu.log";

/// What the threads of a machine share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }
}

/// What is known about a machine from its reports.
#[derive(Debug, Default)]
pub(crate) struct State {
    stage: Option<String>,
    ready: bool,
    /// What dom0's start-up could not do.
    failed: Option<String>,
    /// How QEMU ended.
    ended: Option<String>,
    /// Exit status of steps that ended and were not asked about yet.
    done: HashMap<u64, i32>,
}

impl State {
    /// The exit status of a step, once.
    pub(crate) fn take_status(&mut self, step: u64) -> Option<i32> {
        self.done.remove(&step)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Takes in a line from the control port. Lines that make no sense are
    /// dropped: a step's output cannot get here.
    fn report(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "stage" => self.stage = Some(rest.to_owned()),
            "failed" => self.failed = Some(format!("dom0's start-up failed at: {rest}")),
            "ready" => self.ready = true,
            "done" => {
                let mut numbers = rest.split(' ');
                let step = numbers.next().and_then(|text| text.parse().ok());
                let status = numbers.next().and_then(|text| text.parse().ok());
                if let (Some(step), Some(status)) = (step, status) {
                    self.done.insert(step, status);
                }
            }
            _ => {}
        }
    }
}

fn read_reports(control: UnixStream, shared: &Shared) {
    for line in BufReader::new(control).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        shared.change(|state| state.report(&line));
    }
}

/// Owns the child process in a thread of its own.
///
/// The kernel is asked to kill QEMU when its parent dies, and takes "parent" to
/// be the thread that started it. So that thread lives as long as QEMU does.
#[derive(Debug)]
struct Keeper {
    end: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    fn start(words: &[String], folder: &Path, logs: &Path, shared: Arc<Shared>) -> Result<Self> {
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
                let _ = started.send(Ok(()));
                let ended = keep(child, &ending);
                shared.change(|state| state.ended = Some(ended));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        outcome
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
            .map_err(Error::file("start", program))?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }

    fn end(&mut self) {
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

/// Waits for QEMU to connect, which it does before it runs the machine.
fn accept(listener: &UnixListener, shared: &Shared, folder: &Path) -> Result<UnixStream> {
    let limit = Duration::from_secs(30);
    let deadline = Instant::now() + limit;
    let failed = Error::file("accept on", folder.join("control"));
    if let Err(error) = listener.set_nonblocking(true) {
        return Err(failed(error));
    }
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                return match stream.set_nonblocking(false) {
                    Ok(()) => Ok(stream),
                    Err(error) => Err(failed(error)),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        let waited_for = "QEMU to start".to_owned();
        let ended = lock(&shared.state).ended.clone();
        if let Some(reason) = ended {
            return Err(Error::Stopped {
                waited_for,
                reason,
                diagnosis: Box::new(diagnosis(shared, folder)),
            });
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                waited_for,
                limit,
                diagnosis: Box::new(diagnosis(shared, folder)),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn diagnosis(shared: &Shared, folder: &Path) -> Diagnosis {
    let serial = read_text(&folder.join(SERIAL));
    let qemu = read_text(&folder.join(QEMU_LOG));
    Diagnosis {
        hints: hints(&serial, &qemu),
        last_stage: lock(&shared.state).stage.clone(),
        subject: Vec::new(),
        console: last_lines(&serial, 25),
        qemu: last_lines(&qemu, 8),
    }
}

/// Likely causes, by what their victims write.
fn hints(serial: &str, qemu: &str) -> Vec<String> {
    let known = [
        (
            serial,
            "Kernel panic - not syncing",
            "dom0's kernel panicked",
        ),
        (serial, "Panic on CPU", "Xen panicked"),
        (serial, "Hardware Dom0 crashed", "dom0 crashed"),
        (
            serial,
            "Out of memory: Killed",
            "dom0 ran out of memory: give it more (dom0_memory_mib)",
        ),
        (
            qemu,
            "Could not set up host forwarding",
            "a port forwarded from the host is already in use",
        ),
        (
            qemu,
            "annot set up guest memory",
            "the host has too little free memory for the machine (memory_mib)",
        ),
        (
            qemu,
            "'local' is not",
            "this QEMU was built without shared folders (virtfs)",
        ),
    ];
    known
        .into_iter()
        .filter(|(text, sign, _)| text.contains(sign))
        .map(|(text, sign, cause)| match reason_after(text, sign) {
            Some(reason) => format!("{cause}: {reason}"),
            None => cause.to_owned(),
        })
        .collect()
}

/// What a panic gives as its reason: the rest of the line, or the next line.
fn reason_after<'a>(text: &'a str, sign: &str) -> Option<&'a str> {
    let is_panic = sign.contains("anic");
    let (_, after) = is_panic.then(|| text.split_once(sign)).flatten()?;
    let mut lines = after.lines();
    let same_line = lines.next()?.split_once(": ").map(|(_, reason)| reason);
    same_line
        .or_else(|| lines.next().map(|line| line.trim_start_matches("(XEN)")))
        .map(str::trim)
        .filter(|reason| !reason.is_empty())
}

/// A log as text; empty if it cannot be read, because logs serve diagnosis.
pub(crate) fn read_text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The data is only ever replaced as a whole, so a panicking thread leaves it
/// usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_change_the_state_and_nonsense_does_not() {
        let mut state = State::default();
        for line in [
            "stage starting xenstored",
            "done 7 130",
            "done x 1",
            "done 8",
            "",
            "what 1",
        ] {
            state.report(line);
        }
        assert_eq!(state.stage.as_deref(), Some("starting xenstored"));
        assert_eq!(state.take_status(7), Some(130));
        assert_eq!(state.take_status(7), None, "a status is given once");
        assert!(state.done.is_empty() && !state.ready && state.failed.is_none());
        state.report("ready");
        state.report("failed xl list");
        assert!(state.ready && state.failed.unwrap().ends_with("xl list"));
    }

    #[test]
    fn causes_are_recognised() {
        assert!(hints("all fine", "").is_empty());
        let found = hints(
            "[1.0] Kernel panic - not syncing",
            "Could not set up host forwarding rule",
        );
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("panicked") && found[1].contains("in use"));
        let panics = "(XEN) Panic on CPU 0:\n(XEN) too small\n\
                      Kernel panic - not syncing: VFS: no root\n";
        assert_eq!(
            hints(panics, ""),
            [
                "dom0's kernel panicked: VFS: no root",
                "Xen panicked: too small"
            ]
        );
    }

    fn keeper_of(script: &str, shared: &Arc<Shared>, scratch: &Scratch) -> Result<Keeper> {
        let words = ["sh", "-c", script].map(str::to_owned);
        Keeper::start(&words, Path::new("/"), scratch.path(), Arc::clone(shared))
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
        let shared = Arc::new(Shared::default());
        let keeper = keeper_of("echo $$; exec sleep 600", &shared, &scratch).unwrap();
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
        assert!(lock(&shared.state).has_ended());
    }

    #[test]
    fn an_end_of_its_own_is_reported_with_what_it_wrote() {
        let scratch = Scratch::new("keeper").unwrap();
        let shared = Arc::new(Shared::default());
        let listener = UnixListener::bind(scratch.path().join("control")).unwrap();
        let _keeper = keeper_of("echo no such device >&2; exit 1", &shared, &scratch).unwrap();
        let error = accept(&listener, &shared, scratch.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 1"), "{text}");
        assert!(text.contains("no such device"), "{text}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let words = vec!["/no/such/qemu".to_owned()];
        let scratch = Scratch::new("keeper").unwrap();
        let shared = Arc::new(Shared::default());
        // With setpriv in between, the end is noticed instead of the start.
        if let Ok(_keeper) =
            Keeper::start(&words, Path::new("/"), scratch.path(), Arc::clone(&shared))
        {
            let listener = UnixListener::bind(scratch.path().join("control")).unwrap();
            let error = accept(&listener, &shared, scratch.path()).unwrap_err();
            assert!(error.to_string().contains("/no/such/qemu"), "{error}");
        }
    }
}
