//! Watches: being told of changes.

use alloc::rc::Rc;
use alloc::string::String;
use core::future::poll_fn;
use core::task::{Context, Poll};

use super::StoreError;
use super::connection::{TransactionId, WatchToken, watch_payload};
use super::store::Shared;
use super::wire::MessageType;
use crate::hypervisor::Hypervisor;

/// Tells of changes of a node and everything below it, and once at the start. Dropping it
/// ends the watch.
pub struct Watch<H: Hypervisor> {
    shared: Rc<Shared<H>>,
    path: String,
    token: WatchToken,
    established: bool,
}

impl<H: Hypervisor> Watch<H> {
    pub(super) fn new(shared: Rc<Shared<H>>, path: &str, token: WatchToken) -> Self {
        Self {
            shared,
            path: path.into(),
            token,
            established: false,
        }
    }

    /// xenstored knows the watch: from now on it must be told to forget it.
    pub(super) fn established(&mut self) {
        self.established = true;
    }

    /// The watched path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Waits for a change and returns the path that changed. Several changes of one path before
    /// this is awaited are told once; after too many different ones only the watched path is
    /// told. So read what you depend on, rather than believe the path.
    ///
    /// # Errors
    /// [`StoreError::Broken`].
    pub async fn changed(&mut self) -> Result<String, StoreError> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    /// [`changed`](Self::changed) for those who wait for several things. One task waits for a
    /// watch at a time.
    ///
    /// # Errors
    /// [`StoreError::Broken`].
    pub fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<Result<String, StoreError>> {
        let mut connection = self.shared.connection.borrow_mut();
        connection
            .poll_changed(self.token, context)
            .map_err(StoreError::Broken)
    }
}

impl<H: Hypervisor> Drop for Watch<H> {
    fn drop(&mut self) {
        let mut connection = self.shared.connection.borrow_mut();
        connection.remove_watch(self.token);
        if self.established {
            let payload = watch_payload(&self.path, self.token);
            connection.submit_and_forget(MessageType::Unwatch, TransactionId::OUTSIDE, &payload);
        }
    }
}
