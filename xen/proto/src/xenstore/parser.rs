//! Puts messages together from bytes that arrive in any split.

use alloc::vec::Vec;

use super::Misbehaviour;
use super::wire::{HEADER_SIZE, Header};

/// One whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The `header.length` bytes after it.
    pub payload: Vec<u8>,
}

/// An incremental parser. Holds at most one message: 16 + 4096 bytes.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_SIZE],
        filled: usize,
    },
    Payload {
        header: Header,
        bytes: Vec<u8>,
    },
    Failed(Misbehaviour),
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; HEADER_SIZE],
            filled: 0,
        }
    }
}

impl Parser {
    /// A parser at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`, up to the end of the first message that becomes
    /// whole, and returns that message. After `None`, all of `input` was taken.
    ///
    /// # Errors
    /// The peer's [`Misbehaviour`]; the same again on every later call, since the start of the
    /// next message cannot be known.
    pub fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Misbehaviour> {
        loop {
            match &mut self.state {
                State::Header { bytes, filled } => {
                    *filled += take(input, &mut bytes[*filled..]);
                    if *filled < HEADER_SIZE {
                        return Ok(None);
                    }
                    self.state = match Header::decode(bytes) {
                        Ok(header) => State::Payload {
                            header,
                            bytes: Vec::with_capacity(header.length as usize),
                        },
                        Err(misbehaviour) => State::Failed(misbehaviour),
                    };
                }
                State::Payload { header, bytes } => {
                    let missing = header.length as usize - bytes.len();
                    let (taken, rest) = input.split_at(missing.min(input.len()));
                    *input = rest;
                    bytes.extend_from_slice(taken);
                    if taken.len() < missing {
                        return Ok(None);
                    }
                    let message = Message {
                        header: *header,
                        payload: core::mem::take(bytes),
                    };
                    self.state = State::default();
                    return Ok(Some(message));
                }
                State::Failed(misbehaviour) => return Err(misbehaviour.clone()),
            }
        }
    }
}

/// Moves as many bytes as fit from the front of `input` and returns how many.
fn take(input: &mut &[u8], into: &mut [u8]) -> usize {
    let count = into.len().min(input.len());
    let (taken, rest) = input.split_at(count);
    into[..count].copy_from_slice(taken);
    *input = rest;
    count
}
