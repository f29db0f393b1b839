//! A xenstored that serves one guest over a real ring, and misbehaves when told to.

mod server;
mod tree;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use self::server::{Server, toolstack};
use super::{FakeHypervisor, FakePage, FakePort};
use crate::byte_stream::{ByteReader, ByteWriter, XENSTORE_REQUESTS, XENSTORE_RESPONSES};
use crate::hypervisor::{DomainId, EventPort, SharedPage};
use crate::xenstore::wire::{self, CONNECTED, CONNECTION_WORD, MessageType, RECONNECT};
use crate::xenstore::{Message, NodeAccess, Parser, Permission};

/// Where the ring indices start: close to the wrap.
const FIRST_INDEX: u32 = 0xffff_ff00;

/// What a xenstored can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehave {
    /// The next reply's `req_id` was never sent.
    WrongRequestId,
    /// The next reply's `len` is this; its payload is as it should be.
    Length(u32),
    /// The next reply's `type` is this number.
    Type(u32),
    /// The next reply's payload is empty.
    EmptyPayload,
    /// The next reply comes twice.
    Twice,
    /// Requests are taken and carried out, but not answered, until told otherwise.
    Silent,
    /// The ring is not looked at, until told otherwise.
    Frozen,
    /// Only so many bytes are moved each time the task runs, until told otherwise.
    Dribble(usize),
}

/// The toolstack's handle on a fake xenstored. Clones are the same one.
#[derive(Clone)]
pub struct FakeXenstored {
    inner: Rc<Inner>,
}

struct Inner {
    line: RefCell<Line>,
    state: RefCell<State>,
}

/// The way to the guest.
struct Line {
    page: FakePage,
    port: FakePort,
}

struct State {
    server: Server,
    requests: ByteReader,
    replies: ByteWriter,
    parser: Parser,
    output: VecDeque<u8>,
    misbehave: Option<Misbehave>,
    received: Vec<MessageType>,
    batches: u32,
    /// Woken at every change of the tree and every order.
    waiting: Vec<Waker>,
}

impl FakeXenstored {
    /// A xenstored for the guest of `hypervisor`, the page of its ring, and the guest's port.
    /// The guest's home is there, with the permissions that libxl gives it.
    ///
    /// Nothing happens until someone awaits [`serve`](Self::serve).
    pub fn new(hypervisor: &FakeHypervisor) -> (Self, FakePage, FakePort) {
        let (line, guest_port) = Line::lay(hypervisor, FIRST_INDEX);
        let page = line.page.clone();
        let state = State::new(hypervisor.guest(), &page);
        let xenstored = Self {
            inner: Rc::new(Inner {
                line: RefCell::new(line),
                state: RefCell::new(state),
            }),
        };
        xenstored.make_home(hypervisor.guest());
        (xenstored, page, guest_port)
    }

    /// The guest was restored as another domain, which `hypervisor` knows already: an empty tree with a
    /// home for it, and nothing known of the guest. Returns the page of the new ring, which is all
    /// zeros, and the guest's port.
    pub fn start_over(&self, hypervisor: &FakeHypervisor) -> (FakePage, FakePort) {
        let (line, guest_port) = Line::lay(hypervisor, 0);
        let page = line.page.clone();
        self.inner.line.replace(line);
        self.order(|state| {
            let waiting = core::mem::take(&mut state.waiting);
            *state = State::new(hypervisor.guest(), &page);
            state.waiting = waiting;
        });
        self.make_home(hypervisor.guest());
        (page, guest_port)
    }

