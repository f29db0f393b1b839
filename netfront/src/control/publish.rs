//! Setting up a connection and telling the backend of it.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen_proto::hypervisor::{DomainId, Hypervisor, ResourceError};
use xen_proto::xenbus::{Follower, Observation, State};
use xen_proto::xenstore::{Errno, Store, StoreError, join, join_all};

use super::{Control, Failure, address};
use crate::connection::{Connection, Memory, Offer, OfferedPorts, Ports};
use crate::settings::{Nodes, Settings};

/// Written as they are. Linux's netback refuses a frontend without the first two.
const FEATURES: [(&str, &str); 6] = [
    ("request-rx-copy", "1"),
    ("feature-rx-notify", "1"),
    ("feature-sg", "1"),
    // Blank checksums over IPv6 are understood; over IPv4 they are unless one says otherwise.
    ("feature-ipv6-csum-offload", "1"),
    // Long packets of TCP are taken whole.
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
];

/// Left by a boot loader or kernel before us they would promise what we do not keep.
const FOREIGN_KEYS: [&str; 2] = ["feature-no-csum-offload", "multi-queue-num-queues"];

/// What the nodes say that publishing depends on.
pub(super) struct Found {
    pub(super) ours: Ours,
    /// Those of the backend, if there is one.
    pub(super) theirs: Option<Nodes>,
}

/// The frontend's own nodes.
pub(super) struct Ours {
    pub(super) state: State,
    pub(super) mac: Option<String>,
    mtu: Option<String>,
    /// The names of all that are there.
    names: Vec<String>,
}

impl<H: Hypervisor> Control<H> {
    /// Makes rings for the backend that was last observed and writes them into xenstore. Returns
    /// what was observed after that.
    ///
    /// No transaction, which would take two round trips more: nobody looks at these nodes before
    /// the state says `Connected`, which is written last. A device that is taken away meanwhile is
    /// made again by such a write, where the toolstack lets guests create nodes there (libxl does
    /// not). Requests are dealt with in order, so the observation that follows tells: if the device
    /// is there, all was written to it, or to one before it, whose nodes the toolstack removes before
    /// it adds another; if not, [`Action::Release`](super::Action::Release) removes what was made.
    pub(super) async fn publish(
        &mut self,
        follower: &mut Follower<H>,
    ) -> Result<Option<Observation>, Failure> {
        let Some((path, domain)) = address(follower) else {
            // It was taken away meanwhile, as the next observation tells.
            return Ok(None);
        };
        let (ours, theirs) = match self.found.take() {
            Some(Found {
                ours,
                theirs: Some(theirs),
            }) => (ours, theirs),
            // Not the first attempt.
            _ => {
                let (ours, theirs) = join(self.read_ours(), self.read_theirs(&path)).await;
                (ours?, theirs?)
            }
        };
        let nodes = Nodes {
            mac: ours.mac,
            mtu: ours.mtu,
            ..theirs
        };
        let (settings, complaints) = Settings::negotiate(&nodes)
            .map_err(|error| Failure::Attempt(format!("cannot connect: {error}")))?;
        for complaint in complaints {
            self.log_problem(format_args!("{complaint}"));
        }
        let settings = Rc::new(settings);
        let connection = self.set_up(domain, settings.clone()).map_err(|error| {
            Failure::Attempt(format!("cannot connect to domain {domain}: {error}"))
        })?;
        let offer = connection.offer();
        // Kept from here on, so that the backend finds what it is told of.
        self.published = Some(connection);
        self.backend = Some((path, domain));
        self.shared.borrow_mut().settle(settings);
        self.unconfirmed = true;
        let (store, node) = (self.nodes.store(), |key| self.nodes.node(key));
        let (new, old) = ring_keys(&offer);
        let is_there = |key: &&str| ours.names.iter().any(|name| name == key);
        let removals = FOREIGN_KEYS.iter().chain(old).copied().filter(is_there);
        let features = FEATURES.map(|(key, value)| (key, value.to_string()));
        let rings = new.into_iter().map(|(key, value)| (key, value.to_string()));
        let state = ("state", State::Connected.text().to_string());
        let writes = features.into_iter().chain(rings).chain([state]);
        // All under way at a time: one round trip for everything.
        let (removed, (written, seen)) = join(
            join_all(removals.map(async |key| store.remove(&node(key)).await)),
            join(
                join_all(writes.map(async |(key, value): (&str, String)| {
                    store.write(&node(key), &value).await
                })),
                follower.observe(),
            ),
        )
        .await;
        let seen = seen?;
        if seen.present {
            self.unconfirmed = false;
            removed
                .into_iter()
                .chain(written)
                .collect::<Result<(), _>>()?;
            self.shared.borrow_mut().frontend = State::Connected;
        }
        Ok(Some(seen))
    }

