//! Who may do what with a node.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::wire::terminated_strings;
use crate::hypervisor::DomainId;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAccess {
    /// Nothing (`n`).
    None,
    /// Read (`r`).
    Read,
    /// Write (`w`).
    Write,
    /// Read and write (`b`).
    Both,
}

/// One entry of a node's list. The first entry names the owner, who may always do everything,
/// and what domains that are not listed may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Whose.
    pub domain: DomainId,
    /// What.
    pub access: NodeAccess,
}

impl Permission {
    /// Reads one entry, such as `r0`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (letter, number) = text.split_first()?;
        let access = match letter {
            b'n' => NodeAccess::None,
            b'r' => NodeAccess::Read,
            b'w' => NodeAccess::Write,
            b'b' => NodeAccess::Both,
            _ => return None,
        };
        let domain = core::str::from_utf8(number).ok()?.parse().ok()?;
        Some(Self {
            domain: DomainId(domain),
            access,
        })
    }

    /// Reads a whole list. `None` if any entry is malformed.
    pub fn parse_list(payload: &[u8]) -> Option<Vec<Self>> {
        terminated_strings(payload)?.map(Self::parse).collect()
    }

    /// A whole list as it travels.
    pub fn encode_list(list: &[Self]) -> Vec<u8> {
        let mut text = String::new();
        for permission in list {
            // Writing to a string cannot fail.
            let _ = write!(text, "{permission}\0");
        }
        text.into_bytes()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.access {
            NodeAccess::None => 'n',
            NodeAccess::Read => 'r',
            NodeAccess::Write => 'w',
            NodeAccess::Both => 'b',
        };
        write!(formatter, "{letter}{}", self.domain)
    }
}
