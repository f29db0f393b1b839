//! The guest's console: text to it, and what is typed there.
//!
//! On Xen that is `xl console`, elsewhere the first serial port. Nobody echoes what is typed: that is
//! for the program to do, or not. What the program does not read waits on the other side: a flood
//! takes no memory here.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::convert::Infallible;
use core::fmt::{self, Write};
use core::future::poll_fn;
use core::task::Poll;

use embedded_io_async::{ErrorType, Read};
pub use rekernel_core::lines::LONGEST_LINE;
use rekernel_core::lines::LineBuffer;

use crate::{crash, machine};

/// What is typed on the console.
///
/// One task reads at a time; of two that wait, the first is not woken.
#[derive(Debug)]
pub struct Input(());

/// What is typed on the console, from now on.
pub fn input() -> Input {
    Input(())
}

impl Input {
    /// Waits for bytes and takes them; returns how many. Those that wait already are returned at
    /// once. Only an empty `buffer` makes it 0.
    pub async fn read_bytes(&mut self, buffer: &mut [u8]) -> usize {
        poll_fn(|context| {
            let Some(machine) = machine::chosen().filter(|_| !buffer.is_empty()) else {
                return Poll::Ready(0);
            };
            loop {
                let count = machine.read_console(buffer);
                if count > 0 {
                    return Poll::Ready(count);
                }
                if machine.poll_console(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// The same as lines.
    pub fn lines(self) -> Lines {
        Lines {
            input: self,
            buffer: LineBuffer::default(),
            unread: VecDeque::new(),
        }
    }
}

impl ErrorType for Input {
    type Error = Infallible;
}

impl Read for Input {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(self.read_bytes(buffer).await)
    }
}

/// Lines that are typed on the console.
#[derive(Debug)]
pub struct Lines {
    input: Input,
    buffer: LineBuffer,
    /// Bytes after the last line.
    unread: VecDeque<u8>,
}

impl Lines {
    /// Waits for the next line and returns it without its end. Of a line longer than
    /// [`LONGEST_LINE`] the beginning; what is not UTF-8 is replaced.
    pub async fn next(&mut self) -> String {
        loop {
            while let Some(byte) = self.unread.pop_front() {
                if let Some(line) = self.buffer.push(byte) {
                    return line;
                }
            }
            let mut bytes = [0; 64];
            let count = self.input.read_bytes(&mut bytes).await;
            self.unread.extend(&bytes[..count]);
        }
    }
}

/// Writes one line.
pub(crate) fn write_line(line: fmt::Arguments<'_>) {
    let mut buffer = Buffer {
        bytes: [0; 256],
        used: 0,
    };
    // A value whose formatting fails is cut short; the line still ends.
    let _ = buffer.write_fmt(line);
    let _ = buffer.write_str("\n");
    buffer.flush();
}

/// Gathers pieces of text, because each write to the console costs an exit to the host.
struct Buffer {
    bytes: [u8; 256],
    used: usize,
}

impl Buffer {
    fn flush(&mut self) {
        let bytes = &self.bytes[..self.used];
        match machine::chosen() {
            Some(machine) if crash::is_under_way() => machine.write_last_words(bytes),
            Some(machine) => machine.write_console(bytes),
            None => pvh_boot::debug_port::write(bytes),
        }
        self.used = 0;
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}