    /// Reads our own nodes.
    pub(super) async fn read_ours(&self) -> Result<Ours, StoreError> {
        let store = self.nodes.store();
        let ours = async |name| read_if_there(store, &self.nodes.node(name)).await;
        let (state, (mac, (mtu, names))) = join(
            self.nodes.state(),
            join(
                ours("mac"),
                join(ours("mtu"), store.directory(self.nodes.path())),
            ),
        )
        .await;
        Ok(Ours {
            state: state?,
            mac: mac?,
            mtu: mtu?,
            names: match names {
                Err(error) if error.is_not_found() => Vec::new(),
                names => names?,
            },
        })
    }

    /// Reads the backend's nodes, at this path. Those of ours are left out.
    pub(super) async fn read_theirs(&self, backend: &str) -> Result<Nodes, StoreError> {
        let store = self.nodes.store();
        let read = async |name| read_if_there(store, &format!("{backend}/{name}")).await;
        let names = [
            "ip",
            "feature-rx-copy",
            "feature-sg",
            "feature-split-event-channels",
            "feature-no-csum-offload",
            "feature-ipv6-csum-offload",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
        ];
        let mut values = join_all(names.into_iter().map(read)).await.into_iter();
        let mut next = || values.next().unwrap_or(Ok(None));
        // In the order asked for.
        Ok(Nodes {
            mac: None,
            mtu: None,
            ip: next()?,
            rx_copy: next()?,
            scatter_gather: next()?,
            split_event_channels: next()?,
            no_checksum_offload: next()?,
            ipv6_checksum_offload: next()?,
            ipv4_segmentation: next()?,
            ipv6_segmentation: next()?,
        })
    }

    fn set_up(
        &mut self,
        peer: DomainId,
        settings: Rc<Settings>,
    ) -> Result<Connection<H>, ResourceError> {
        // A connection whose publication failed is as good as never made.
        let left_over = self.published.take().or(self.retired.take());
        if let Some(connection) = left_over {
            self.memory = Some(connection.into_memory());
        }
        let memory = match self.memory.take() {
            Some(memory) if memory.peer() == peer => memory,
            other => {
                drop(other);
                Memory::grant(&self.hypervisor, peer)?
            }
        };
        match Ports::allocate(&self.hypervisor, peer, settings.split_event_channels) {
            Ok(ports) => Ok(Connection::new(
                self.hypervisor.clone(),
                memory,
                ports,
                settings,
                self.ring_start,
            )),
            Err(error) => {
                self.memory = Some(memory);
                Err(error)
            }
        }
    }
}

/// Keys to write with their values, and keys of the other form of event channels to remove.
fn ring_keys(offer: &Offer) -> (Vec<(&'static str, u32)>, &'static [&'static str]) {
    let mut keys = vec![
        ("tx-ring-ref", offer.transmit_ring.0),
        ("rx-ring-ref", offer.receive_ring.0),
    ];
    match offer.ports {
        OfferedPorts::Shared(port) => {
            keys.push(("event-channel", port.0));
            (keys, &["event-channel-tx", "event-channel-rx"])
        }
        OfferedPorts::Split { transmit, receive } => {
            keys.push(("event-channel-tx", transmit.0));
            keys.push(("event-channel-rx", receive.0));
            (keys, &["event-channel"])
        }
    }
}

/// A node's text; `None` if it is not there, not ours to read, or no text.
pub(super) async fn read_if_there<H: Hypervisor>(
    store: &Store<H>,
    path: &str,
) -> Result<Option<String>, StoreError> {
    match store.read(path).await {
        Ok(text) => Ok(Some(text)),
        Err(StoreError::NotText { .. } | StoreError::Misuse { .. }) => Ok(None),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => Ok(None),
        Err(error) => Err(error),
    }
}
