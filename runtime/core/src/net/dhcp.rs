//! The DHCP client of an interface (RFC 2131): smoltcp's, with its lease checked before use. That no server
//! answers is for [`super::silence`] to say.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::{Config, Event, RetryConfig, Socket};
use smoltcp::wire::{DHCP_CLIENT_PORT, DHCP_SERVER_PORT};

use super::engine::Engine;
use super::frame::Flow;
use super::is_host_ipv4;
use crate::memory::{self, OutOfMemory};
use crate::time::{Duration, Instant};

/// How long a lease is kept that no server has confirmed since the link came up again.
const UNCONFIRMED_LIMIT: Duration = Duration::from_secs(60);

/// How often to look for a server.
const DISCOVER_PERIOD: Duration = Duration::from_secs(3);

/// The DHCP client of an interface.
pub(super) struct Dhcp {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    lease: Option<Lease>,
    /// When to drop a lease unless it is confirmed before.
    confirm_by: Option<Instant>,
    poll_at: Option<Instant>,
}

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix_length: u8,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
}

/// More than a message of smoltcp's client has behind its headers, in bytes.
const LONGEST_MESSAGE: usize = 1024;

impl Dhcp {
    pub(super) fn new(now: Instant) -> Self {
        let mut retry = RetryConfig::default();
        retry.discover_timeout = DISCOVER_PERIOD.into();
        let mut socket = Socket::new();
        socket.set_retry_config(retry);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            sockets,
            handle,
            lease: None,
            confirm_by: None,
            poll_at: Some(now),
        }
    }

    /// Whether a datagram goes from a server to a client.
    pub(super) fn is_for_client(flow: &Flow) -> bool {
        flow.local.port == DHCP_CLIENT_PORT
            && flow.peer.port == DHCP_SERVER_PORT
            && flow.local.address.is_ipv4()
    }

    /// Asks for a lease anew, and keeps the one there is for a while: connections outlive a
    /// backend that restarts.
    pub(super) fn restart(&mut self, now: Instant) {
        self.socket().reset();
        self.confirm_by = self.lease.as_ref().map(|_| now + UNCONFIRMED_LIMIT);
        self.poll_at = Some(now);
    }

    pub(super) fn receive(&mut self, engine: &mut Engine, now: Instant, frame: &[u8]) {
        engine.receive(now, frame, Some(&mut self.sockets));
        self.poll_at = Some(now);
    }

    /// Does what is to do now. True when the lease changed.
    pub(super) fn work(&mut self, name: &str, engine: &mut Engine, now: Instant) -> bool {
        if self.confirm_by.is_some_and(|at| at <= now) {
            return self.lose(name);
        }
        if self.poll_at.is_none_or(|at| at > now) {
            return false;
        }
        // One packet: smoltcp's client sends no more at a time.
        engine.send(now, &mut self.sockets, LONGEST_MESSAGE);
        let changed = self.take_event(name);
        let next = engine.next_poll(now, &self.sockets);
        // A device without room, or a server whose Ethernet address is not known, is tried again.
        self.poll_at = next.map(|at| at.max(now + Duration::from_millis(100)));
        changed
    }

    /// Whether a server has answered since the link came up.
    pub(super) fn is_answered(&self) -> bool {
        self.lease.is_some() && self.confirm_by.is_none()
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.poll_at, self.confirm_by];
        deadlines.into_iter().flatten().min()
    }

    fn take_event(&mut self, name: &str) -> bool {
        let is_unconfirmed = self.confirm_by.is_some();
        let lease = match self.socket().poll() {
            None => return false,
            Some(Event::Configured(config)) => match Lease::checked(&config) {
                Some(lease) => lease,
                None => {
                    log::warn!(target: "net", "{name}: DHCP lease ignored: {config:?}");
                    self.socket().reset();
                    return false;
                }
            },
            // smoltcp says so at the start, and when the client is told to start anew, too.
            Some(Event::Deconfigured) if is_unconfirmed => return false,
            Some(Event::Deconfigured) => return self.lose(name),
        };
        self.confirm_by = None;
        log::info!(
            target: "net",
            "{name}: DHCP lease of {}/{}, name servers {:?}",
            lease.address,
            lease.prefix_length,
            lease.dns
        );
        let is_new = self.lease.as_ref() != Some(&lease);
        self.lease = Some(lease);
        is_new
    }

    fn lose(&mut self, name: &str) -> bool {
        self.confirm_by = None;
        let had_one = self.lease.take().is_some();
        if had_one {
            log::warn!(target: "net", "{name}: DHCP lease lost");
        }
        had_one
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl Lease {
    /// What a server says, if it makes sense.
    fn checked(config: &Config<'_>) -> Option<Self> {
        let prefix_length = config.address.prefix_len();
        if !is_host_ipv4(config.address.address()) || prefix_length == 0 {
            return None;
        }
        Some(Self {
            address: config.address.address(),
            prefix_length,
            gateway: config.router.filter(|router| is_host_ipv4(*router)),
            dns: name_servers(config),
        })
    }
}

/// The name servers that make sense; none without memory for them: the address is worth more.
fn name_servers(config: &Config<'_>) -> Vec<Ipv4Addr> {
    let given = config.dns_servers.iter().copied();
    let servers = given.filter(|server| is_host_ipv4(*server));
    match memory::with_capacity(config.dns_servers.len()) {
        Ok(mut list) => {
            list.extend(servers);
            list
        }
        Err(OutOfMemory) => Vec::new(),
    }
}
