//! Reading logs that others are still writing.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often a log is looked at. Reading on the host costs the emulated machine
/// nothing.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

/// Keeps following a console until dropped.
///
/// Dropping waits until all lines written so far have been delivered.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(crate) fn start(path: PathBuf, mut line: impl FnMut(&str) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut log = Log::at_end_of(&path);
        let thread = thread::spawn(move || {
            let mut lines = Lines::default();
            loop {
                let last = stopped.load(Ordering::Acquire);
                lines.add(&log.read_new(), &mut line);
                if last {
                    return lines.finish(&mut line);
                }
                thread::sleep(INTERVAL);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A callback that panicked has already reported it.
            let _ = thread.join();
        }
    }
}

/// A file that grows, and how far it has been read.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    position: u64,
}

impl Log {
    pub(crate) fn at(path: &Path, position: u64) -> Self {
        Self {
            path: path.into(),
            position,
        }
    }

    fn at_end_of(path: &Path) -> Self {
        Self::at(path, path.metadata().map_or(0, |data| data.len()))
    }

    /// What was added since the last call; nothing if the file does not exist.
    pub(crate) fn read_new(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.position)).is_ok()
        {
            // What was read before an error counts; the next call tries again.
            let _ = file.read_to_end(&mut bytes);
        }
        self.position += bytes.len() as u64;
        bytes
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn add(&mut self, bytes: &[u8], line: &mut impl FnMut(&str)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let complete: Vec<u8> = self.rest.drain(..=end).collect();
            line(&text_of(&complete));
        }
    }

    fn finish(self, line: &mut impl FnMut(&str)) {
        if !self.rest.is_empty() {
            line(&text_of(&self.rest));
        }
    }
}

/// A line without its end; consoles write both CR LF and LF.
fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .trim_end_matches(['\r', '\n'])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::{fs, io::Write, sync::mpsc};

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for piece in ["one\r\ntw", "o\n", "\nfour"] {
            lines.add(piece.as_bytes(), &mut |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", ""]);
        lines.finish(&mut |line| seen.push(line.to_owned()));
        assert_eq!(seen.last().unwrap(), "four");
    }

    #[test]
    fn a_follower_sees_what_comes_after_it_and_all_of_it() {
        let scratch = Scratch::new("follow").unwrap();
        let path = scratch.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let (sender, receiver) = mpsc::channel();
        let follower = Follower::start(path.clone(), move |line| {
            sender.send(line.to_owned()).unwrap();
        });
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(
            receiver.recv_timeout(Duration::from_secs(10)).unwrap(),
            "after"
        );
        file.write_all(b"last\nunfinished").unwrap();
        drop(follower);
        let rest: Vec<String> = receiver.iter().collect();
        assert_eq!(rest, ["last", "unfinished"]);
    }

    #[test]
    fn a_log_may_appear_late() {
        let scratch = Scratch::new("late").unwrap();
        let path = scratch.path().join("log");
        let mut log = Log::at_end_of(&path);
        assert!(log.read_new().is_empty());
        fs::write(&path, "x").unwrap();
        assert_eq!(log.read_new(), b"x");
        assert!(log.read_new().is_empty());
    }
}
