//! The client's machine: requests in, replies and watch events out. It knows no time and no
//! tasks, only wakers to wake.

mod resume;

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use super::wire::{self, CONNECTED, CONNECTION_WORD, Errno, MessageType};
use super::{Message, Misbehaviour, Parser};
use crate::byte_stream::{ByteReader, ByteWriter, XENSTORE_REQUESTS, XENSTORE_RESPONSES};
use crate::hypervisor::SharedPage;
use crate::sorted_map::SortedMap;

/// Most requests that may be unanswered. A request that nobody waits for any more is kept without its
/// bytes; the bound is for a xenstored that takes requests and never answers.
pub(super) const MAX_UNANSWERED: usize = 256;

/// Most different paths remembered per watch until its owner looks. Beyond that, only that
/// something changed somewhere under the watched path is kept.
pub(super) const MAX_CHANGED_PATHS: usize = 32;

/// Most bytes taken from the ring in one go, so that a peer that never stops writing cannot
/// keep other tasks from running.
const MAX_BYTES_PER_GO: usize = 16 * 1024;

/// A reply: its payload, or xenstored's refusal.
pub(super) type Reply = Result<Vec<u8>, Errno>;

/// What must be taken back if a request succeeds after nobody waits for it any more.
#[derive(Debug)]
pub(super) enum Undo {
    Nothing,
    Unwatch { path: String, token: WatchToken },
    EndTransaction,
}

/// Names a watch in events. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchToken(u64);

const TOKEN_PREFIX: &str = "rekernel-";

impl WatchToken {
    pub(super) fn text(self) -> String {
        alloc::format!("{TOKEN_PREFIX}{}", self.0)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        text.strip_prefix(TOKEN_PREFIX)?.parse().ok().map(Self)
    }
}

/// Whether the peer must be told and whether there is more to do at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) notify: bool,
    pub(super) more: bool,
}

pub(super) struct Connection {
    streams: Option<Streams>,
    pub(super) broken: Option<Misbehaviour>,
    /// Requests to send, by their ids, in order. The first may be partly sent.
    pub(super) output: VecDeque<u32>,
    /// Bytes of the first message that are in the ring.
    sent: usize,
    pub(super) unanswered: SortedMap<u32, Request>,
    pub(super) next_request_id: u32,
    /// Requests submitted so far.
    submitted: u64,
    pub(super) watches: SortedMap<WatchToken, WatchState>,
    next_token: u64,
    driver: Option<Waker>,
    /// Woken when nothing is unanswered.
    idler: Option<Waker>,
    /// Counts the domains that this guest has been, each with a connection of its own.
    life: u32,
    /// Between two lives: there is nobody to talk to.
    detached: bool,
}

struct Streams {
    requests: ByteWriter,
    responses: ByteReader,
    parser: Parser,
}

/// A transaction, which is known to one connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransactionId {
    number: u32,
    life: u32,
}

impl TransactionId {
    /// No transaction.
    pub(super) const OUTSIDE: Self = Self { number: 0, life: 0 };
}

pub(super) struct Request {
    message_type: MessageType,
    transaction: TransactionId,
    /// The whole message, for as long as it may have to be sent, or sent again.
    bytes: Vec<u8>,
    /// Place in the order of all requests.
    place: u64,
    undo: Undo,
    fate: Fate,
}

enum Fate {
    Waiting(Option<Waker>),
    Answered(Reply),
    /// Nobody waits any more; the reply is still to come and must be recognised.
    Abandoned,
    /// A watch that is registered again, on a new connection.
    Renewal,
}

pub(super) struct WatchState {
    path: String,
    /// The event that only says that the watch is there is still to come, and to be ignored.
    ignores_next: bool,
    changed: VecDeque<String>,
    waker: Option<Waker>,
}

impl Connection {
    pub(super) fn new(first_request_id: u32) -> Self {
        Self {
            streams: None,
            broken: None,
            output: VecDeque::new(),
            sent: 0,
            unanswered: SortedMap::default(),
            next_request_id: first_request_id,
            submitted: 0,
            watches: SortedMap::default(),
            next_token: 1,
            driver: None,
            idler: None,
            life: 1,
            detached: false,
        }
    }

    pub(super) fn broken(&self) -> Option<&Misbehaviour> {
        self.broken.as_ref()
    }

