//! The machine QEMU runs: started, watched, talked to over its control port.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    BootOptions, Diagnosis, Error, Result,
    command::output_of,
    diagnosis::{self, QEMU_LOG, SERIAL, read_text},
    files::names_in,
    keeper::Keeper,
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
        let state = Arc::clone(&shared);
        let keeper = Keeper::start(&command, prepared, folder, move |how| {
            state.change(|state| state.ended = Some(how));
        })?;
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

    /// Time of the host's processors that emulating one of the machine's has taken: its
    /// thread's first figure in `schedstat` (the kernel's Documentation/scheduler/sched-stats.rst).
    pub(crate) fn processor_time(&self, processor: u32) -> Result<Duration> {
        let file = self.thread_of(processor)?.join("schedstat");
        let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        let first = text.split(' ').next().and_then(|word| word.parse().ok());
        first.map(Duration::from_nanos).ok_or_else(|| Error::Step {
            purpose: format!("reading {}", file.display()),
            reason: format!("it holds `{}`", text.trim()),
        })
    }

    /// Ties the thread that emulates each processor to a processor of the host.
    pub(crate) fn pin(&self, processors: u32) -> Result<()> {
        let status = "/proc/self/status";
        let text = fs::read_to_string(status).map_err(Error::file("read", status))?;
        let ours = allowed_processors(&text);
        if ours.len() < processors as usize {
            return Err(Error::Unsupported {
                reason: format!(
                    "{processors} processors of its own, where {} are to be had",
                    ours.len()
                ),
            });
        }
        for (processor, host) in (0..processors).zip(ours) {
            let thread = self.thread_of(processor)?;
            let thread = thread.file_name().unwrap_or_default();
            let mut taskset = Command::new("taskset");
            taskset.args(["-pc", &host.to_string()]).arg(thread);
            output_of(&mut taskset)?;
        }
        Ok(())
    }

    /// The folder of the thread that emulates a processor.
    fn thread_of(&self, processor: u32) -> Result<PathBuf> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.keeper.process()));
        let wanted = format!("CPU {processor}/TCG\n");
        for name in names_in(&tasks)? {
            let thread = tasks.join(name);
            // A thread may end while it is looked at: it is none of those.
            if fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == wanted) {
                return Ok(thread);
            }
        }
        Err(Error::Step {
            purpose: format!("finding the thread of processor {processor}"),
            reason: "QEMU has none of this name".into(),
        })
    }

    /// What the serial console holds so far.
    pub(crate) fn serial(&self) -> String {
        read_text(&self.scratch.path().join(SERIAL))
    }

    pub(crate) fn wait_until_ready(
        &self,
        options: &BootOptions,
        progress: &dyn Fn(&str),
    ) -> Result<()> {
        let mut told = None;
        self.wait("dom0 to be ready", options.time_limit, |state| {
            if told != state.stage {
                told.clone_from(&state.stage);
                progress(&format!("dom0: {}", told.as_deref().unwrap_or_default()));
            }
            if (options.cancelled)() {
                return Some(Err(Error::Cancelled));
            }
            state.ready.then_some(Ok(()))
        })?
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
    /// `done` is asked at each change, and several times a second.
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
                let waited = self.shared.changed.wait_timeout(state, left.min(ASK));
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
        self.shared.diagnosis(self.scratch.path())
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

/// The processors that a `/proc/PID/status` allows: `Cpus_allowed_list: 0-2,5`.
fn allowed_processors(status: &str) -> Vec<u32> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let ranges = list.split(',').filter_map(|range| {
        let range = range.trim();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// How often a wait looks again although nothing was reported.
const ASK: Duration = Duration::from_millis(100);

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

    fn diagnosis(&self, folder: &Path) -> Diagnosis {
        diagnosis::of(folder, lock(&self.state).stage.clone())
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
                diagnosis: Box::new(shared.diagnosis(folder)),
            });
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                waited_for,
                limit,
                diagnosis: Box::new(shared.diagnosis(folder)),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
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
    fn lists_of_processors_are_read() {
        let status = "Name:\tx\nCpus_allowed:\t27\nCpus_allowed_list:\t0-2,5\nMems_allowed:\t1\n";
        assert_eq!(allowed_processors(status), [0, 1, 2, 5]);
        assert!(allowed_processors("Name:\tx\n").is_empty());
    }

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
    fn an_end_of_its_own_is_reported_with_what_it_wrote() {
        let scratch = Scratch::new("machine").unwrap();
        let error = start_and_accept(&["sh", "-c", "echo no such device >&2; exit 1"], &scratch);
        let text = error.to_string();
        assert!(text.contains("exit status: 1"), "{text}");
        assert!(text.contains("no such device"), "{text}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let scratch = Scratch::new("machine").unwrap();
        let error = start_and_accept(&["/no/such/qemu"], &scratch);
        assert!(error.to_string().contains("/no/such/qemu"), "{error}");
    }

    /// The error of a program that ends instead of connecting.
    fn start_and_accept(words: &[&str], scratch: &Scratch) -> Error {
        let shared = Arc::new(Shared::default());
        let listener = UnixListener::bind(scratch.path().join("control")).unwrap();
        let state = Arc::clone(&shared);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let keeper = Keeper::start(&words, Path::new("/"), scratch.path(), move |how| {
            state.change(|state| state.ended = Some(how));
        });
        match keeper {
            // With setpriv in between, the end is noticed instead of the start.
            Ok(_keeper) => accept(&listener, &shared, scratch.path()).unwrap_err(),
            Err(error) => error,
        }
    }
}
