//! The stack: its interfaces, and what they share.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;

use smoltcp::wire::IpEndpoint;

use super::bound::Bound;
use super::budget::Budget;
use super::capture::{Capture, CaptureError, Tap};
use super::connection::Connection;
use super::device::NetworkDevice;
use super::frame::{Endpoint, Flow};
use super::interface::Interface;
use super::listener::{Backlog, TcpListener, covers, overlaps};
use super::tcp::{TcpOptions, TcpStream};
use super::udp::{Mailbox, UdpOptions, UdpSocket};
use super::wakers::Wakers;
use super::{
    AddressConfig, AddressSource, BindError, ConnectError, Diagnosis, InterfaceInformation,
    InterfaceWatch, OpenSockets, ResolveError, ports,
};
use crate::config::Settings;
use crate::context;
use crate::executor;
use crate::report::Sink;
use crate::time::Instant;

/// A network stack: interfaces, and the sockets that use them.
///
/// A runtime has one, and the free functions and the constructors of the sockets use it. More of
/// them make sense in tests only.
#[derive(Clone)]
pub struct Stack(Rc<Shared>);

impl Stack {
    /// A stack without interfaces.
    #[expect(
        clippy::new_without_default,
        reason = "a default stack is that of the runtime"
    )]
    pub fn new() -> Self {
        Self(Rc::new(Shared {
            interfaces: RefCell::default(),
            listeners: RefCell::default(),
            mailboxes: RefCell::default(),
            dns_servers: RefCell::default(),
            budget: Budget::unlimited(),
            next_number: Cell::new(0),
            is_cleared: Cell::new(false),
            interface_changes: Cell::new(0),
            interface_watchers: Wakers::default(),
            tap: Rc::default(),
        }))
    }

    /// The stack of the running runtime.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn current() -> Self {
        context::current().stack.clone()
    }

    /// Starts a task that runs `device` with these addresses, as the interface with the next
    /// number.
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub fn add_interface(&self, device: Box<dyn NetworkDevice>, config: AddressConfig) {
        let interfaces = self.0.interfaces.borrow();
        let number = interfaces.last().map_or(0, |last| last.number + 1);
        drop(interfaces);
        self.add_numbered_interface(number, device, move |_| config);
    }

    /// Starts a task that runs `device`, as interface `number`, counted from 0. What `configure`
    /// says of the address that the host assigned is asked for again whenever that changes.
    ///
    /// When the device is taken away ([`NetworkDevice::is_present`]), its addresses and routes go
    /// with it. Connections wait for its return for a minute; then, or as soon as there are none,
    /// the device is dropped.
    ///
    /// # Panics
    /// Outside of a running runtime, and if there is an interface with this number.
    pub fn add_numbered_interface(
        &self,
        number: usize,
        device: Box<dyn NetworkDevice>,
        configure: impl Fn(Option<&str>) -> AddressConfig + 'static,
    ) {
        let mut interfaces = self.0.interfaces.borrow_mut();
        let place = interfaces.partition_point(|other| other.number < number);
        assert!(
            interfaces
                .get(place)
                .is_none_or(|other| other.number != number),
            "interface {number} exists"
        );
        let stack = Rc::downgrade(&self.0);
        let interface = Interface::new(stack, number, device, Box::new(configure));
        let interface = Rc::new(interface);
        interfaces.insert(place, interface.clone());
        drop(interfaces);
        interface.configure();
        self.0.interface_changed();
        drop(executor::spawn(interface.run()));
    }

    /// Says on the log what the command line configures and is not there, once all devices have
    /// been added: above all, that there is no network at all.
    pub fn report_missing_interfaces(&self, settings: &Settings) {
        let interfaces = self.0.interfaces.borrow();
        if interfaces.is_empty() {
            log::warn!(target: "net", "{}", Diagnosis::NoInterface);
        }
        for number in settings.configured_interfaces() {
            let is_there = interfaces.iter().any(|other| other.number == number);
            let is_said = interfaces.is_empty() && number == 0;
            if !(is_there || is_said) {
                log::error!(
                    target: "net",
                    "net{number}: the command line configures interface {number}, which is not \
                     there; {} are",
                    interfaces.len()
                );
            }
        }
    }

    /// Sets the name servers to ask, in this order. Those that DHCP names are asked when there
    /// are none.
    pub fn set_dns_servers(&self, servers: Vec<IpAddr>) {
        *self.0.dns_servers.borrow_mut() = servers;
    }

    /// Limits the memory that the buffers of all connections and sockets take together, in
    /// bytes. Beyond it, new connections are refused and datagrams dropped. Unlimited unless
    /// told.
    pub fn set_buffer_limit(&self, bytes: usize) {
        self.0.budget.set_limit(bytes);
    }

    /// Bytes that the buffers of all connections and sockets take now.
    pub fn buffer_memory(&self) -> usize {
        self.0.budget.used()
    }

    /// The state of all interfaces whose device is there.
    pub fn interfaces(&self) -> Vec<InterfaceInformation> {
        let interfaces = self.0.interfaces.borrow();
        interfaces
            .iter()
            .filter(|interface| interface.follower.is_present())
            .map(|interface| interface.information())
            .collect()
    }

    /// Follows the interfaces from now on: see [`InterfaceWatch`].
    pub fn watch_interfaces(&self) -> InterfaceWatch {
        InterfaceWatch::new(self.clone())
    }

    /// What the devices of all interfaces say of themselves.
    pub fn report_devices(&self, tell: &mut Sink<'_>) {
        for interface in self.0.interfaces.borrow().iter() {
            interface.report_device(tell);
        }
    }

    /// Looks closely whether interfaces are heard: asks their gateways. A moment later
    /// [`diagnoses`](Self::diagnoses) knows more.
    pub fn look_closely(&self) {
        for interface in self.0.interfaces.borrow().iter() {
            interface.look_closely();
        }
    }

    /// What is wrong with each interface whose device is there, by its name; or that there is none.
    pub fn diagnoses(&self) -> Vec<(Option<String>, Diagnosis)> {
        let interfaces = self.0.interfaces.borrow();
        let found: Vec<_> = interfaces
            .iter()
            .filter(|interface| interface.follower.is_present())
            .map(|interface| (Some(interface.name.clone()), interface.diagnose()))
            .collect();
        match found.is_empty() {
            true => Vec::from([(None, Diagnosis::NoInterface)]),
            false => found,
        }
    }

    /// The sockets that wait for whoever comes.
    pub fn open_sockets(&self) -> OpenSockets {
        let listeners = self.0.listeners.borrow();
        let mailboxes = self.0.mailboxes.borrow();
        OpenSockets {
            listeners: listeners
                .iter()
                .map(|backlog| backlog.information())
                .collect(),
            datagram_addresses: mailboxes.iter().map(|mailbox| mailbox.address).collect(),
        }
    }

    /// Waits until the network can be used, and gives the address under which this guest is
    /// reached: the first one that is not link-local, on the first interface whose link is up.
    /// `None` if there is no interface.
    pub async fn first_address(&self) -> Option<IpAddr> {
        poll_fn(|task| {
            self.0.interface_watchers.register(task.waker());
            let interfaces = self.interfaces();
            if interfaces.is_empty() {
                return Poll::Ready(None);
            }
            let found = interfaces
                .iter()
                .filter(|interface| interface.link_is_up)
                .flat_map(|interface| &interface.addresses)
                .find(|own| own.source != AddressSource::LinkLocal)
                .map(|own| own.address);
            found.map_or(Poll::Pending, |address| Poll::Ready(Some(address)))
        })
        .await
    }

    /// Records the frames of all interfaces, to be fetched and sent away over TCP port `own_port`.
    ///
    /// # Errors
    /// [`CaptureError`]: one recording at a time.
    pub fn capture(&self, own_port: u16) -> Result<Capture, CaptureError> {
        Capture::start(self.0.tap.clone(), own_port)
    }

    /// Listens on `address`: see [`TcpListener::bind_with`].
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn listen(
        &self,
        address: SocketAddr,
        options: TcpOptions,
    ) -> Result<TcpListener, BindError> {
        self.0.check_local(address.ip())?;
        let mut listeners = self.0.listeners.borrow_mut();
        let address = ports::choose(address, |address| {
            !listeners
                .at(address.port())
                .any(|other| overlaps(address, other.address))
        })?;
        let backlog = listeners.add(address.port(), Backlog::new(address, options))?;
        Ok(TcpListener::new(self.clone(), backlog))
    }

    /// Connects to `peer`: see [`TcpStream::connect_with`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn connect(
        &self,
        peer: SocketAddr,
        options: TcpOptions,
    ) -> Result<TcpStream, ConnectError> {
        let connection = self.begin(peer, &options)?;
        TcpStream::new(connection)
            .established(options.connect_timeout)
            .await
    }

    /// Binds a UDP socket to `address`: see [`UdpSocket::bind_with`].
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind_udp(
        &self,
        address: SocketAddr,
        options: UdpOptions,
    ) -> Result<UdpSocket, BindError> {
        self.0.check_local(address.ip())?;
        let mut mailboxes = self.0.mailboxes.borrow_mut();
        let address = ports::choose(address, |address| {
            !mailboxes
                .at(address.port())
                .any(|other| overlaps(address, other.address))
        })?;
        let mailbox = Mailbox::new(address, options, self.0.budget.clone());
        let mailbox = mailboxes.add(address.port(), mailbox)?;
        Ok(UdpSocket::new(self.clone(), mailbox))
    }

    /// Looks up the addresses of a host: see [`resolve`](super::resolve).
    ///
    /// # Errors
    /// See [`ResolveError`].
    ///
    /// # Panics
    /// Outside of a running runtime.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        super::dns::resolve_in(self, name).await
    }

    /// The name servers to ask, in this order.
    pub fn dns_servers(&self) -> Vec<IpAddr> {
        let configured = self.0.dns_servers.borrow();
        if !configured.is_empty() {
            return configured.clone();
        }
        let interfaces = self.0.interfaces.borrow();
        interfaces
            .iter()
            .flat_map(|interface| interface.addressing.borrow().dns_servers())
            .collect()
    }

    /// Sends the SYN.
    fn begin(
        &self,
        peer: SocketAddr,
        options: &TcpOptions,
    ) -> Result<Rc<Connection>, ConnectError> {
        let now = Instant::recent();
        let interface = self.0.route(peer).ok_or(ConnectError::NoRoute(peer.ip()))?;
        let mut engine = interface.engine.borrow_mut();
        let address = peer.ip().to_canonical();
        if peer.port() == 0 || !engine.is_host(address) {
            return Err(ConnectError::InvalidAddress(peer));
        }
        let local = engine
            .source_address(address)
            .ok_or(ConnectError::NoRoute(address))?;
        let flow = |port| Flow {
            local: Endpoint {
                address: local,
                port,
            },
            peer: Endpoint {
                address,
                port: peer.port(),
            },
        };
        let port = ports::ephemeral(|port| !interface.is_in_use(&flow(port)))
            .ok_or(ConnectError::NoFreePort)?;
        let flow = flow(port);
        let connection = Connection::new(&self.0, &interface, flow, options, None)
            .ok_or(ConnectError::OutOfMemory)?;
        let mut opener = engine.opener(now)?;
        let remote = IpEndpoint::new(address.into(), peer.port());
        connection
            .with_socket(|socket| {
                socket.connect(opener.context(), remote, SocketAddr::new(local, port))
            })
            .map_err(|_| ConnectError::InvalidAddress(peer))?;
        if !interface
            .connections
            .borrow_mut()
            .insert(flow, connection.clone())
        {
            return Err(ConnectError::OutOfMemory);
        }
        interface.time_wait.borrow_mut().remove(&flow);
        connection.make_ready();
        Ok(connection)
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.0
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.0.is_cleared.get()
    }

    /// Ends everything, when the runtime ends.
    pub(crate) fn clear(&self) {
        self.0.is_cleared.set(true);
        for listener in self.0.listeners.borrow().iter() {
            listener.wake();
        }
        let interfaces = self.0.interfaces.take();
        for interface in interfaces {
            interface.clear();
        }
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Stack")
            .field("interfaces", &self.0.interfaces.borrow())
            .finish_non_exhaustive()
    }
}

