//! Messages as they travel (`struct xsd_sockmsg` and its constants in `io/xs_wire.h`).

use alloc::vec::Vec;
use core::fmt;

use super::Misbehaviour;

/// Bytes in a message's header.
pub const HEADER_SIZE: usize = 16;

/// Most bytes that may follow a header (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;

/// Longest absolute path in bytes (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_PATH_MAX: usize = 3072;

/// Longest relative path in bytes (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_PATH_MAX: usize = 2048;

/// Number of the word `connection` in `struct xenstore_domain_interface`.
pub const CONNECTION_WORD: usize = 517;

/// Value of `connection` in the steady state (`XENSTORE_CONNECTED`).
pub const CONNECTED: u32 = 0;

/// Value of `connection` while xenstored is about to (re)connect (`XENSTORE_RECONNECT`).
pub const RECONNECT: u32 = 1;

macro_rules! message_types {
    ($($(#[$documentation:meta])* $name:ident = $value:literal $text:literal,)*) => {
        /// What a message asks or answers (`enum xsd_sockmsg_type`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum MessageType {
            $($(#[$documentation])* $name = $value,)*
        }

        impl MessageType {
            /// All types, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The type with this number, if there is one.
            pub const fn from_wire(value: u32) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name without `XS_`, in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

message_types! {
    /// Toolstack commands.
    Control = 0 "control",
    /// Names of a node's children.
    Directory = 1 "directory",
    /// A node's value.
    Read = 2 "read",
    /// Who may do what with a node.
    GetPermissions = 3 "get_perms",
    /// Start of a watch.
    Watch = 4 "watch",
    /// End of a watch.
    Unwatch = 5 "unwatch",
    /// Start of a transaction.
    TransactionStart = 6 "transaction_start",
    /// End of a transaction.
    TransactionEnd = 7 "transaction_end",
    /// A new domain (toolstack only).
    Introduce = 8 "introduce",
    /// A domain that is gone (toolstack only).
    Release = 9 "release",
    /// The absolute path of a domain's home.
    GetDomainPath = 10 "get_domain_path",
    /// A new value for a node.
    Write = 11 "write",
    /// A node with an empty value, if there was none.
    MakeDirectory = 12 "mkdir",
    /// A node and all below it goes.
    Remove = 13 "rm",
    /// New permissions for a node.
    SetPermissions = 14 "set_perms",
    /// Something changed under a watched path.
    WatchEvent = 15 "watch_event",
    /// The answer to a request that was refused.
    Error = 16 "error",
    /// Whether a domain was introduced.
    IsDomainIntroduced = 17 "is_domain_introduced",
    /// A domain was resumed (toolstack only).
    Resume = 18 "resume",
    /// Rights over another domain (toolstack only).
    SetTarget = 19 "set_target",
    /// End of all watches and transactions.
    ResetWatches = 21 "reset_watches",
    /// Names of a node's children, from some offset on.
    DirectoryPart = 22 "directory_part",
}

impl fmt::Display for MessageType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A message's header, after its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub message_type: MessageType,
    /// Chosen by the requester, echoed in the reply; 0 in watch events.
    pub request_id: u32,
    /// The transaction it belongs to, 0 for none.
    pub transaction_id: u32,
    /// Bytes that follow, at most [`PAYLOAD_MAX`].
    pub length: u32,
}

impl Header {
    /// Checks and reads a header.
    ///
    /// # Errors
    /// [`Misbehaviour::UnknownType`], [`Misbehaviour::TooLong`].
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, Misbehaviour> {
        let field = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let message_type = field(0);
        let length = field(12);
        let Some(message_type) = MessageType::from_wire(message_type) else {
            return Err(Misbehaviour::UnknownType {
                value: message_type,
            });
        };
        if length as usize > PAYLOAD_MAX {
            return Err(Misbehaviour::TooLong { length });
        }
        Ok(Self {
            message_type,
            request_id: field(4),
            transaction_id: field(8),
            length,
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&(self.message_type as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.request_id.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.transaction_id.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }
}

/// A whole message: header and payload in one.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_MAX`].
pub fn encode_message(
    message_type: MessageType,
    request_id: u32,
    transaction_id: u32,
    payload: &[u8],
) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_MAX);
    let header = Header {
        message_type,
        request_id,
        transaction_id,
        length: payload.len() as u32,
    };
    let mut bytes = Vec::with_capacity(HEADER_SIZE + payload.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    bytes
}

/// The strings of a payload in which each string ends with a NUL. `None` if the last one does
/// not.
pub fn terminated_strings(payload: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let strings = match payload {
        [] => None,
        [strings @ .., 0] => Some(strings),
        _ => return None,
    };
    Some(
        strings
            .into_iter()
            .flat_map(|strings| strings.split(|byte| *byte == 0)),
    )
}

/// An error by the name that xenstored gives it (`xsd_errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(&'static str);

macro_rules! errnos {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        impl Errno {
            $($(#[$documentation])* pub const $name: Self = Self(stringify!($name));)*

            /// All errors that the header knows, in its order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

errnos! {
    /// The request makes no sense.
    EINVAL,
    /// The node's permissions forbid it.
    EACCES,
    /// There is such a thing already.
    EEXIST,
    /// Not possible for a directory.
    EISDIR,
    /// No such node, watch or transaction.
    ENOENT,
    /// xenstored is out of memory.
    ENOMEM,
    /// A quota is used up.
    ENOSPC,
    /// xenstored's database is damaged.
    EIO,
    /// The node has children.
    ENOTEMPTY,
    /// Unknown request.
    ENOSYS,
    /// The store is read-only.
    EROFS,
    /// Not now, e.g. a transaction within a transaction.
    EBUSY,
    /// The transaction met another's changes: start again.
    EAGAIN,
    /// The domain is connected already.
    EISCONN,
    /// The reply would be longer than a message may be.
    E2BIG,
    /// Only for the toolstack.
    EPERM,
}

impl Errno {
    /// A name that is not in `xsd_errors`: newer than this code.
    pub const UNKNOWN: Self = Self("unknown error");

    /// The error that an error reply's payload names.
    pub fn from_wire(payload: &[u8]) -> Self {
        let name = payload.strip_suffix(b"\0").unwrap_or(payload);
        Self::ALL
            .iter()
            .copied()
            .find(|errno| errno.0.as_bytes() == name)
            .unwrap_or(Self::UNKNOWN)
    }

    /// The name, as on the wire.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}
