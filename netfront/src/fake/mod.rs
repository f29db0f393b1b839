//! A strict network backend for host tests.
//!
//! It plays the part of a host's netback over [`xen_proto::fake`]: xenstore nodes, states,
//! rings with their real bytes. What a real backend would refuse, or silently suffer from,
//! panics here with the reason. To misbehave itself, a test writes into the [`Rings`].
//!
//! Nothing happens by itself: [`FakeBackend::service`] does all that is to be done now.

mod packet;
mod rings;
mod segments;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_proto::fake::{FakeHypervisor, FakeXenstored, TestBed};
use xen_proto::hypervisor::{DomainId, GrantReference, PortNumber};
use xen_proto::xenbus::State;

pub use self::packet::{Fragment, Packet, ReceivedFrame};
pub use self::rings::{Completion, Rings};

/// What a backend offers, and how it behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The domain it runs in.
    pub domain: DomainId,
    /// `feature-sg`.
    pub scatter_gather: bool,
    /// `feature-split-event-channels`.
    pub split_event_channels: bool,
    /// `feature-no-csum-offload`.
    pub no_checksum_offload: bool,
    /// `feature-ipv6-csum-offload`.
    pub ipv6_checksum_offload: bool,
    /// `feature-gso-tcpv4` and `feature-gso-tcpv6`.
    pub segmentation: bool,
    /// Never goes from `InitWait` to `Connected`.
    pub never_connects: bool,
    /// When and in which order transmit requests are answered.
    pub completion: Completion,
}

impl Default for Options {
    /// What Linux's netback offers.
    fn default() -> Self {
        Self {
            domain: TestBed::PEER,
            scatter_gather: true,
            split_event_channels: true,
            no_checksum_offload: false,
            ipv6_checksum_offload: true,
            segmentation: true,
            never_connects: false,
            completion: Completion::AtOnce,
        }
    }
}

/// One virtual interface's other side: the backend, and the toolstack as far as it is needed.
pub struct FakeBackend {
    hypervisor: FakeHypervisor,
    xenstored: FakeXenstored,
    handle: u32,
    options: Options,
    state: State,
    rings: Option<Rings>,
    connections: u32,
}

impl FakeBackend {
    /// Plugs interface `handle` with address `mac` into the guest of `bed`, as `xl` does, and
    /// starts a backend for it.
    pub fn plug(bed: &TestBed, handle: u32, mac: &str, options: Options) -> Self {
        let mut backend = Self {
            hypervisor: bed.hypervisor.clone(),
            xenstored: bed.xenstored.clone(),
            handle,
            options,
            state: State::Initialising,
            rings: None,
            connections: 0,
        };
        bed.xenstored
            .add_device("vif", handle, backend.options.domain);
        backend.write_frontend("mac", mac);
        backend.start();
        backend
    }

    /// The guest was restored as another domain: the toolstack plugs the interface in again, and a new
    /// backend starts for it. What the old one had is nothing to anyone.
    pub fn plug_again(&mut self, mac: &str) {
        self.rings = None;
        self.xenstored
            .add_device("vif", self.handle, self.options.domain);
        self.write_frontend("mac", mac);
        self.start();
    }

    /// The guest was restored without the interface: there is no backend either.
    pub fn leave_out(&mut self) {
        self.rings = None;
        self.state = State::Unknown;
    }

    /// What the backend offers; to change before it [starts](Self::start) again.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// The backend's state, as it last wrote it.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often the frontend connected.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// The rings, while connected.
    ///
    /// # Panics
    /// If there is no connection.
    pub fn rings(&mut self) -> &mut Rings {
        self.rings.as_mut().expect("the frontend is not connected")
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.rings.is_some()
    }

    /// The frontend's state, as it stands in xenstore.
    pub fn frontend_state(&self) -> State {
        let text = self.xenstored.read(&self.frontend_node("state"));
        text.map_or(State::Unknown, |text| {
            State::parse(&text).expect("the frontend wrote a state")
        })
    }

    /// Writes one of the nodes below `device/vif/<handle>`, as the toolstack.
    pub fn write_frontend(&self, name: &str, value: &str) {
        self.xenstored.write(&self.frontend_node(name), value);
    }

    /// Reads one of the nodes below `device/vif/<handle>`.
    pub fn read_frontend(&self, name: &str) -> Option<String> {
        self.xenstored.read(&self.frontend_node(name))
    }

    /// Writes one of the backend's nodes.
    pub fn write_backend(&self, name: &str, value: &str) {
        self.xenstored.write(&self.backend_node(name), value);
    }

    /// Removes one of the backend's nodes.
    pub fn remove_backend(&self, name: &str) {
        self.xenstored.remove(&self.backend_node(name));
    }

    /// Changes the backend's state, whatever the frontend's is.
    pub fn set_state(&mut self, state: State) {
        self.state = state;
        self.write_backend("state", state.text());
    }

