//! Going on with a new xenstored, in a new domain.
//!
//! The old connection is gone with the old domain, and with it all that xenstored knew: watches,
//! transactions, requests under way. Whoever waits here does not notice more than that it takes
//! longer, or that a transaction has to start again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::wire::{Errno, HEADER_SIZE, MessageType};
use super::{Connection, Fate, Request, TransactionId, Undo, WatchToken, watch_payload};

impl Connection {
    /// The domain is another one, whose ring is not ours yet: nothing is sent or received.
    pub(in super::super) fn detach(&mut self) {
        self.detached = true;
    }

    /// The ring is another one, and so is the domain.
    ///
    /// - What was under way in either direction is forgotten, half a message included.
    /// - Requests outside of transactions are sent again, in their order. One may so be done twice,
    ///   which for those that there are is as good as once.
    /// - Requests inside of transactions are answered with `EAGAIN`, so that these start again.
    /// - All watches are registered again, with their tokens; each fires. They come first, so that
    ///   no change falls between.
    /// - What nobody waits for is dropped: it was about watches and transactions of old.
    ///
    /// A connection that is broken stays so.
    pub(in super::super) fn resume(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.detached = false;
        self.life += 1;
        self.streams = None;
        self.sent = 0;
        self.output.clear();
        self.unanswered
            .retain(|request| !matches!(request.fate, Fate::Abandoned | Fate::Renewal));
        for request in self.unanswered.values_mut() {
            request.outlive_connection();
        }
        let again = self.requests_to_repeat();
        self.renew_watches();
        self.output.extend(again);
        self.wake_driver();
    }

    fn requests_to_repeat(&self) -> VecDeque<u32> {
        let waiting = |request: &Request| matches!(request.fate, Fate::Waiting(_));
        let mut again: Vec<(u64, u32)> = self
            .unanswered
            .iter()
            .filter(|(_, request)| waiting(request))
            .map(|(&id, request)| (request.place, id))
            .collect();
        again.sort_unstable();
        again.into_iter().map(|(_, id)| id).collect()
    }

    fn renew_watches(&mut self) {
        // What changed before is of the old domain.
        for watch in self.watches.values_mut() {
            watch.changed.clear();
            // Also for who asked to hear of changes only: much has changed.
            watch.ignores_next = false;
        }
        // Those that are being registered are among the requests to repeat.
        let renewed: Vec<_> = self
            .watches
            .iter()
            .filter(|(token, _)| !self.is_being_registered(**token))
            .map(|(token, watch)| watch_payload(&watch.path, *token))
            .collect();
        for payload in renewed {
            self.queue(
                MessageType::Watch,
                TransactionId::OUTSIDE,
                &payload,
                Undo::Nothing,
                Fate::Renewal,
            );
        }
    }

    fn is_being_registered(&self, wanted: WatchToken) -> bool {
        self.unanswered.values().any(|request| {
            matches!(request.fate, Fate::Waiting(_))
                && matches!(&request.undo, Undo::Unwatch { token, .. } if *token == wanted)
        })
    }
}

impl Request {
    /// What becomes of it when the connection it was made for is gone.
    fn outlive_connection(&mut self) {
        if self.transaction != TransactionId::OUTSIDE {
            let before = core::mem::replace(&mut self.fate, Fate::Answered(Err(Errno::EAGAIN)));
            if let Fate::Waiting(Some(waker)) = before {
                waker.wake();
            }
        } else if self.message_type == MessageType::TransactionStart
            && matches!(self.fate, Fate::Answered(Ok(_)))
        {
            // A number that means nothing now, or another transaction. Whoever asked was woken, and
            // asks again.
            self.fate = Fate::Waiting(None);
        }
    }

    pub(super) fn report_lost_watch(&self, errno: Errno) {
        let payload = self.bytes.get(HEADER_SIZE..).unwrap_or_default();
        let path = payload.split(|&byte| byte == 0).next().unwrap_or_default();
        log::error!(
            "xenstored does not let {} be watched any more ({errno}): its changes go unnoticed",
            alloc::string::String::from_utf8_lossy(path)
        );
    }
}