/// What the interfaces of a stack share.
pub(super) struct Shared {
    /// In ascending order of their numbers.
    interfaces: RefCell<Vec<Rc<Interface>>>,
    pub(super) listeners: RefCell<Bound<Backlog>>,
    pub(super) mailboxes: RefCell<Bound<Mailbox>>,
    dns_servers: RefCell<Vec<IpAddr>>,
    pub(super) budget: Rc<Budget>,
    next_number: Cell<u64>,
    is_cleared: Cell<bool>,
    /// How often an interface came, went or changed.
    pub(super) interface_changes: Cell<u64>,
    /// Who waits for that.
    pub(super) interface_watchers: Wakers,
    /// Where all of them record their frames.
    pub(super) tap: Rc<Tap>,
}

impl Shared {
    pub(super) fn next_number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }

    pub(super) fn interface(&self, number: usize) -> Option<Rc<Interface>> {
        let interfaces = self.interfaces.borrow();
        let found = interfaces.binary_search_by_key(&number, |interface| interface.number);
        Some(interfaces[found.ok()?].clone())
    }

    /// Forgets an interface whose device is gone.
    pub(super) fn remove_interface(&self, interface: &Rc<Interface>) {
        self.interfaces
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, interface));
        self.interface_changed();
    }

    /// Wakes who waits for the network.
    pub(super) fn interface_changed(&self) {
        self.interface_changes.set(self.interface_changes.get() + 1);
        self.interface_watchers.wake_all();
    }

    /// The interface that leads to `destination`: the one a scope names, else the one with the
    /// closest network, else the first with a gateway.
    pub(super) fn route(&self, destination: SocketAddr) -> Option<Rc<Interface>> {
        if let SocketAddr::V6(destination) = destination
            && destination.scope_id() != 0
        {
            let scope = usize::try_from(destination.scope_id()).ok()?;
            return self.interface(scope - 1);
        }
        let address = destination.ip().to_canonical();
        let mut best: Option<(u8, Rc<Interface>)> = None;
        for interface in self.interfaces.borrow().iter() {
            if let Some(closeness) = interface.engine.borrow().route(address)
                && best.as_ref().is_none_or(|(other, _)| closeness > *other)
            {
                best = Some((closeness, interface.clone()));
            }
        }
        best.map(|(_, interface)| interface)
    }

    pub(super) fn listener(&self, flow: &Flow) -> Option<Rc<Backlog>> {
        let listeners = self.listeners.borrow();
        listeners
            .at(flow.local.port)
            .find(|listener| covers(listener.address, flow.local.address))
            .cloned()
    }

    /// The socket that datagrams to `local` are for. Those to groups and broadcasts are for
    /// sockets on all addresses.
    pub(super) fn mailbox(&self, local: Endpoint) -> Option<Rc<Mailbox>> {
        let mailboxes = self.mailboxes.borrow();
        mailboxes
            .at(local.port)
            .find(|mailbox| covers(mailbox.address, local.address))
            .cloned()
    }

    fn check_local(&self, address: IpAddr) -> Result<(), BindError> {
        let exists = address.is_unspecified()
            || self
                .interfaces
                .borrow()
                .iter()
                .any(|interface| interface.engine.borrow().has_address(address));
        match exists {
            true => Ok(()),
            false => Err(BindError::AddressNotAvailable(address)),
        }
    }
}