    /// Answers the guest for ever. To be spawned once.
    ///
    /// # Panics
    /// If the guest breaks the protocol.
    pub async fn serve(&self) {
        poll_fn(|context| {
            loop {
                let event = self.inner.line.borrow().port.poll_event(context);
                let event = event.is_ready();
                self.wait_for_change(context.waker());
                let (moved, more) = self.move_bytes();
                if moved {
                    self.inner.line.borrow().port.notify();
                }
                if more {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if !event && !moved {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// From now on misbehaves in this way: for one reply, or until the next order.
    pub fn misbehave(&self, how: Misbehave) {
        self.order(|state| state.misbehave = Some(how));
    }

    /// From now on does everything right.
    pub fn behave(&self) {
        self.order(|state| state.misbehave = None);
    }

    /// Refuses the next `count` commits with EAGAIN.
    pub fn refuse_commits(&self, count: u32) {
        self.order(|state| state.server.conflicts = count);
    }

    /// Sends these bytes, whatever they are, between two messages.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.order(|state| state.output.extend(bytes));
    }

    /// Sends a watch event with this payload, whatever it is.
    pub fn send_watch_event(&self, payload: &[u8]) {
        let bytes = wire::encode_message(MessageType::WatchEvent, 0, 0, payload);
        self.send_raw(&bytes);
    }

    /// Says in the page that xenstored is connected, or is about to be.
    pub fn set_connected(&self, connected: bool) {
        let value = if connected { CONNECTED } else { RECONNECT };
        let line = self.inner.line.borrow();
        line.page.store(CONNECTION_WORD, value);
        line.port.notify();
    }

    /// The types of all requests received so far.
    pub fn received(&self) -> Vec<MessageType> {
        self.inner.state.borrow().received.clone()
    }

    /// How often requests were found after none were left: the round trips that the guest waited
    /// for, as long as what it sends at a time fits in the ring.
    pub fn batches(&self) -> u32 {
        self.inner.state.borrow().batches
    }

    /// Watches the guest has registered.
    pub fn watches(&self) -> usize {
        self.inner.state.borrow().server.watches()
    }

    /// Transactions the guest has open.
    pub fn open_transactions(&self) -> usize {
        self.inner.state.borrow().server.open_transactions()
    }

    /// The toolstack reads a node. Relative paths start at the guest's home.
    ///
    /// # Panics
    /// If the path makes no sense or the value is no text.
    pub fn read(&self, path: &str) -> Option<String> {
        let state = self.inner.state.borrow();
        let node = state
            .server
            .tree
            .read(&absolute(&state.server, path), toolstack());
        let value = node.ok()?.value.clone();
        Some(String::from_utf8(value).expect("the node's value is text"))
    }

    /// The toolstack reads the names of a node's children; none if there is no such node.
    ///
    /// # Panics
    /// If the path makes no sense.
    pub fn directory(&self, path: &str) -> Vec<String> {
        let state = self.inner.state.borrow();
        let path = absolute(&state.server, path);
        let names = state.server.tree.children(&path, toolstack());
        names.unwrap_or_default()
    }

    /// The toolstack writes a node.
    ///
    /// # Panics
    /// If the path makes no sense.
    pub fn write(&self, path: &str, value: &str) {
        self.write_bytes(path, value.as_bytes());
    }

    /// The toolstack writes a node whose value may be any bytes.
    ///
    /// # Panics
    /// If the path makes no sense.
    pub fn write_bytes(&self, path: &str, value: &[u8]) {
        self.order(|state| {
            let path = absolute(&state.server, path);
            let result = state.server.write(0, &path, Some(value), toolstack());
            result.expect("the toolstack may write");
        });
    }

    /// The toolstack removes a node and all below it.
    ///
    /// # Panics
    /// If neither the node nor its parent exists.
    pub fn remove(&self, path: &str) {
        self.order(|state| {
            let path = absolute(&state.server, path);
            let result = state.server.remove(0, &path, toolstack());
            result.expect("the node or its parent exists");
        });
    }

    /// The toolstack sets a node's permissions: its owner, then who may read it.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn set_owner(&self, path: &str, owner: DomainId, readers: &[DomainId]) {
        let entry = |domain, access| Permission { domain, access };
        let mut permissions = Vec::from([entry(owner, NodeAccess::None)]);
        permissions.extend(
            readers
                .iter()
                .map(|reader| entry(*reader, NodeAccess::Read)),
        );
        self.order(|state| {
            let path = absolute(&state.server, path);
            let server = &mut state.server;
            let result = server.set_permissions(0, &path, permissions, toolstack());
            result.expect("the node exists");
        });
    }

    /// The toolstack adds a device as libxl does: `device/<kind>/<number>` for the guest,
    /// `backend/<kind>/<guest>/<number>` for domain `backend`, both in state 1. Returns the
    /// backend's path.
    pub fn add_device(&self, kind: &str, number: u32, backend: DomainId) -> String {
        let guest = self.inner.state.borrow().server.guest();
        let there = alloc::format!("/local/domain/{backend}/backend/{kind}/{guest}/{number}");
        let here = alloc::format!("/local/domain/{guest}/device/{kind}/{number}");
        self.write(&there, "");
        self.set_owner(&there, backend, &[guest]);
        self.write(&here, "");
        self.set_owner(&here, guest, &[backend]);
        for (name, value) in [
            ("frontend", here.as_str()),
            ("frontend-id", &guest.to_string()),
            ("online", "1"),
            ("state", "1"),
            ("handle", &number.to_string()),
        ] {
            self.write(&alloc::format!("{there}/{name}"), value);
        }
        for (name, value) in [
            ("backend-id", backend.to_string().as_str()),
            ("handle", &number.to_string()),
            ("state", "1"),
            ("backend", there.as_str()),
        ] {
            self.write(&alloc::format!("{here}/{name}"), value);
        }
        there
    }

    /// Waits until a node's value (`None` while there is no such node) is as wanted, and
    /// returns it. For peers that tests play.
    pub async fn wait_for(
        &self,
        path: &str,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> Option<String> {
        poll_fn(|context| {
            let value = self.read(path);
            if wanted(value.as_deref()) {
                return Poll::Ready(value);
            }
            self.wait_for_change(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until `wanted` holds; looks again after each change.
    pub async fn wait_until(&self, wanted: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            if wanted(self) {
                return Poll::Ready(());
            }
            self.wait_for_change(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Writes to `word` of the ring's page the value of word `other` plus `distance`: an index
    /// that makes no sense. The guest gets an event.
    pub fn scribble(&self, word: usize, other: usize, distance: u32) {
        let Line { page, port } = &*self.inner.line.borrow();
        page.store(word, page.load(other).wrapping_add(distance));
        port.notify();
    }

    /// Home nodes with libxl's permissions: the guest may read all and write some.
    fn make_home(&self, guest: DomainId) {
        for (path, writable) in [
            ("", false),
            ("device", false),
            ("control", false),
            ("control/shutdown", true),
            ("control/feature-poweroff", true),
            ("control/feature-reboot", true),
            ("control/feature-suspend", true),
            ("data", true),
            ("drivers", true),
            ("feature", true),
            ("attr", true),
        ] {
            let home = alloc::format!("/local/domain/{guest}/{path}");
            let path = home.trim_end_matches('/');
            self.write(path, "");
            match writable {
                true => self.set_owner(path, guest, &[]),
                false => self.set_owner(path, toolstack(), &[guest]),
            }
        }
    }

    /// Changes the state and wakes everyone who may care.
    fn order(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.inner.state.borrow_mut();
            change(&mut state);
            core::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    fn wait_for_change(&self, waker: &Waker) {
        let mut state = self.inner.state.borrow_mut();
        if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
    }

    /// Moves what can be moved. Whether something was, and whether to go on at once.
    fn move_bytes(&self) -> (bool, bool) {
        let page = &self.inner.line.borrow().page;
        let mut state = self.inner.state.borrow_mut();
        let generation = state.server.tree.generation();
        let (limit, dribbles) = match state.misbehave {
            Some(Misbehave::Frozen) => return (false, false),
            Some(Misbehave::Dribble(limit)) => (limit, true),
            _ => (usize::MAX, false),
        };
        if page.load(CONNECTION_WORD) != CONNECTED {
            return (false, false);
        }
        let mut buffer = [0; 1024];
        let room = buffer.len().min(limit);
        let taken = state.requests.read(page, &mut buffer[..room]);
        let taken = taken.expect("the guest's index is right");
        state.batches += u32::from(taken > 0);
        let mut input = &buffer[..taken];
        loop {
            let message = state.parser.next_message(&mut input);
            match message.expect("the guest's message is right") {
                Some(message) => state.handle(&message),
                None => break,
            }
        }
        state.queue_events();
        let room = XENSTORE_RESPONSES.size as usize;
        let chunk = state.output.iter().copied().take(limit.min(room));
        let chunk: Vec<u8> = chunk.collect();
        let written = state.replies.write(page, &chunk);
        let written = written.expect("the guest's index is right");
        state.output.drain(..written);
        let moved = taken > 0 || written > 0;
        let changed = taken > 0 || state.server.tree.generation() != generation;
        drop(state);
        if changed {
            self.order(|_| {});
        }
        (moved, moved && dribbles)
    }
}

impl Line {
    /// A ring whose indices are at `start`, and a port for each side; the second is the guest's.
    fn lay(hypervisor: &FakeHypervisor, start: u32) -> (Self, FakePort) {
        let page = FakePage::zeroed();
        for layout in [XENSTORE_REQUESTS, XENSTORE_RESPONSES] {
            page.store(layout.consumer_word, start);
            page.store(layout.producer_word, start);
        }
        let (guest_port, port) = hypervisor.connected_ports(toolstack());
        (Self { page, port }, guest_port)
    }
}

impl State {
    fn new(guest: DomainId, page: &FakePage) -> Self {
        Self {
            server: Server::new(guest),
            requests: ByteReader::attach(page, XENSTORE_REQUESTS),
            replies: ByteWriter::attach(page, XENSTORE_RESPONSES),
            parser: Parser::new(),
            output: VecDeque::new(),
            misbehave: None,
            received: Vec::new(),
            batches: 0,
            waiting: Vec::new(),
        }
    }

    fn handle(&mut self, message: &Message) {
        self.received.push(message.header.message_type);
        let answer = self.server.answer(message);
        let mut header = message.header;
        let mut payload = match answer {
            Ok(payload) => payload,
            Err(errno) => {
                header.message_type = MessageType::Error;
                alloc::format!("{errno}\0").into_bytes()
            }
        };
        header.length = payload.len() as u32;
        let mut bytes = header.encode();
        let mut copies = 1;
        let mut once = true;
        match self.misbehave {
            Some(Misbehave::WrongRequestId) => {
                bytes[4..8].copy_from_slice(&header.request_id.wrapping_add(1000).to_le_bytes());
            }
            Some(Misbehave::Length(length)) => bytes[12..].copy_from_slice(&length.to_le_bytes()),
            Some(Misbehave::Type(number)) => bytes[..4].copy_from_slice(&number.to_le_bytes()),
            Some(Misbehave::EmptyPayload) => {
                payload.clear();
                bytes[12..].fill(0);
            }
            Some(Misbehave::Twice) => copies = 2,
            Some(Misbehave::Silent) => {
                copies = 0;
                once = false;
            }
            Some(Misbehave::Frozen | Misbehave::Dribble(_)) | None => once = false,
        }
        if once {
            self.misbehave = None;
        }
        for _ in 0..copies {
            self.output.extend(bytes);
            self.output.extend(&payload);
        }
        self.queue_events();
    }

    fn queue_events(&mut self) {
        while let Some(payload) = self.server.events.pop_front() {
            let bytes = wire::encode_message(MessageType::WatchEvent, 0, 0, &payload);
            self.output.extend(bytes);
        }
    }
}

fn absolute(server: &Server, path: &str) -> String {
    let absolute = server.absolute(path);
    absolute.unwrap_or_else(|errno| panic!("path {path:?}: {errno}"))
}
