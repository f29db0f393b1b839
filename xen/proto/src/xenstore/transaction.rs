//! Transactions: several operations, all or nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use super::connection::{TransactionId, Undo};
use super::store::{Nodes, Store};
use super::wire::{Errno, MessageType};
use super::{Permission, StoreError};
use crate::hypervisor::Hypervisor;

/// How often a transaction is tried before [`StoreError::Conflict`].
pub const MAX_TRANSACTION_ATTEMPTS: u32 = 16;

/// An open transaction: sees the store as it was at its start, with its own changes.
/// See [`Store::transaction`].
pub struct Transaction<H: Hypervisor> {
    store: Store<H>,
    id: TransactionId,
    ended: Cell<bool>,
}

pub(super) async fn run<H: Hypervisor, R>(
    store: &Store<H>,
    mut body: impl AsyncFnMut(&Transaction<H>) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    for _ in 0..MAX_TRANSACTION_ATTEMPTS {
        let transaction = Transaction::start(store).await?;
        let result = body(&transaction).await;
        if !transaction.is_known() {
            // It went with the domain that this guest was.
            continue;
        }
        let result = result?;
        match transaction.commit().await {
            Ok(()) => return Ok(result),
            Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict {
        attempts: MAX_TRANSACTION_ATTEMPTS,
    })
}

impl<H: Hypervisor> Transaction<H> {
    /// Like [`Store::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&self, path: &str) -> Result<String, StoreError> {
        self.nodes().read(path).await
    }

    /// Like [`Store::read_bytes`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_bytes(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.nodes().read_bytes(path).await
    }

    /// Like [`Store::write`].
    ///
    /// # Errors
    /// As there.
    pub async fn write(&self, path: &str, value: &str) -> Result<(), StoreError> {
        self.nodes().write(path, value).await
    }

    /// Like [`Store::mkdir`].
    ///
    /// # Errors
    /// As there.
    pub async fn mkdir(&self, path: &str) -> Result<(), StoreError> {
        self.nodes().mkdir(path).await
    }

    /// Like [`Store::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, path: &str) -> Result<(), StoreError> {
        self.nodes().remove(path).await
    }

    /// Like [`Store::directory`].
    ///
    /// # Errors
    /// As there.
    pub async fn directory(&self, path: &str) -> Result<Vec<String>, StoreError> {
        self.nodes().directory(path).await
    }

    /// Like [`Store::permissions`].
    ///
    /// # Errors
    /// As there.
    pub async fn permissions(&self, path: &str) -> Result<Vec<Permission>, StoreError> {
        self.nodes().permissions(path).await
    }

    /// Like [`Store::set_permissions`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        self.nodes().set_permissions(path, permissions).await
    }

    async fn start(store: &Store<H>) -> Result<Self, StoreError> {
        const OPERATION: MessageType = MessageType::TransactionStart;
        let reply = store
            .nodes(TransactionId::OUTSIDE)
            .request(OPERATION, "", b"\0", Undo::EndTransaction)
            .await?;
        let id = store.shared().connection.borrow().transaction(&reply);
        let id = id.ok_or_else(|| store.misbehaved(OPERATION))?;
        Ok(Self {
            store: store.clone(),
            id,
            ended: Cell::new(false),
        })
    }

    async fn commit(&self) -> Result<(), StoreError> {
        let reply = self
            .nodes()
            .request(MessageType::TransactionEnd, "", b"T\0", Undo::Nothing)
            .await;
        // Without an answer it may still be open: dropping it then ends it, or is refused.
        let answered = matches!(&reply, Ok(_) | Err(StoreError::Refused { .. }));
        self.ended.set(answered);
        reply.map(drop)
    }

    /// Whether xenstored can know of it.
    fn is_known(&self) -> bool {
        self.store.shared().connection.borrow().knows(self.id)
    }

    fn nodes(&self) -> Nodes<'_, H> {
        self.store.nodes(self.id)
    }
}

impl<H: Hypervisor> Drop for Transaction<H> {
    /// Gives the transaction up unless it was committed.
    fn drop(&mut self) {
        if !self.ended.get() {
            let mut connection = self.store.shared().connection.borrow_mut();
            connection.submit_and_forget(MessageType::TransactionEnd, self.id, b"F\0");
        }
    }
}
