//! What xenstored answers, without how it travels.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::tree::{TOOLSTACK, Tree};
use crate::hypervisor::DomainId;
use crate::xenstore::wire::{self, ABSOLUTE_PATH_MAX, MessageType, PAYLOAD_MAX};
use crate::xenstore::{Errno, Message, Permission};

/// Most transactions a guest may have open, as xenstored's default quota.
const MAX_TRANSACTIONS: usize = 10;

pub(super) struct Server {
    guest: DomainId,
    pub(super) tree: Tree,
    watches: Vec<WatchEntry>,
    transactions: BTreeMap<u32, OpenTransaction>,
    next_transaction: u32,
    /// How many commits are still to be refused with EAGAIN.
    pub(super) conflicts: u32,
    /// Payloads of watch events to send.
    pub(super) events: VecDeque<Vec<u8>>,
}

struct WatchEntry {
    /// As the guest wrote it.
    given: String,
    absolute: String,
    token: Vec<u8>,
}

struct OpenTransaction {
    tree: Tree,
    started_at: u64,
    changed: Vec<Change>,
}

struct Change {
    path: String,
    removed: bool,
}

type Answer = Result<Vec<u8>, Errno>;

impl Server {
    pub(super) fn new(guest: DomainId) -> Self {
        Self {
            guest,
            tree: Tree::new(),
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            next_transaction: 0xffff_ff00,
            conflicts: 0,
            events: VecDeque::new(),
        }
    }

    pub(super) fn guest(&self) -> DomainId {
        self.guest
    }

