//! Finds the connection that a segment belongs to.

use core::hash::BuildHasher;

use hashbrown::HashMap;

use super::frame::Flow;
use crate::random;

/// Connections by their two ends. Looking one up costs the same however many there are.
pub(super) struct Demultiplexer<T> {
    connections: HashMap<Flow, T, Key>,
}

impl<T: Clone> Demultiplexer<T> {
    pub(super) fn new() -> Self {
        Self {
            connections: HashMap::with_hasher(Key::random()),
        }
    }

    pub(super) fn find(&self, flow: &Flow) -> Option<T> {
        self.connections.get(flow).cloned()
    }

    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.connections.contains_key(flow)
    }

    /// False when there is no memory for one more.
    pub(super) fn insert(&mut self, flow: Flow, connection: T) -> bool {
        if self.connections.try_reserve(1).is_err() {
            return false;
        }
        self.connections.insert(flow, connection);
        true
    }

    pub(super) fn remove(&mut self, flow: &Flow) -> Option<T> {
        self.connections.remove(flow)
    }

    /// Takes all of them out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        core::mem::replace(&mut self.connections, HashMap::with_hasher(Key::random())).into_values()
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }
}

/// The key of SipHash-2-4. It is secret and random, so a peer cannot choose addresses and ports
/// that collide and turn the map into a list.
#[derive(Clone, Copy)]
struct Key {
    low: u64,
    high: u64,
}

impl Key {
    fn random() -> Self {
        Self {
            low: random::network_u64(),
            high: random::network_u64(),
        }
    }
}

impl BuildHasher for Key {
    #[expect(
        deprecated,
        reason = "core's SipHash is deprecated in favour of std's, which a guest does not have"
    )]
    type Hasher = core::hash::SipHasher;

    #[expect(deprecated, reason = "as above")]
    fn build_hasher(&self) -> Self::Hasher {
        core::hash::SipHasher::new_with_keys(self.low, self.high)
    }
}
