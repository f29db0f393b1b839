//! Nodes and who may use them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::hypervisor::DomainId;
use crate::xenstore::{Errno, NodeAccess, Permission};

/// The domain that may do everything.
pub(super) const TOOLSTACK: DomainId = DomainId(0);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    pub(super) permissions: Vec<Permission>,
    /// Changes with the list of children.
    pub(super) generation: u64,
}

/// The nodes by absolute path; the root is the empty path.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    generation: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node {
            value: Vec::new(),
            permissions: [Permission {
                domain: TOOLSTACK,
                access: NodeAccess::Read,
            }]
            .to_vec(),
            generation: 0,
        };
        Self {
            nodes: BTreeMap::from([(String::new(), root)]),
            generation: 0,
        }
    }

    /// Grows with each change.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn read(&self, path: &str, domain: DomainId) -> Result<&Node, Errno> {
        let node = self.nodes.get(path).ok_or(Errno::ENOENT)?;
        if !may_read(node, domain) {
            return Err(Errno::EACCES);
        }
        Ok(node)
    }

    pub(super) fn children(&self, path: &str, domain: DomainId) -> Result<Vec<String>, Errno> {
        self.read(path, domain)?;
        let prefix = alloc::format!("{path}/");
        let below = self.nodes.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.map(|(path, _)| &path[prefix.len()..]);
        Ok(names
            .filter(|name| !name.contains('/') && !name.is_empty())
            .map(ToString::to_string)
            .collect())
    }

    /// Sets a value, or with `None` makes sure that the node exists. False if nothing changed.
    pub(super) fn write(
        &mut self,
        path: &str,
        value: Option<&[u8]>,
        domain: DomainId,
    ) -> Result<bool, Errno> {
        if let Some(node) = self.nodes.get_mut(path) {
            let Some(value) = value else {
                return Ok(false);
            };
            if !may_write(node, domain) {
                return Err(Errno::EACCES);
            }
            node.value = value.to_vec();
            self.generation += 1;
            return Ok(true);
        }
        self.create(path, value.unwrap_or_default(), domain)?;
        Ok(true)
    }

    /// Removes a node and all below it. False if there was none.
    pub(super) fn remove(&mut self, path: &str, domain: DomainId) -> Result<bool, Errno> {
        if path.is_empty() {
            return Err(Errno::EINVAL);
        }
        let Some(node) = self.nodes.get(path) else {
            return match self.nodes.contains_key(parent(path)) {
                true => Ok(false),
                false => Err(Errno::ENOENT),
            };
        };
        if !may_write(node, domain) {
            return Err(Errno::EACCES);
        }
        let prefix = alloc::format!("{path}/");
        self.nodes
            .retain(|other, _| other != path && !other.starts_with(&prefix));
        self.children_changed(parent(path));
        Ok(true)
    }

    pub(super) fn set_permissions(
        &mut self,
        path: &str,
        permissions: Vec<Permission>,
        domain: DomainId,
    ) -> Result<(), Errno> {
        let node = self.nodes.get_mut(path).ok_or(Errno::ENOENT)?;
        if domain != TOOLSTACK && owner(node) != domain {
            return Err(Errno::EACCES);
        }
        node.permissions = permissions;
        self.generation += 1;
        Ok(())
    }

    fn create(&mut self, path: &str, value: &[u8], domain: DomainId) -> Result<(), Errno> {
        let above = parent(path).to_string();
        if !self.nodes.contains_key(&above) {
            self.create(&above, b"", domain)?;
        }
        let Some(node) = self.nodes.get(&above) else {
            return Err(Errno::ENOENT);
        };
        if !may_write(node, domain) {
            return Err(Errno::EACCES);
        }
        // A new node has its parent's permissions, but belongs to who made it.
        let mut permissions = node.permissions.clone();
        if domain != TOOLSTACK {
            permissions[0].domain = domain;
        }
        let node = Node {
            value: value.to_vec(),
            permissions,
            generation: 0,
        };
        self.nodes.insert(path.to_string(), node);
        self.children_changed(&above);
        Ok(())
    }

    fn children_changed(&mut self, path: &str) {
        self.generation += 1;
        if let Some(node) = self.nodes.get_mut(path) {
            node.generation = self.generation;
        }
    }
}

/// The path above; the root is above itself.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn owner(node: &Node) -> DomainId {
    node.permissions[0].domain
}

fn may_read(node: &Node, domain: DomainId) -> bool {
    may(node, domain, &[NodeAccess::Read, NodeAccess::Both])
}

fn may_write(node: &Node, domain: DomainId) -> bool {
    may(node, domain, &[NodeAccess::Write, NodeAccess::Both])
}

fn may(node: &Node, domain: DomainId, enough: &[NodeAccess]) -> bool {
    if domain == TOOLSTACK || owner(node) == domain {
        return true;
    }
    let listed = node.permissions[1..]
        .iter()
        .find(|permission| permission.domain == domain);
    let permission = listed.unwrap_or(&node.permissions[0]);
    enough.contains(&permission.access)
}
