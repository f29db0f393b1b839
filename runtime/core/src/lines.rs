//! Bytes that somebody types, as lines.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a line that are kept; the rest of a longer one is dropped.
pub const LONGEST_LINE: usize = 1024;

/// Gathers bytes until a line is complete. Takes no more memory however much comes.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// The last byte was a carriage return, which ended a line: a line feed after it is none.
    after_return: bool,
}

impl LineBuffer {
    /// Adds a byte. Returns the line that it completes, without its end: a carriage return, a line
    /// feed or both. What is not UTF-8 is replaced.
    pub fn push(&mut self, byte: u8) -> Option<String> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => None,
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&self.bytes).into_owned();
                self.bytes.clear();
                Some(line)
            }
            _ => {
                // Without memory the line is cut, like one that is too long.
                if self.bytes.len() < LONGEST_LINE && self.bytes.try_reserve(1).is_ok() {
                    self.bytes.push(byte);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        bytes.iter().filter_map(|&byte| buffer.push(byte)).collect()
    }

    #[test]
    fn lines_end_as_terminals_end_them() {
        assert_eq!(
            lines(b"one\rtwo\nthree\r\nfour\n\nrest"),
            ["one", "two", "three", "four", ""]
        );
        assert_eq!(lines(b"\r\r\n"), ["", ""]);
        assert_eq!(lines(b"a\xffb\n"), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_flood_without_an_end_takes_no_more_than_a_line() {
        let mut buffer = LineBuffer::default();
        for _ in 0..1_000_000 {
            assert_eq!(buffer.push(b'x'), None);
        }
        assert!(buffer.bytes.capacity() <= 2 * LONGEST_LINE);
        assert_eq!(buffer.push(b'\n').unwrap().len(), LONGEST_LINE);
        buffer.push(b'y');
        assert_eq!(buffer.push(b'\n').unwrap(), "y");
    }
}
