//! Finds the connection that a segment belongs to.

use core::hash::{BuildHasher, Hash, Hasher};
use core::net::IpAddr;

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

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.connections.values()
    }

    /// Takes all of them out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        core::mem::replace(&mut self.connections, HashMap::with_hasher(Key::random())).into_values()
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }
}

/// The key of SipHash. It is secret and random, so a peer cannot choose addresses and ports
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
    type Hasher = SipHasher;

    fn build_hasher(&self) -> SipHasher {
        SipHasher {
            state: [
                self.low ^ 0x736f_6d65_7073_6575,
                self.high ^ 0x646f_7261_6e64_6f6d,
                self.low ^ 0x6c79_6765_6e65_7261,
                self.high ^ 0x7465_6462_7974_6573,
            ],
            length: 0,
        }
    }
}

/// SipHash-1-3, the variant that std's maps use (Aumasson and Bernstein, "SipHash: a fast
/// short-input PRF", 2012), for input in whole words of 64 bits.
struct SipHasher {
    state: [u64; 4],
    length: u64,
}

impl SipHasher {
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.state;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.state[0] ^= word;
    }
}

impl Hasher for SipHasher {
    fn write_u64(&mut self, word: u64) {
        self.absorb(word);
        self.length += 8;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        let mut end = Self { ..*self };
        end.absorb(self.length << 56);
        end.state[2] ^= 0xff;
        for _ in 0..3 {
            end.round();
        }
        end.state.iter().fold(0, |hash, word| hash ^ word)
    }
}

/// Both ends in as few words as hold them.
impl Hash for Flow {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let ports = u64::from(self.local.port) << 16 | u64::from(self.peer.port);
        match (self.local.address, self.peer.address) {
            (IpAddr::V4(local), IpAddr::V4(peer)) => {
                hasher.write_u64(u64::from(local.to_bits()) << 32 | u64::from(peer.to_bits()));
                hasher.write_u64(ports);
            }
            (local, peer) => {
                for address in [local, peer] {
                    let bits = match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                        IpAddr::V6(address) => address.to_bits(),
                    };
                    hasher.write_u64((bits >> 64) as u64);
                    hasher.write_u64(bits as u64);
                }
                hasher.write_u64(ports);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_std_does() {
        // std's default hasher is SipHash-1-3 with the key 0.
        for words in 0..6 {
            let mut own = Key { low: 0, high: 0 }.build_hasher();
            let mut other = std::hash::DefaultHasher::new();
            for word in 0..words {
                let word = (word + 1) * 0x0123_4567_89ab_cdef_u64;
                own.write_u64(word);
                other.write_u64(word);
            }
            assert_eq!(own.finish(), other.finish());
        }
    }

    #[test]
    fn every_part_of_a_flow_counts() {
        use crate::net::frame::Endpoint;
        let key = Key { low: 1, high: 2 };
        let endpoint = |address: [u8; 4], port| Endpoint {
            address: address.into(),
            port,
        };
        let flows = [
            ([10, 0, 0, 1], 80, [10, 0, 0, 2], 5000),
            ([10, 0, 0, 2], 80, [10, 0, 0, 1], 5000),
            ([10, 0, 0, 1], 81, [10, 0, 0, 2], 5000),
            ([10, 0, 0, 1], 80, [10, 0, 0, 3], 5000),
            ([10, 0, 0, 1], 80, [10, 0, 0, 2], 5001),
            ([10, 0, 0, 1], 5000, [10, 0, 0, 2], 80),
        ];
        let hashes: std::collections::HashSet<u64> = flows
            .iter()
            .map(|&(local, local_port, peer, peer_port)| {
                key.hash_one(Flow {
                    local: endpoint(local, local_port),
                    peer: endpoint(peer, peer_port),
                })
            })
            .collect();
        assert_eq!(hashes.len(), flows.len());
    }
}