    /// Starts the backend, in a domain that may be another one than before: writes all its
    /// nodes and waits for the frontend.
    pub fn start(&mut self) {
        let flag = |value: bool| if value { "1" } else { "0" };
        let guest = self.hypervisor.guest();
        let domain = self.options.domain;
        let home = self.backend_path();
        self.xenstored.write(&home, "");
        self.xenstored.set_owner(&home, domain, &[guest]);
        self.write_backend("frontend", &self.frontend_path());
        self.write_backend("frontend-id", &guest.to_string());
        self.write_backend("handle", &self.handle.to_string());
        self.write_backend("online", "1");
        self.write_backend("feature-rx-copy", "1");
        self.write_backend("feature-rx-flip", "0");
        self.write_backend("feature-sg", flag(self.options.scatter_gather));
        let segmentation = flag(self.options.segmentation);
        self.write_backend("feature-gso-tcpv4", segmentation);
        self.write_backend("feature-gso-tcpv6", segmentation);
        self.write_backend("multi-queue-max-queues", "4294967295");
        if self.options.no_checksum_offload {
            self.write_backend("feature-no-csum-offload", "1");
        } else {
            self.remove_backend("feature-no-csum-offload");
        }
        let ipv6 = flag(self.options.ipv6_checksum_offload);
        self.write_backend("feature-ipv6-csum-offload", ipv6);
        let split = flag(self.options.split_event_channels);
        self.write_backend("feature-split-event-channels", split);
        self.set_state(State::InitWait);
        // Last, so that the frontend finds the rest.
        self.write_frontend("backend-id", &domain.to_string());
        self.write_frontend("backend", &home);
    }

    /// Lets go of the rings, as a backend does before it closes.
    pub fn unmap(&mut self) {
        self.rings = None;
    }

    /// The backend dies without a word: what it had mapped is unmapped, its nodes vanish.
    pub fn die(&mut self) {
        self.rings = None;
        self.state = State::Unknown;
        self.xenstored.remove(&self.backend_path());
    }

    /// The toolstack takes the device away (`xl network-detach`): asks the frontend to close.
    pub fn detach(&mut self) {
        self.write_backend("online", "0");
        self.set_state(State::Closing);
    }

    /// The toolstack removes the nodes of both sides.
    pub fn remove(&mut self) {
        self.rings = None;
        self.state = State::Unknown;
        self.xenstored.remove(&self.frontend_path());
        self.xenstored.remove(&self.backend_path());
    }

    /// Follows the frontend's state and answers its requests. True if there was anything to do.
    pub fn service(&mut self) -> bool {
        let before = self.state;
        if self.state != State::Unknown {
            self.follow_frontend();
        }
        let worked = match &mut self.rings {
            Some(rings) => rings.service(self.options.completion),
            None => false,
        };
        worked || self.state != before
    }

    fn follow_frontend(&mut self) {
        match (self.frontend_state(), self.state) {
            (State::Initialising, State::Closed) => {
                self.set_state(State::InitWait);
            }
            (State::Initialising, State::Connected | State::Closing) => {
                self.rings = None;
                self.set_state(State::Closed);
            }
            (State::Connected, State::InitWait) if !self.options.never_connects => {
                self.connect();
                self.set_state(State::Connected);
            }
            (State::Closing, State::InitWait | State::Connected) => {
                self.rings = None;
                self.set_state(State::Closing);
            }
            (State::Closed, State::InitWait | State::Connected | State::Closing) => {
                self.rings = None;
                self.set_state(State::Closed);
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        assert_eq!(
            self.read_frontend("request-rx-copy").as_deref(),
            Some("1"),
            "netback refuses a frontend that does not ask for copying"
        );
        assert_eq!(
            self.read_frontend("feature-rx-notify").as_deref(),
            Some("1"),
            "netback stalls a frontend that does not notify"
        );
        for key in ["multi-queue-num-queues", "feature-no-csum-offload"] {
            assert_eq!(self.read_frontend(key), None, "{key} is not implemented");
        }
        // Linux sends long packets only to who takes several pages and blank checksums.
        for key in [
            "feature-sg",
            "feature-ipv6-csum-offload",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
        ] {
            let value = self.read_frontend(key);
            assert_eq!(value.as_deref(), Some("1"), "{key} is implemented");
        }
        let ports = ["event-channel-tx", "event-channel-rx", "event-channel"];
        let ports: Vec<_> = ports.map(|key| self.read_frontend(key)).into();
        let (transmit_port, receive_port) = match &ports[..] {
            [Some(transmit), Some(receive), None] => {
                assert!(
                    self.options.split_event_channels,
                    "two ports were not offered"
                );
                (number(transmit), Some(number(receive)))
            }
            [None, None, Some(port)] => (number(port), None),
            keys => panic!("contradictory event channels: {keys:?}"),
        };
        let reference = |key: &str| {
            let text = self.read_frontend(key);
            GrantReference(number(&text.unwrap_or_else(|| panic!("{key} is missing"))))
        };
        self.rings = Some(Rings::connect(
            self.hypervisor.peer(self.options.domain),
            reference("tx-ring-ref"),
            reference("rx-ring-ref"),
            PortNumber(transmit_port),
            receive_port.map(PortNumber),
            &self.options,
        ));
        self.connections += 1;
    }

    fn frontend_node(&self, name: &str) -> String {
        format!("{}/{name}", self.frontend_path())
    }

    fn backend_node(&self, name: &str) -> String {
        format!("{}/{name}", self.backend_path())
    }

    fn frontend_path(&self) -> String {
        let guest = self.hypervisor.guest();
        format!("/local/domain/{guest}/device/vif/{}", self.handle)
    }

    fn backend_path(&self) -> String {
        let guest = self.hypervisor.guest();
        let domain = self.options.domain;
        format!("/local/domain/{domain}/backend/vif/{guest}/{}", self.handle)
    }
}

fn number(text: &str) -> u32 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}