    pub(super) fn is_full(&self) -> bool {
        self.unanswered.len() >= MAX_UNANSWERED
    }

    /// Queues a request and returns its id.
    pub(super) fn submit(
        &mut self,
        message_type: MessageType,
        transaction: TransactionId,
        payload: &[u8],
        undo: Undo,
    ) -> u32 {
        let fate = Fate::Waiting(None);
        self.queue(message_type, transaction, payload, undo, fate)
    }

    /// Queues a request whose reply interests nobody.
    pub(super) fn submit_and_forget(
        &mut self,
        message_type: MessageType,
        transaction: TransactionId,
        payload: &[u8],
    ) {
        if self.broken.is_none() && self.knows(transaction) {
            let fate = Fate::Abandoned;
            self.queue(message_type, transaction, payload, Undo::Nothing, fate);
        }
    }

    /// Whether a transaction is one of this connection's, or none at all.
    pub(super) fn knows(&self, transaction: TransactionId) -> bool {
        transaction == TransactionId::OUTSIDE || transaction.life == self.life
    }

    /// The transaction that the reply to `transaction_start` names.
    pub(super) fn transaction(&self, payload: &[u8]) -> Option<TransactionId> {
        let number = parse_transaction_id(payload)?;
        let life = self.life;
        Some(TransactionId { number, life })
    }

