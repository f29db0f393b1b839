//! Names of children, also when they do not fit in one message.

use alloc::string::String;
use alloc::vec::Vec;

use super::StoreError;
use super::connection::Undo;
use super::store::Nodes;
use super::wire::{Errno, MessageType, terminated_strings};
use crate::hypervisor::Hypervisor;

/// Most bytes of names that are put together from parts: a peer may not make us use more.
const MAX_NAMES: usize = 64 * 1024;

/// How often to start again because the directory changed between two parts.
const MAX_ATTEMPTS: usize = 8;

pub(super) async fn read<H: Hypervisor>(
    nodes: &Nodes<'_, H>,
    path: &str,
) -> Result<Vec<String>, StoreError> {
    let whole = nodes.about(MessageType::Directory, path, b"").await;
    match whole {
        Ok(names) => split(&names).ok_or_else(|| nodes.misbehaved(MessageType::Directory)),
        Err(error) if error.errno() == Some(Errno::E2BIG) => read_parts(nodes, path).await,
        Err(error) => Err(error),
    }
}

async fn read_parts<H: Hypervisor>(
    nodes: &Nodes<'_, H>,
    path: &str,
) -> Result<Vec<String>, StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        if let Some(names) = try_read_parts(nodes, path).await? {
            return Ok(names);
        }
    }
    Err(StoreError::Conflict {
        attempts: MAX_ATTEMPTS as u32,
    })
}

/// `None` if the directory changed meanwhile.
async fn try_read_parts<H: Hypervisor>(
    nodes: &Nodes<'_, H>,
    path: &str,
) -> Result<Option<Vec<String>>, StoreError> {
    const OPERATION: MessageType = MessageType::DirectoryPart;
    let mut first_generation: Option<Vec<u8>> = None;
    let mut names = Vec::new();
    loop {
        let payload = alloc::format!("{path}\0{}\0", names.len());
        let reply = nodes
            .request(OPERATION, path, payload.as_bytes(), Undo::Nothing)
            .await?;
        let Some(end) = reply.iter().position(|byte| *byte == 0) else {
            return Err(nodes.misbehaved(OPERATION));
        };
        let generation = &reply[..end];
        let first_generation = first_generation.get_or_insert_with(|| generation.to_vec());
        if first_generation != generation {
            return Ok(None);
        }
        // The last part ends in one more NUL: an empty name.
        match &reply[end + 1..] {
            [] => return Err(nodes.misbehaved(OPERATION)),
            [0] => break,
            [part @ .., 0, 0] => {
                names.extend_from_slice(part);
                names.push(0);
                break;
            }
            part => names.extend_from_slice(part),
        }
        if names.len() > MAX_NAMES {
            return Err(StoreError::Refused {
                operation: OPERATION,
                path: path.into(),
                errno: Errno::E2BIG,
            });
        }
    }
    match split(&names) {
        Some(names) => Ok(Some(names)),
        None => Err(nodes.misbehaved(OPERATION)),
    }
}

fn split(names: &[u8]) -> Option<Vec<String>> {
    terminated_strings(names)?
        .map(|name| core::str::from_utf8(name).ok().map(String::from))
        .collect()
}
