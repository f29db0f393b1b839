//! A guest under QEMU is asked through its second serial port, which QEMU leads to a socket of ours.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{Channel, LIMIT, is_last};
use crate::console::LineSplitter;

/// A socket to which a QEMU will connect, in a folder that only this user may enter.
#[derive(Debug)]
pub struct Socket {
    folder: TempDir,
    listener: UnixListener,
}

impl Socket {
    /// Makes the socket.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("rekernel-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("no folder for the monitor's socket")?;
        let listener = UnixListener::bind(folder.path().join("monitor"))
            .context("no socket for the monitor")?;
        listener.set_nonblocking(true)?;
        Ok(Self { folder, listener })
    }

    /// Where QEMU finds it.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    /// Waits for QEMU.
    ///
    /// # Errors
    /// Where it does not come within `limit`.
    pub fn accept(self, limit: Duration) -> Result<SerialPort> {
        let until = Instant::now() + limit;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(SerialPort { stream });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("the monitor's socket is lost"),
            }
            ensure!(
                Instant::now() < until,
                "QEMU has not opened the monitor's socket"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The other end of a guest's second serial port.
#[derive(Debug)]
pub struct SerialPort {
    stream: UnixStream,
}

impl Channel for SerialPort {
    fn exchange(&mut self, number: u64, command: &str) -> Result<String> {
        let until = Instant::now() + LIMIT;
        // The line feed in front ends what an earlier question has left.
        write!(self.stream, "\n{number} {command}\n").context("QEMU takes no question")?;
        let mut splitter = LineSplitter::default();
        let mut answer = String::new();
        let mut bytes = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the guest does not answer");
            }
            self.stream.set_read_timeout(Some(left))?;
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the guest has ended"),
                Ok(count) => count,
                Err(_) => continue,
            };
            let mut is_whole = false;
            splitter.push(&bytes[..count], |line| {
                // What is left of the answer to an earlier question, whose asker gave up, is passed over.
                if answer.is_empty() && !line.starts_with(&format!("{number} ")) || is_whole {
                    return;
                }
                answer.push_str(&line);
                answer.push('\n');
                is_whole = is_last(number, &line);
            });
            if is_whole {
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn what_an_earlier_answer_left_is_passed_over() {
        let (ours, guests) = UnixStream::pair().unwrap();
        let guest = std::thread::spawn(move || {
            let mut lines = BufReader::new(guests.try_clone().unwrap()).lines();
            let question = lines.find(|line| !line.as_ref().unwrap().is_empty());
            let mut guests = guests;
            guests
                .write_all(b"a: b=1\r\n6 end\r\n7 ok\r\nc: d")
                .unwrap();
            guests.write_all(b"=2\r\n7 end\r\n").unwrap();
            question.unwrap().unwrap()
        });
        let mut port = SerialPort { stream: ours };
        assert_eq!(
            port.exchange(7, "inspect").unwrap(),
            "7 ok\nc: d=2\n7 end\n"
        );
        assert_eq!(guest.join().unwrap(), "7 inspect");
        assert!(port.exchange(8, "inspect").is_err(), "the guest is gone");
    }
}
