//! Setting up a connection and telling the backend of it.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen_proto::hypervisor::{DomainId, Hypervisor, ResourceError};
use xen_proto::xenbus::{Follower, State};
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

impl<H: Hypervisor> Control<H> {
    /// Makes rings for the backend that was last observed and writes them into xenstore.
    pub(super) async fn publish(&mut self, follower: &Follower<H>) -> Result<(), Failure> {
        let Some((path, domain)) = address(follower) else {
            // It was taken away meanwhile, as the next observation tells.
            return Ok(());
        };
        let nodes = self.read_nodes(&path).await?;
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
        let nodes = &self.nodes;
        let written = nodes
            .update(async |transaction| {
                let (new, old) = ring_keys(&offer);
                let removals = FOREIGN_KEYS.iter().chain(old);
                let features = FEATURES.map(|(key, value)| (key, value.to_string()));
                let rings = new.into_iter().map(|(key, value)| (key, value.to_string()));
                let state = ("state", State::Connected.text().to_string());
                let writes = features.into_iter().chain(rings).chain([state]);
                // All under way at a time: one round trip instead of one each.
                let (removed, written) = join(
                    join_all(removals.map(async |key| transaction.remove(&nodes.node(key)).await)),
                    join_all(writes.map(async |(key, value): (&str, String)| {
                        transaction.write(&nodes.node(key), &value).await
                    })),
                )
                .await;
                removed.into_iter().chain(written).collect()
            })
            .await?;
        if written {
            self.shared.borrow_mut().frontend = State::Connected;
        }
        Ok(())
    }

    async fn read_nodes(&self, backend: &str) -> Result<Nodes, StoreError> {
        let store = self.nodes.store();
        let ours = async |name| read_if_there(store, &self.nodes.node(name)).await;
        let theirs = async |name| read_if_there(store, &format!("{backend}/{name}")).await;
        let (ours, theirs) = join(
            join_all(["mac", "mtu"].map(ours)),
            join_all(
                [
                    "ip",
                    "feature-rx-copy",
                    "feature-sg",
                    "feature-split-event-channels",
                    "feature-no-csum-offload",
                    "feature-ipv6-csum-offload",
                    "feature-gso-tcpv4",
                    "feature-gso-tcpv6",
                ]
                .map(theirs),
            ),
        )
        .await;
        let mut ours = ours.into_iter();
        let mut theirs = theirs.into_iter();
        let mut our = || ours.next().unwrap_or(Ok(None));
        let mut their = || theirs.next().unwrap_or(Ok(None));
        // In the order asked for.
        Ok(Nodes {
            mac: our()?,
            mtu: our()?,
            ip: their()?,
            rx_copy: their()?,
            scatter_gather: their()?,
            split_event_channels: their()?,
            no_checksum_offload: their()?,
            ipv6_checksum_offload: their()?,
            ipv4_segmentation: their()?,
            ipv6_segmentation: their()?,
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
