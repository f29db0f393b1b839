//! Console output: the ring, and what waits until it has room.

use alloc::collections::VecDeque;
use core::fmt::{self, Write};

use xen_proto::byte_stream::{ByteWriter, CONSOLE_OUTPUT};
use xen_proto::hypervisor::SharedPage;

/// The writing side of a console.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` once the backend's index made no sense: output is dropped from then on.
    ring: Option<ByteWriter>,
    backlog: VecDeque<u8>,
    limit: usize,
    /// Bytes dropped since the last time that was said on the console.
    dropped: u64,
}

impl Output {
    /// Output to the ring in `page`, which is what the other methods must be given. The backlog
    /// of `limit` bytes is allocated here and now.
    pub(super) fn new(page: &impl SharedPage, limit: usize) -> Self {
        Self {
            ring: Some(ByteWriter::attach(page, CONSOLE_OUTPUT)),
            backlog: VecDeque::with_capacity(limit),
            limit,
            dropped: 0,
        }
    }

    /// Writes text, line feeds as carriage return and line feed. What fits neither ring nor
    /// backlog is dropped. Returns whether the ring got anything: the backend must be told.
    pub(super) fn write(&mut self, page: &impl SharedPage, bytes: &[u8]) -> bool {
        let mut moved = self.drain(page);
        for (text, end) in lines(bytes) {
            moved |= self.queue(page, text);
            moved |= self.queue(page, end);
        }
        moved
    }

    /// Moves the backlog into the ring. Returns whether the ring got anything.
    pub(super) fn drain(&mut self, page: &impl SharedPage) -> bool {
        let mut moved = false;
        loop {
            while !self.backlog.is_empty() {
                let (front, _) = self.backlog.as_slices();
                let Some(count) = push(&mut self.ring, page, front) else {
                    self.backlog.clear();
                    return moved;
                };
                if count == 0 {
                    return moved;
                }
                moved = true;
                self.backlog.drain(..count);
            }
            if self.dropped == 0 || self.ring.is_none() {
                return moved;
            }
            // The backlog is empty, so this does not allocate.
            let mut notice = Text(&mut self.backlog);
            let _ = write!(notice, "\r\n[{} bytes of output lost]\r\n", self.dropped);
            self.dropped = 0;
        }
    }

    /// Writes text straight into the ring, after the backlog; allocates nothing. Returns how
    /// many bytes of `bytes` are done with, so that the caller can wait and come back for the
    /// rest; all of them if the ring is broken.
    pub(super) fn write_now(&mut self, page: &impl SharedPage, bytes: &[u8]) -> usize {
        self.drain(page);
        if self.ring.is_some() && !self.backlog.is_empty() {
            return 0;
        }
        let mut done = 0;
        for (text, end) in lines(bytes) {
            let Some(count) = push(&mut self.ring, page, text) else {
                return bytes.len();
            };
            done += count;
            // Half a line end would be repeated.
            let room = self.ring.as_ref().map(|ring| ring.free(page));
            if count < text.len() || matches!(room, Some(Ok(room)) if room < end.len()) {
                return done;
            }
            if push(&mut self.ring, page, end).is_none() {
                return bytes.len();
            }
            done += usize::from(!end.is_empty());
        }
        done
    }

    /// Goes on with a ring that is new, in the same page: a backend in another life of the guest. What
    /// waits is still to be written.
    pub(super) fn resume(&mut self, page: &impl SharedPage) {
        self.ring = Some(ByteWriter::attach(page, CONSOLE_OUTPUT));
    }

    /// Whether the backend took everything that was written.
    pub(super) fn is_drained(&self, page: &impl SharedPage) -> bool {
        self.ring.as_ref().is_none_or(|ring| {
            let free = ring.free(page);
            self.backlog.is_empty() && free.is_ok_and(|free| free == CONSOLE_OUTPUT.size as usize)
        })
    }

    /// Whether the backend's index made no sense.
    pub(super) fn is_broken(&self) -> bool {
        self.ring.is_none()
    }

    fn queue(&mut self, page: &impl SharedPage, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let mut moved = false;
        if self.backlog.is_empty() && self.dropped == 0 {
            let Some(count) = push(&mut self.ring, page, bytes) else {
                return false;
            };
            moved = count > 0;
            rest = &bytes[count..];
        }
        let room = self.limit.saturating_sub(self.backlog.len());
        // Once something was dropped, nothing is kept until that was said: no text with holes.
        let kept = if self.dropped > 0 {
            0
        } else {
            room.min(rest.len())
        };
        self.backlog.extend(&rest[..kept]);
        self.dropped += (rest.len() - kept) as u64;
        moved
    }
}

/// How much of `bytes` the ring took; `None`, and no ring any more, if it is broken.
fn push(ring: &mut Option<ByteWriter>, page: &impl SharedPage, bytes: &[u8]) -> Option<usize> {
    match ring.as_mut()?.write(page, bytes) {
        Ok(count) => Some(count),
        Err(_) => {
            *ring = None;
            None
        }
    }
}

