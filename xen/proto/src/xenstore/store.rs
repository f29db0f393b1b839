//! The client that drivers use.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;

use super::connection::{Connection, TransactionId, Undo, watch_payload};
use super::wire::{ABSOLUTE_PATH_MAX, Errno, MessageType, PAYLOAD_MAX, RELATIVE_PATH_MAX};
use super::{Misbehaviour, Permission, StoreError, StoreStatistics, Transaction, Watch, directory};
use crate::hypervisor::{DomainId, EventPort, Hypervisor, SharedPage};
use crate::turns;

/// How long an operation may take unless [`Store::with_timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of xenstored. Clones share the connection.
///
/// Paths are absolute (`/local/domain/3/...`) or relative to the guest's home
/// (`device/vif/0`). All operations fail with the [`StoreError`]s that its variants describe;
/// dropping an operation's future gives it up.
///
/// Someone must await [`run`](Self::run): it is what moves the bytes.
pub struct Store<H: Hypervisor> {
    shared: Rc<Shared<H>>,
    timeout: Duration,
}

impl<H: Hypervisor> Clone for Store<H> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            timeout: self.timeout,
        }
    }
}

impl<H: Hypervisor> Store<H> {
    /// A client on the connection that the toolstack prepared: `ring` is the page of
    /// `HVM_PARAM_STORE_PFN`, `port` the one of `HVM_PARAM_STORE_EVTCHN`.
    pub fn new(hypervisor: H, ring: Rc<dyn SharedPage>, port: H::Port) -> Self {
        Self::starting_at(hypervisor, ring, port, 1)
    }

    /// Like [`new`](Self::new), with this id for the first request: lets tests begin close to
    /// the wrap.
    pub fn starting_at(
        hypervisor: H,
        ring: Rc<dyn SharedPage>,
        port: H::Port,
        first_request_id: u32,
    ) -> Self {
        Self {
            shared: Rc::new(Shared {
                hypervisor,
                line: RefCell::new(Line { ring, port }),
                connection: RefCell::new(Connection::new(first_request_id)),
            }),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same connection, with another limit for each operation.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            shared: self.shared.clone(),
            timeout,
        }
    }

    /// Drives the connection: moves bytes, completes requests, wakes watches. To be spawned
    /// once. Ends only when xenstored breaks the protocol, with what it did.
    pub async fn run(&self) -> Misbehaviour {
        let drive = poll_fn(|context| {
            let shared = &*self.shared;
            let Line { ring, port } = &*shared.line.borrow();
            loop {
                let event = port.poll_event(context).is_ready();
                let mut connection = shared.connection.borrow_mut();
                connection.set_driver(context.waker());
                let progress = connection.pump(&**ring);
                if progress.notify {
                    port.notify();
                }
                if let Some(misbehaviour) = connection.broken() {
                    return Poll::Ready(misbehaviour.clone());
                }
                if progress.more {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // After an event the port must be asked again, else nothing wakes this task.
                if !event {
                    return Poll::Pending;
                }
            }
        });
        turns::with_memory(self.hypervisor(), drive).await
    }

    /// Waits until every request is answered and none is half sent, which other tasks may keep from
    /// happening: set a limit. For a good moment to suspend the guest.
    pub async fn idle(&self) {
        poll_fn(|context| self.shared.connection.borrow_mut().poll_idle(context)).await;
    }

    /// The guest was restored in a new domain: nothing is sent or received until
    /// [`resume`](Self::resume). Time for drivers to give up what they do, lest nodes of the new
    /// domain are written with what was true of the old one.
    pub fn detach(&self) {
        self.shared.connection.borrow_mut().detach();
    }

    /// Goes on in the new domain, with the ring and the port that the toolstack prepared there.
    ///
    /// Watches are registered again, and each fires. Requests that were not answered are sent again;
    /// transactions start again. Nodes of the old domain's home are not there: relative paths
    /// lead to the new one.
    pub fn resume(&self, ring: Rc<dyn SharedPage>, port: H::Port) {
        self.shared.line.replace(Line { ring, port });
        self.shared.connection.borrow_mut().resume();
    }

    /// A node's value as text.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NotText`] if it is not UTF-8.
    pub async fn read(&self, path: &str) -> Result<String, StoreError> {
        self.nodes(TransactionId::OUTSIDE).read(path).await
    }

    /// A node's value, which may be any bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_bytes(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.nodes(TransactionId::OUTSIDE).read_bytes(path).await
    }