    /// The reply to `request_id`, once. The id is free again afterwards.
    pub(super) fn poll_reply(
        &mut self,
        request_id: u32,
        context: &mut Context<'_>,
    ) -> Poll<Result<Reply, Misbehaviour>> {
        if let Some(misbehaviour) = &self.broken {
            return Poll::Ready(Err(misbehaviour.clone()));
        }
        match self.unanswered.remove(&request_id) {
            Some(Request {
                fate: Fate::Answered(reply),
                ..
            }) => Poll::Ready(Ok(reply)),
            Some(mut request) => {
                request.fate = Fate::Waiting(Some(context.waker().clone()));
                self.unanswered.insert(request_id, request);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// Nobody waits for `request_id` any more. If it was not sent yet, it never will be; if it
    /// was, its reply will be recognised, taken back where necessary, and dropped.
    pub(super) fn abandon(&mut self, request_id: u32) {
        let Some(mut request) = self.unanswered.remove(&request_id) else {
            return;
        };
        if self.remove_unsent(request_id) {
            return;
        }
        match request.fate {
            Fate::Answered(Ok(payload)) => self.undo(request.undo, &payload),
            Fate::Answered(Err(_)) => {}
            Fate::Waiting(_) | Fate::Abandoned | Fate::Renewal => {
                request.fate = Fate::Abandoned;
                if self.output.front() != Some(&request_id) {
                    request.bytes = Vec::new();
                }
                self.unanswered.insert(request_id, request);
            }
        }
    }

    /// Registers a watch before it is asked for: its first event may come before the reply.
    /// That one is ignored where `only_changes` are wanted.
    pub(super) fn add_watch(&mut self, path: &str, only_changes: bool) -> WatchToken {
        let token = WatchToken(self.next_token);
        self.next_token += 1;
        let state = WatchState {
            path: path.to_string(),
            ignores_next: only_changes,
            changed: VecDeque::new(),
            waker: None,
        };
        self.watches.insert(token, state);
        token
    }

    /// Forgets a watch; later events for it are ignored.
    pub(super) fn remove_watch(&mut self, token: WatchToken) {
        self.watches.remove(&token);
    }

    /// The next path changed under a watch.
    pub(super) fn poll_changed(
        &mut self,
        token: WatchToken,
        context: &mut Context<'_>,
    ) -> Poll<Result<String, Misbehaviour>> {
        if let Some(misbehaviour) = &self.broken {
            return Poll::Ready(Err(misbehaviour.clone()));
        }
        let Some(watch) = self.watches.get_mut(&token) else {
            return Poll::Pending;
        };
        match watch.changed.pop_front() {
            Some(path) => Poll::Ready(Ok(path)),
            None => {
                watch.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Remembers whom to wake when there is something to send.
    pub(super) fn set_driver(&mut self, waker: &Waker) {
        self.driver = Some(waker.clone());
    }

    /// Ready when every request was sent and answered, or never will be.
    pub(super) fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_idle() {
            return Poll::Ready(());
        }
        self.idler = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_idle(&self) -> bool {
        let mut requests = self.unanswered.values();
        self.broken.is_some() || requests.all(|request| matches!(request.fate, Fate::Answered(_)))
    }

    /// Moves bytes both ways as far as possible.
    pub(super) fn pump(&mut self, page: &dyn SharedPage) -> Progress {
        if self.broken.is_some() || self.detached {
            return Progress::default();
        }
        let progress = self.try_pump(page).unwrap_or_else(|misbehaviour| {
            self.fail(misbehaviour);
            Progress::default()
        });
        if self.is_idle()
            && let Some(idler) = self.idler.take()
        {
            idler.wake();
        }
        progress
    }

    /// Ends the connection: everyone who waits learns why.
    pub(super) fn fail(&mut self, misbehaviour: Misbehaviour) {
        if self.broken.is_some() {
            return;
        }
        log::error!("xenstore connection is broken: {misbehaviour}");
        self.broken = Some(misbehaviour);
        self.output.clear();
        for request in core::mem::take(&mut self.unanswered).into_values() {
            if let Fate::Waiting(Some(waker)) = request.fate {
                waker.wake();
            }
        }
        for watch in self.watches.values_mut() {
            watch.changed.clear();
            if let Some(waker) = watch.waker.take() {
                waker.wake();
            }
        }
        self.wake_driver();
    }

    fn queue(
        &mut self,
        message_type: MessageType,
        transaction: TransactionId,
        payload: &[u8],
        undo: Undo,
        fate: Fate,
    ) -> u32 {
        let request_id = self.free_request_id();
        let bytes = wire::encode_message(message_type, request_id, transaction.number, payload);
        let request = Request {
            message_type,
            transaction,
            bytes,
            place: self.submitted,
            undo,
            fate,
        };
        self.submitted += 1;
        self.output.push_back(request_id);
        self.unanswered.insert(request_id, request);
        self.wake_driver();
        request_id
    }

    /// Ids wrap; one that still waits for its reply is skipped.
    fn free_request_id(&mut self) -> u32 {
        loop {
            let request_id = self.next_request_id;
            self.next_request_id = request_id.wrapping_add(1);
            if !self.unanswered.contains_key(&request_id) {
                return request_id;
            }
        }
    }

    fn remove_unsent(&mut self, request_id: u32) -> bool {
        let position = self.output.iter().position(|&unsent| unsent == request_id);
        match position {
            // The rest of a message whose start is in the ring must follow.
            Some(0) if self.sent > 0 => false,
            Some(position) => self.output.remove(position).is_some(),
            None => false,
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn try_pump(&mut self, page: &dyn SharedPage) -> Result<Progress, Misbehaviour> {
        let Some(mut streams) = self.take_streams(page) else {
            return Ok(Progress::default());
        };
        let mut progress = Progress::default();
        let mut taken = 0;
        loop {
            let mut moved = self.send(&mut streams.requests, page)?;
            let mut buffer = [0; 512];
            let count = streams.responses.read(page, &mut buffer)?;
            let mut input = &buffer[..count];
            while let Some(message) = streams.parser.next_message(&mut input)? {
                self.handle(message)?;
            }
            taken += count;
            moved |= count > 0;
            progress.notify |= moved;
            progress.more = moved && taken >= MAX_BYTES_PER_GO;
            if !moved || progress.more {
                break;
            }
        }
        self.streams = Some(streams);
        Ok(progress)
    }

    /// The streams, attached once xenstored is connected: before, the indices may change.
    fn take_streams(&mut self, page: &dyn SharedPage) -> Option<Streams> {
        if self.streams.is_none() && page.load(CONNECTION_WORD) != CONNECTED {
            return None;
        }
        Some(self.streams.take().unwrap_or_else(|| Streams {
            requests: ByteWriter::attach(page, XENSTORE_REQUESTS),
            responses: ByteReader::attach(page, XENSTORE_RESPONSES),
            parser: Parser::new(),
        }))
    }

    /// Writes what fits. True if something did.
    fn send(
        &mut self,
        requests: &mut ByteWriter,
        page: &dyn SharedPage,
    ) -> Result<bool, Misbehaviour> {
        let mut moved = false;
        while let Some(first) = self.output.front() {
            if let Some(request) = self.unanswered.get_mut(first) {
                let count = requests.write(page, &request.bytes[self.sent..])?;
                moved |= count > 0;
                self.sent += count;
                if self.sent < request.bytes.len() {
                    break;
                }
                if matches!(request.fate, Fate::Abandoned) {
                    request.bytes = Vec::new();
                }
            }
            self.output.pop_front();
            self.sent = 0;
        }
        Ok(moved)
    }

    fn handle(&mut self, message: Message) -> Result<(), Misbehaviour> {
        match message.header.message_type {
            MessageType::WatchEvent => self.handle_watch_event(&message.payload),
            _ => self.handle_reply(message),
        }
    }

    fn handle_watch_event(&mut self, payload: &[u8]) -> Result<(), Misbehaviour> {
        let mut strings = wire::terminated_strings(payload).ok_or(Misbehaviour::BadWatchEvent)?;
        let (Some(path), Some(token), None) = (strings.next(), strings.next(), strings.next())
        else {
            return Err(Misbehaviour::BadWatchEvent);
        };
        let path = core::str::from_utf8(path).map_err(|_| Misbehaviour::BadWatchEvent)?;
        // Events of a watch just given up, or of whoever used this connection before us (a
        // boot loader), are nobody's fault.
        let watch = WatchToken::parse(token).and_then(|token| self.watches.get_mut(&token));
        if let Some(watch) = watch {
            watch.note(path);
        }
        Ok(())
    }

    fn handle_reply(&mut self, message: Message) -> Result<(), Misbehaviour> {
        let Message { header, payload } = message;
        let request_id = header.request_id;
        // A request still in our own queue cannot have been answered.
        let unsent = self.output.contains(&request_id);
        let request = self.unanswered.get_mut(&request_id);
        let Some(request) =
            request.filter(|request| !unsent && !matches!(request.fate, Fate::Answered(_)))
        else {
            return Err(Misbehaviour::UnknownRequest { request_id });
        };
        let reply = match header.message_type {
            MessageType::Error => Err(Errno::from_wire(&payload)),
            answered if answered == request.message_type => Ok(payload),
            answered => {
                return Err(Misbehaviour::WrongReply {
                    asked: request.message_type,
                    answered,
                });
            }
        };
        match core::mem::replace(&mut request.fate, Fate::Abandoned) {
            Fate::Abandoned => {
                let request = self.unanswered.remove(&request_id);
                if let (Some(request), Ok(payload)) = (request, reply) {
                    self.undo(request.undo, &payload);
                }
            }
            Fate::Waiting(waker) => {
                request.fate = Fate::Answered(reply);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Fate::Renewal => {
                let request = self.unanswered.remove(&request_id);
                if let (Some(request), Err(errno)) = (request, reply) {
                    request.report_lost_watch(errno);
                }
            }
            Fate::Answered(_) => {}
        }
        Ok(())
    }

    fn undo(&mut self, undo: Undo, payload: &[u8]) {
        match undo {
            Undo::Nothing => {}
            Undo::Unwatch { path, token } => {
                let payload = watch_payload(&path, token);
                self.submit_and_forget(MessageType::Unwatch, TransactionId::OUTSIDE, &payload);
            }
            Undo::EndTransaction => {
                if let Some(transaction) = self.transaction(payload) {
                    self.submit_and_forget(MessageType::TransactionEnd, transaction, b"F\0");
                }
            }
        }
    }
}

impl WatchState {
    /// Remembers that `path` changed, in bounded memory.
    fn note(&mut self, path: &str) {
        if core::mem::take(&mut self.ignores_next) {
            return;
        }
        if !self.changed.iter().any(|known| known == path) {
            if self.changed.len() >= MAX_CHANGED_PATHS {
                self.changed.clear();
                self.changed.push_back(self.path.clone());
            } else {
                self.changed.push_back(path.to_string());
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The payload of `watch` and `unwatch`.
pub(super) fn watch_payload(path: &str, token: WatchToken) -> Vec<u8> {
    alloc::format!("{path}\0{}\0", token.text()).into_bytes()
}

/// The id in the reply to `transaction_start`.
fn parse_transaction_id(payload: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(payload.strip_suffix(b"\0")?).ok()?;
    text.parse().ok().filter(|id| *id != 0)
}