/// Splits text into pieces without line feeds and what follows each: a line end or nothing.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &'static [u8])> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| match line.strip_suffix(b"\n") {
            Some(text) => (text, b"\r\n".as_slice()),
            None => (line, b"".as_slice()),
        })
}

/// Formats into a queue of bytes.
struct Text<'a>(&'a mut VecDeque<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::memory::{Frame, test_page};
    use xen_proto::byte_stream::ByteReader;

    struct Fixture {
        output: Output,
        page: Frame,
        backend: ByteReader,
    }

    impl Fixture {
        fn new(limit: usize) -> Self {
            let page = test_page::frame();
            Self {
                output: Output::new(&page, limit),
                backend: ByteReader::attach(&page, CONSOLE_OUTPUT),
                page,
            }
        }

        fn write(&mut self, bytes: &[u8]) -> bool {
            self.output.write(&self.page, bytes)
        }

        fn write_now(&mut self, bytes: &[u8]) -> usize {
            self.output.write_now(&self.page, bytes)
        }

        /// What the backend reads, up to `limit` bytes.
        fn read(&mut self, limit: usize) -> Vec<u8> {
            let mut bytes = vec![0; limit];
            let count = self.backend.read(&self.page, &mut bytes).unwrap();
            bytes.truncate(count);
            bytes
        }
    }

    #[test]
    fn text_arrives_with_terminal_line_ends() {
        let mut fixture = Fixture::new(100);
        assert!(fixture.write(b"one\ntwo"));
        assert!(fixture.write(b"\n\n"));
        assert!(!fixture.output.is_drained(&fixture.page));
        assert_eq!(fixture.read(100), b"one\r\ntwo\r\n\r\n");
        assert!(fixture.output.is_drained(&fixture.page));
    }

    #[test]
    fn a_full_ring_delays_and_a_full_backlog_drops() {
        let mut fixture = Fixture::new(1000);
        assert!(fixture.write(&[b'a'; 2000]));
        assert!(fixture.write(&[b'b'; 548]));
        assert!(!fixture.write(&[b'c'; 600]));
        assert!(!fixture.write(b"never seen"));
        assert_eq!(fixture.read(4096).len(), 2048);
        assert!(fixture.output.drain(&fixture.page));
        let text = String::from_utf8(fixture.read(4096)).unwrap();
        let (kept, notice) = text.split_at(1000);
        assert!(kept.starts_with('b') && kept.ends_with('c'));
        assert_eq!(notice, "\r\n[110 bytes of output lost]\r\n");
        assert!(fixture.write(b"again"));
        assert_eq!(fixture.read(100), b"again");
    }

    #[test]
    fn last_words_come_after_the_backlog_and_can_be_resumed() {
        let mut fixture = Fixture::new(1000);
        fixture.write(&[b'a'; 2048]);
        fixture.write(b"waiting ");
        assert_eq!(fixture.write_now(b"panic\n"), 0);
        fixture.read(2048 - 10);
        // 10 bytes of "a" are still there: room for 8 + 2030.
        let mut words = vec![b'x'; 2029];
        words.extend(b"\nend\n");
        let done = fixture.write_now(&words);
        // The line end needs two bytes and there is one.
        assert_eq!(done, 2029);
        fixture.read(100);
        assert_eq!(fixture.write_now(&words[done..]), 5);
        let text = fixture.read(4096);
        assert!(text.ends_with(b"x\r\nend\r\n"));
    }

    #[test]
    fn what_waits_is_written_into_the_ring_of_the_next_life() {
        let mut fixture = Fixture::new(100);
        fixture.write(&[b'a'; 2048]);
        fixture.write(b"waits");
        // The toolstack clears the page of the domain that it restores.
        fixture.page.store(CONSOLE_OUTPUT.producer_word, 0);
        fixture.page.store(CONSOLE_OUTPUT.consumer_word, 0);
        fixture.backend = ByteReader::attach(&fixture.page, CONSOLE_OUTPUT);
        fixture.output.resume(&fixture.page);
        assert!(fixture.output.drain(&fixture.page));
        assert!(fixture.write(b", not lost"));
        assert_eq!(fixture.read(100), b"waits, not lost");
    }

    #[test]
    fn a_broken_ring_is_forgiven_in_the_next_life() {
        let mut fixture = Fixture::new(100);
        fixture.page.store(CONSOLE_OUTPUT.consumer_word, 5);
        fixture.write(b"lost");
        assert!(fixture.output.is_broken());
        fixture.page.store(CONSOLE_OUTPUT.consumer_word, 0);
        fixture.output.resume(&fixture.page);
        assert!(fixture.write(b"seen"));
        assert_eq!(fixture.read(100), b"seen");
    }

    #[test]
    fn a_senseless_index_ends_output_and_nothing_else() {
        let mut fixture = Fixture::new(100);
        fixture.page.store(CONSOLE_OUTPUT.consumer_word, 5);
        assert!(!fixture.write(b"hello"));
        assert!(fixture.output.is_broken());
        assert_eq!(fixture.write_now(b"hello\n"), 6);
        assert!(!fixture.output.drain(&fixture.page));
        assert!(fixture.output.is_drained(&fixture.page));
    }
}