    /// Sets a node's value, creating it and its parents if necessary.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write(&self, path: &str, value: &str) -> Result<(), StoreError> {
        self.nodes(TransactionId::OUTSIDE).write(path, value).await
    }

    /// Creates a node with an empty value unless it exists.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mkdir(&self, path: &str) -> Result<(), StoreError> {
        self.nodes(TransactionId::OUTSIDE).mkdir(path).await
    }

    /// Removes a node and everything below it.
    ///
    /// # Errors
    /// [`StoreError`]; a node that is not there is no error if its parent is.
    pub async fn remove(&self, path: &str) -> Result<(), StoreError> {
        self.nodes(TransactionId::OUTSIDE).remove(path).await
    }

    /// The names of a node's children.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory(&self, path: &str) -> Result<Vec<String>, StoreError> {
        self.nodes(TransactionId::OUTSIDE).directory(path).await
    }

    /// Who may do what with a node, its owner first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn permissions(&self, path: &str) -> Result<Vec<Permission>, StoreError> {
        self.nodes(TransactionId::OUTSIDE).permissions(path).await
    }

    /// Replaces who may do what with a node, its owner first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        self.nodes(TransactionId::OUTSIDE)
            .set_permissions(path, permissions)
            .await
    }

    /// The home of a domain, such as `/local/domain/3`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn domain_path(&self, domain: DomainId) -> Result<String, StoreError> {
        let payload = alloc::format!("{domain}\0");
        let reply = self
            .nodes(TransactionId::OUTSIDE)
            .request(
                MessageType::GetDomainPath,
                "",
                payload.as_bytes(),
                Undo::Nothing,
            )
            .await?;
        let path = reply.strip_suffix(b"\0").unwrap_or(&reply);
        match core::str::from_utf8(path) {
            Ok(path) => Ok(path.into()),
            Err(_) => Err(self.misbehaved(MessageType::GetDomainPath)),
        }
    }

    /// Watches a node and everything below it, until the [`Watch`] is dropped.
    ///
    /// # Errors
    /// [`StoreError`]. A node need not exist to be watched.
    pub async fn watch(&self, path: &str) -> Result<Watch<H>, StoreError> {
        self.add_watch(path, false).await
    }

    /// Like [`watch`](Self::watch), without the event that every watch begins with: tells of
    /// changes after xenstored took it. For who reads the node in any case, and asks to do so
    /// no earlier than for the watch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watch_changes(&self, path: &str) -> Result<Watch<H>, StoreError> {
        self.add_watch(path, true).await
    }

    async fn add_watch(&self, path: &str, only_changes: bool) -> Result<Watch<H>, StoreError> {
        let connection = &self.shared.connection;
        let token = connection.borrow_mut().add_watch(path, only_changes);
        // From here on dropping it cleans up, also when the request fails or is given up.
        let mut watch = Watch::new(self.shared.clone(), path, token);
        let undo = Undo::Unwatch {
            path: path.into(),
            token,
        };
        let payload = watch_payload(path, token);
        self.nodes(TransactionId::OUTSIDE)
            .request(MessageType::Watch, path, &payload, undo)
            .await?;
        watch.established();
        Ok(watch)
    }

    /// Runs `body` in a transaction and commits what it did, all or nothing. Meets it others'
    /// changes, it starts again, at most [`MAX_TRANSACTION_ATTEMPTS`] times; when `body` fails,
    /// nothing is committed.
    ///
    /// [`MAX_TRANSACTION_ATTEMPTS`]: super::MAX_TRANSACTION_ATTEMPTS
    ///
    /// # Errors
    /// `body`'s, [`StoreError::Conflict`] or another [`StoreError`].
    pub async fn transaction<R>(
        &self,
        body: impl AsyncFnMut(&Transaction<H>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        super::transaction::run(self, body).await
    }

    /// How the connection stands.
    pub fn statistics(&self) -> StoreStatistics {
        self.shared.connection.borrow().statistics()
    }

    /// The hypervisor the client was made with.
    pub fn hypervisor(&self) -> &H {
        &self.shared.hypervisor
    }

    pub(super) fn nodes(&self, transaction: TransactionId) -> Nodes<'_, H> {
        Nodes {
            store: self,
            transaction,
        }
    }

    pub(super) fn shared(&self) -> &Rc<Shared<H>> {
        &self.shared
    }

    /// Ends the connection because a reply was malformed.
    pub(super) fn misbehaved(&self, operation: MessageType) -> StoreError {
        let misbehaviour = Misbehaviour::BadReply { operation };
        let mut connection = self.shared.connection.borrow_mut();
        connection.fail(misbehaviour.clone());
        StoreError::Broken(misbehaviour)
    }
}

pub(super) struct Shared<H: Hypervisor> {
    hypervisor: H,
    line: RefCell<Line<H>>,
    pub(super) connection: RefCell<Connection>,
}

/// The way to xenstored.
struct Line<H: Hypervisor> {
    ring: Rc<dyn SharedPage>,
    port: H::Port,
}

/// The operations on nodes, inside a transaction or outside any.
pub(super) struct Nodes<'a, H: Hypervisor> {
    store: &'a Store<H>,
    transaction: TransactionId,
}

