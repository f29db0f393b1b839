//! Xenstore, the directory in which a guest and its peers find each other
//! (`xen/include/public/io/xs_wire.h`, `docs/misc/xenstore.txt`).
//!
//! [`Store`] is the client that drivers use. Below it, each usable alone: [`wire`] is the
//! format of messages, [`Parser`] puts them together again from any split of bytes, and
//! `connection` is the client's machine without time and without tasks.
//!
//! xenstored is a peer like any other: a frozen one makes requests time out, one that breaks
//! the protocol ends the connection with [`StoreError::Broken`]. Neither can make us panic,
//! hang, or use memory without bound.

mod connection;
mod directory;
mod error;
mod join;
mod parser;
mod permissions;
mod statistics;
mod store;
#[cfg(test)]
mod tests;
mod transaction;
mod watch;
pub mod wire;

pub use self::error::{Misbehaviour, StoreError};
pub use self::join::{join, join_all};
pub use self::parser::{Message, Parser};
pub use self::permissions::{NodeAccess, Permission};
pub use self::statistics::StoreStatistics;
pub use self::store::{DEFAULT_TIMEOUT, Store};
pub use self::transaction::{MAX_TRANSACTION_ATTEMPTS, Transaction};
pub use self::watch::Watch;
pub use self::wire::Errno;
