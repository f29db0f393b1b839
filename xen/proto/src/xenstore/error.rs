//! What can go wrong, by blame.

use alloc::string::String;
use core::fmt;

use super::wire::{Errno, MessageType, PAYLOAD_MAX};
use crate::byte_stream::StreamError;

/// Why an operation on the store failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// xenstored refused it.
    Refused {
        /// What was asked.
        operation: MessageType,
        /// Of which node.
        path: String,
        /// Why not.
        errno: Errno,
    },
    /// xenstored did not answer in time. The operation may still happen.
    TimedOut {
        /// What was asked.
        operation: MessageType,
        /// Of which node.
        path: String,
    },
    /// xenstored broke the protocol, now or earlier; the connection is not used any more.
    Broken(Misbehaviour),
    /// The node's value or name is not UTF-8.
    NotText {
        /// Which node.
        path: String,
    },
    /// The transaction met others' changes each time.
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },
    /// Too many requests are unanswered: xenstored takes them but does not reply.
    Overloaded {
        /// What was asked.
        operation: MessageType,
        /// Of which node.
        path: String,
    },
    /// Our caller's mistake; nothing was sent.
    Misuse {
        /// What was asked.
        operation: MessageType,
        /// Of which node.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl StoreError {
    /// Whether the node does not exist.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// The error xenstored answered with, if it did.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                operation,
                path,
                errno,
            } => write!(formatter, "xenstore {operation} of {path:?}: {errno}"),
            Self::TimedOut { operation, path } => {
                write!(formatter, "xenstore {operation} of {path:?}: no answer")
            }
            Self::Broken(misbehaviour) => {
                write!(formatter, "xenstore connection is broken: {misbehaviour}")
            }
            Self::NotText { path } => write!(formatter, "xenstore node {path:?} is not text"),
            Self::Conflict { attempts } => write!(
                formatter,
                "xenstore transaction met other changes in each of {attempts} attempts"
            ),
            Self::Overloaded { operation, path } => write!(
                formatter,
                "xenstore {operation} of {path:?}: too many requests are unanswered"
            ),
            Self::Misuse {
                operation,
                path,
                problem,
            } => write!(formatter, "xenstore {operation} of {path:?}: {problem}"),
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Broken(misbehaviour) => Some(misbehaviour),
            _ => None,
        }
    }
}

/// How xenstored broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// A ring index makes no sense.
    Stream(StreamError),
    /// A message longer than is allowed.
    TooLong {
        /// Its `len`.
        length: u32,
    },
    /// A message of a type that does not exist.
    UnknownType {
        /// Its `type`.
        value: u32,
    },
    /// A reply to a request that was never sent.
    UnknownRequest {
        /// Its `req_id`.
        request_id: u32,
    },
    /// A reply of another type than the request.
    WrongReply {
        /// What was asked.
        asked: MessageType,
        /// What was answered.
        answered: MessageType,
    },
    /// A watch event that is not two strings.
    BadWatchEvent,
    /// A reply whose payload has not the form of such replies.
    BadReply {
        /// What was asked.
        operation: MessageType,
    },
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(formatter),
            Self::TooLong { length } => write!(
                formatter,
                "message has len {length}, more than {PAYLOAD_MAX}"
            ),
            Self::UnknownType { value } => write!(formatter, "message has unknown type {value}"),
            Self::UnknownRequest { request_id } => write!(
                formatter,
                "reply has req_id {request_id}, which was never sent"
            ),
            Self::WrongReply { asked, answered } => {
                write!(formatter, "reply to {asked} has type {answered}")
            }
            Self::BadWatchEvent => write!(formatter, "watch event is not two strings"),
            Self::BadReply { operation } => {
                write!(formatter, "reply to {operation} is malformed")
            }
        }
    }
}

impl core::error::Error for Misbehaviour {}

impl From<StreamError> for Misbehaviour {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}