impl<H: Hypervisor> Nodes<'_, H> {
    pub(super) async fn read(&self, path: &str) -> Result<String, StoreError> {
        let value = self.read_bytes(path).await?;
        String::from_utf8(value).map_err(|_| StoreError::NotText { path: path.into() })
    }

    pub(super) async fn read_bytes(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.about(MessageType::Read, path, b"").await
    }

    pub(super) async fn write(&self, path: &str, value: &str) -> Result<(), StoreError> {
        self.about(MessageType::Write, path, value.as_bytes())
            .await?;
        Ok(())
    }

    pub(super) async fn mkdir(&self, path: &str) -> Result<(), StoreError> {
        self.about(MessageType::MakeDirectory, path, b"").await?;
        Ok(())
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), StoreError> {
        self.about(MessageType::Remove, path, b"").await?;
        Ok(())
    }

    pub(super) async fn directory(&self, path: &str) -> Result<Vec<String>, StoreError> {
        directory::read(self, path).await
    }

    pub(super) async fn permissions(&self, path: &str) -> Result<Vec<Permission>, StoreError> {
        let reply = self.about(MessageType::GetPermissions, path, b"").await?;
        Permission::parse_list(&reply).ok_or_else(|| self.misbehaved(MessageType::GetPermissions))
    }

    pub(super) async fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        let list = Permission::encode_list(permissions);
        self.about(MessageType::SetPermissions, path, &list).await?;
        Ok(())
    }

    /// A request about one node: its path, a NUL, then `rest`.
    pub(super) async fn about(
        &self,
        operation: MessageType,
        path: &str,
        rest: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let mut payload = Vec::with_capacity(path.len() + 1 + rest.len());
        payload.extend_from_slice(path.as_bytes());
        payload.push(0);
        payload.extend_from_slice(rest);
        self.request(operation, path, &payload, Undo::Nothing).await
    }

    /// Sends a request and waits for its reply, no longer than the store's timeout. `path` is
    /// for errors and checks only.
    pub(super) async fn request(
        &self,
        operation: MessageType,
        path: &str,
        payload: &[u8],
        undo: Undo,
    ) -> Result<Vec<u8>, StoreError> {
        check_use(operation, path, payload)?;
        let connection = &self.store.shared.connection;
        let request_id = {
            let mut connection = connection.borrow_mut();
            if let Some(misbehaviour) = connection.broken() {
                return Err(StoreError::Broken(misbehaviour.clone()));
            }
            if !connection.knows(self.transaction) {
                return Err(StoreError::Refused {
                    operation,
                    path: path.into(),
                    errno: Errno::EAGAIN,
                });
            }
            if connection.is_full() {
                return Err(StoreError::Overloaded {
                    operation,
                    path: path.into(),
                });
            }
            connection.submit(operation, self.transaction, payload, undo)
        };
        let _given_up_when_dropped = PendingRequest {
            connection,
            request_id,
        };
        let hypervisor = &self.store.shared.hypervisor;
        let mut deadline = hypervisor.sleep_until(hypervisor.now() + self.store.timeout);
        let reply = poll_fn(|context| {
            let reply = connection.borrow_mut().poll_reply(request_id, context);
            if let Poll::Ready(reply) = reply {
                return Poll::Ready(Some(reply));
            }
            Pin::new(&mut deadline).poll(context).map(|()| None)
        });
        match reply.await {
            Some(Ok(Ok(payload))) => Ok(payload),
            Some(Ok(Err(errno))) => Err(StoreError::Refused {
                operation,
                path: path.into(),
                errno,
            }),
            Some(Err(misbehaviour)) => Err(StoreError::Broken(misbehaviour)),
            None => Err(StoreError::TimedOut {
                operation,
                path: path.into(),
            }),
        }
    }

    pub(super) fn misbehaved(&self, operation: MessageType) -> StoreError {
        self.store.misbehaved(operation)
    }
}

/// Gives a request up when its future is dropped or timed out; no effect once answered.
struct PendingRequest<'a> {
    connection: &'a RefCell<Connection>,
    request_id: u32,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.connection.borrow_mut().abandon(self.request_id);
    }
}

/// What xenstored would punish or misunderstand is not sent.
fn check_use(operation: MessageType, path: &str, payload: &[u8]) -> Result<(), StoreError> {
    let longest = if path.starts_with('/') {
        ABSOLUTE_PATH_MAX
    } else {
        RELATIVE_PATH_MAX
    };
    let names_a_node = !matches!(
        operation,
        MessageType::TransactionStart | MessageType::TransactionEnd | MessageType::GetDomainPath
    );
    let problem = if names_a_node && path.is_empty() {
        "the path is empty"
    } else if path.len() > longest {
        "the path is too long"
    } else if path.contains('\0') {
        "the path contains a NUL"
    } else if payload.len() > PAYLOAD_MAX {
        "path and value do not fit in a message"
    } else {
        return Ok(());
    };
    Err(StoreError::Misuse {
        operation,
        path: path.chars().take(64).collect(),
        problem,
    })
}