    pub(super) fn open_transactions(&self) -> usize {
        self.transactions.len()
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// Answers the guest's request.
    pub(super) fn answer(&mut self, message: &Message) -> Answer {
        let transaction = message.header.transaction_id;
        let payload = &message.payload[..];
        match message.header.message_type {
            MessageType::Read => {
                let path = self.only_path(payload)?;
                let node = self.tree_of(transaction)?.read(&path, self.guest)?;
                Ok(node.value.clone())
            }
            MessageType::Directory => self.directory(transaction, payload),
            MessageType::DirectoryPart => self.directory_part(transaction, payload),
            MessageType::GetPermissions => {
                let path = self.only_path(payload)?;
                let node = self.tree_of(transaction)?.read(&path, self.guest)?;
                Ok(Permission::encode_list(&node.permissions))
            }
            MessageType::Write => {
                let (path, value) = self.path_and_rest(payload)?;
                self.write(transaction, &path, Some(value), self.guest)?;
                ok()
            }
            MessageType::MakeDirectory => {
                let path = self.only_path(payload)?;
                self.write(transaction, &path, None, self.guest)?;
                ok()
            }
            MessageType::Remove => {
                let path = self.only_path(payload)?;
                self.remove(transaction, &path, self.guest)?;
                ok()
            }
            MessageType::SetPermissions => {
                let (path, list) = self.path_and_rest(payload)?;
                let permissions = Permission::parse_list(list).ok_or(Errno::EINVAL)?;
                if permissions.is_empty() {
                    return Err(Errno::EINVAL);
                }
                self.set_permissions(transaction, &path, permissions, self.guest)?;
                ok()
            }
            MessageType::Watch => self.watch(payload),
            MessageType::Unwatch => self.unwatch(payload),
            MessageType::TransactionStart => self.start_transaction(transaction),
            MessageType::TransactionEnd => self.end_transaction(transaction, payload),
            MessageType::GetDomainPath => {
                let strings = strings(payload)?;
                let [domain] = strings[..] else {
                    return Err(Errno::EINVAL);
                };
                let domain: u16 = domain.parse().map_err(|_| Errno::EINVAL)?;
                Ok(alloc::format!("/local/domain/{domain}\0").into_bytes())
            }
            MessageType::ResetWatches => {
                self.watches.clear();
                self.transactions.clear();
                ok()
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets or creates a node, also for the toolstack (in transaction 0).
    pub(super) fn write(
        &mut self,
        transaction: u32,
        path: &str,
        value: Option<&[u8]>,
        domain: DomainId,
    ) -> Result<(), Errno> {
        let tree = self.tree_of_mut(transaction)?;
        if tree.write(path, value, domain)? {
            self.changed(transaction, path, false);
        }
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        transaction: u32,
        path: &str,
        domain: DomainId,
    ) -> Result<(), Errno> {
        let tree = self.tree_of_mut(transaction)?;
        if tree.remove(path, domain)? {
            self.changed(transaction, path, true);
        }
        Ok(())
    }

    pub(super) fn set_permissions(
        &mut self,
        transaction: u32,
        path: &str,
        permissions: Vec<Permission>,
        domain: DomainId,
    ) -> Result<(), Errno> {
        let tree = self.tree_of_mut(transaction)?;
        tree.set_permissions(path, permissions, domain)?;
        self.changed(transaction, path, false);
        Ok(())
    }

    /// An absolute path, the root as the empty one.
    pub(super) fn absolute(&self, path: &str) -> Result<String, Errno> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-/_@:".contains(letter);
        if path.is_empty() || path.len() > ABSOLUTE_PATH_MAX || !path.chars().all(allowed) {
            return Err(Errno::EINVAL);
        }
        if path == "/" {
            return Ok(String::new());
        }
        if path.ends_with('/') || path.contains("//") {
            return Err(Errno::EINVAL);
        }
        Ok(match path.starts_with('/') {
            true => path.to_string(),
            false => alloc::format!("/local/domain/{}/{path}", self.guest),
        })
    }

    fn directory(&mut self, transaction: u32, payload: &[u8]) -> Answer {
        let path = self.only_path(payload)?;
        let names = self.tree_of(transaction)?.children(&path, self.guest)?;
        let reply = terminated(&names);
        if reply.len() > PAYLOAD_MAX {
            return Err(Errno::E2BIG);
        }
        Ok(reply)
    }

    fn directory_part(&mut self, transaction: u32, payload: &[u8]) -> Answer {
        let strings = strings(payload)?;
        let [path, offset] = strings[..] else {
            return Err(Errno::EINVAL);
        };
        let path = self.absolute(path)?;
        let offset: usize = offset.parse().map_err(|_| Errno::EINVAL)?;
        let tree = self.tree_of(transaction)?;
        let generation = tree.read(&path, self.guest)?.generation;
        let names = terminated(&tree.children(&path, self.guest)?);
        let mut reply = alloc::format!("{generation}\0").into_bytes();
        let rest = names.get(offset..).unwrap_or_default();
        let room = PAYLOAD_MAX - reply.len() - 1;
        if rest.len() <= room {
            reply.extend_from_slice(rest);
            reply.push(0);
        } else {
            let last = rest[..room].iter().rposition(|byte| *byte == 0);
            reply.extend_from_slice(&rest[..last.map_or(0, |last| last + 1)]);
        }
        Ok(reply)
    }

    fn watch(&mut self, payload: &[u8]) -> Answer {
        let strings = strings(payload)?;
        let [given, token] = strings[..] else {
            return Err(Errno::EINVAL);
        };
        let entry = WatchEntry {
            given: given.to_string(),
            absolute: self.absolute(given)?,
            token: token.as_bytes().to_vec(),
        };
        let same = |other: &WatchEntry| other.given == entry.given && other.token == entry.token;
        if self.watches.iter().any(same) {
            return Err(Errno::EEXIST);
        }
        self.events.push_back(entry.event(&entry.absolute));
        self.watches.push(entry);
        ok()
    }

    fn unwatch(&mut self, payload: &[u8]) -> Answer {
        let strings = strings(payload)?;
        let [given, token] = strings[..] else {
            return Err(Errno::EINVAL);
        };
        let before = self.watches.len();
        self.watches
            .retain(|watch| watch.given != given || watch.token != token.as_bytes());
        match before == self.watches.len() {
            true => Err(Errno::ENOENT),
            false => ok(),
        }
    }

    fn start_transaction(&mut self, transaction: u32) -> Answer {
        if transaction != 0 {
            return Err(Errno::EBUSY);
        }
        if self.transactions.len() >= MAX_TRANSACTIONS {
            return Err(Errno::ENOSPC);
        }
        let id = self.next_transaction;
        self.next_transaction = id.wrapping_add(1).max(1);
        let open = OpenTransaction {
            tree: self.tree.clone(),
            started_at: self.tree.generation(),
            changed: Vec::new(),
        };
        self.transactions.insert(id, open);
        Ok(alloc::format!("{id}\0").into_bytes())
    }

    fn end_transaction(&mut self, transaction: u32, payload: &[u8]) -> Answer {
        let commit = match payload {
            b"T\0" => true,
            b"F\0" => false,
            _ => return Err(Errno::EINVAL),
        };
        let open = self.transactions.remove(&transaction);
        let open = open.ok_or(Errno::ENOENT)?;
        if !commit {
            return ok();
        }
        if self.conflicts > 0 {
            self.conflicts -= 1;
            return Err(Errno::EAGAIN);
        }
        // Stricter than xenstored, which compares node by node.
        if self.tree.generation() != open.started_at {
            return Err(Errno::EAGAIN);
        }
        self.tree = open.tree;
        for change in open.changed {
            self.fire(&change);
        }
        ok()
    }

    fn changed(&mut self, transaction: u32, path: &str, removed: bool) {
        let change = Change {
            path: path.to_string(),
            removed,
        };
        match self.transactions.get_mut(&transaction) {
            Some(open) if transaction != 0 => open.changed.push(change),
            _ => self.fire(&change),
        }
    }

    fn fire(&mut self, change: &Change) {
        for watch in &self.watches {
            if is_at_or_below(&change.path, &watch.absolute) {
                self.events.push_back(watch.event(&change.path));
            } else if change.removed && is_at_or_below(&watch.absolute, &change.path) {
                self.events.push_back(watch.event(&watch.absolute));
            }
        }
    }

    fn tree_of(&self, transaction: u32) -> Result<&Tree, Errno> {
        if transaction == 0 {
            return Ok(&self.tree);
        }
        let open = self.transactions.get(&transaction);
        open.map(|open| &open.tree).ok_or(Errno::ENOENT)
    }

    fn tree_of_mut(&mut self, transaction: u32) -> Result<&mut Tree, Errno> {
        if transaction == 0 {
            return Ok(&mut self.tree);
        }
        let open = self.transactions.get_mut(&transaction);
        open.map(|open| &mut open.tree).ok_or(Errno::ENOENT)
    }

    fn only_path(&self, payload: &[u8]) -> Result<String, Errno> {
        match strings(payload)?[..] {
            [path] => self.absolute(path),
            _ => Err(Errno::EINVAL),
        }
    }

    fn path_and_rest<'a>(&self, payload: &'a [u8]) -> Result<(String, &'a [u8]), Errno> {
        let end = payload.iter().position(|byte| *byte == 0);
        let (path, rest) = payload.split_at(end.ok_or(Errno::EINVAL)?);
        let path = core::str::from_utf8(path).map_err(|_| Errno::EINVAL)?;
        Ok((self.absolute(path)?, &rest[1..]))
    }
}

impl WatchEntry {
    /// The event that tells of a change at the absolute `path`, in the form the watch was
    /// registered in.
    fn event(&self, path: &str) -> Vec<u8> {
        let relative = !self.given.starts_with('/');
        let shown = match path.strip_prefix(&self.absolute) {
            Some(below) if relative => alloc::format!("{}{below}", self.given),
            _ if path.is_empty() => "/".to_string(),
            _ => path.to_string(),
        };
        let mut payload = shown.into_bytes();
        payload.push(0);
        payload.extend_from_slice(&self.token);
        payload.push(0);
        payload
    }
}

/// Who the toolstack is to the tree.
pub(super) const fn toolstack() -> DomainId {
    TOOLSTACK
}

fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn strings(payload: &[u8]) -> Result<Vec<&str>, Errno> {
    let strings = wire::terminated_strings(payload).ok_or(Errno::EINVAL)?;
    strings
        .map(|text| core::str::from_utf8(text).map_err(|_| Errno::EINVAL))
        .collect()
}

fn terminated(names: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
    }
    bytes
}
