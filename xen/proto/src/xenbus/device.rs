//! A device's nodes: reading and writing states, following the backend.

use alloc::string::{String, ToString};
use core::future::poll_fn;
use core::task::{Context, Poll};

use super::nonsense::Nonsense;
use super::{Observation, State};
use crate::hypervisor::{DomainId, Hypervisor};
use crate::xenstore::{Errno, Store, StoreError, Transaction, Watch, join};

/// Longest backend path that is believed, in bytes: names of nodes must still fit after it.
const LONGEST_BACKEND_PATH: usize = 1024;

/// The state that a node says. A node that is missing or makes no sense is [`State::Unknown`].
///
/// # Errors
/// [`StoreError`], except that the node does not exist.
async fn read_state<H: Hypervisor>(
    store: &Store<H>,
    path: &str,
    nonsense: &Nonsense,
) -> Result<State, StoreError> {
    let Some(text) = read_if_there(store, path).await? else {
        return Ok(State::Unknown);
    };
    Ok(State::parse(&text).unwrap_or_else(|| {
        nonsense.warn(format_args!("{path} is {text:?}, which is no state"));
        State::Unknown
    }))
}

/// A frontend's nodes in xenstore.
pub struct Device<H: Hypervisor> {
    store: Store<H>,
    path: String,
    /// Said about our own state.
    bad_state: Nonsense,
    /// Said about where the backend is.
    bad_backend: Nonsense,
}

impl<H: Hypervisor> Clone for Device<H> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            path: self.path.clone(),
            bad_state: self.bad_state.clone(),
            bad_backend: self.bad_backend.clone(),
        }
    }
}

impl<H: Hypervisor> Device<H> {
    /// The device whose nodes lie under `path`, such as `device/vif/0`.
    pub fn new(store: Store<H>, path: &str) -> Self {
        Self {
            store,
            path: path.to_string(),
            bad_state: Nonsense::default(),
            bad_backend: Nonsense::default(),
        }
    }

    /// The frontend's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of a node of the frontend.
    pub fn node(&self, name: &str) -> String {
        alloc::format!("{}/{name}", self.path)
    }

    /// The client under it.
    pub fn store(&self) -> &Store<H> {
        &self.store
    }

    /// Our own state, as written in the store. A node that is missing or makes no sense is
    /// [`State::Unknown`].
    ///
    /// # Errors
    /// [`StoreError`], except that the node does not exist.
    pub async fn state(&self) -> Result<State, StoreError> {
        read_state(&self.store, &self.node("state"), &self.bad_state).await
    }

    /// Writes our state, unless the device was taken away: then it returns false and does not
    /// create the node again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write_state(&self, state: State) -> Result<bool, StoreError> {
        self.update(async |transaction| transaction.write(&self.node("state"), state.text()).await)
            .await
    }

    /// Runs `body` in a transaction, unless the device was taken away: then it returns false.
    ///
    /// # Errors
    /// `body`'s or another [`StoreError`].
    pub async fn update(
        &self,
        mut body: impl AsyncFnMut(&Transaction<H>) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let anchor = self.node("backend");
        let mut gone = false;
        let result = self
            .store
            .transaction(async |transaction| {
                // At a time: what `body` does to a device that is gone is given up.
                let (present, done) =
                    join(transaction.read_bytes(&anchor), body(transaction)).await;
                gone = matches!(&present, Err(error) if error.is_not_found());
                present?;
                done
            })
            .await;
        match result {
            Err(_) if gone => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Removes what was written outside of a transaction to a device that had been taken away:
    /// writing makes nodes again. A device that is there, or there again, is left alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_if_gone(&self) -> Result<(), StoreError> {
        let anchor = self.node("backend");
        let cleared = self
            .store
            .transaction(
                async |transaction| match transaction.read_bytes(&anchor).await {
                    Err(error) if error.is_not_found() => transaction.remove(&self.path).await,
                    present => present.map(drop),
                },
            )
            .await;
        match cleared {
            // Where a guest may not remove them it could not make them either.
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => Ok(()),
            cleared => cleared,
        }
    }

    /// Follows the device and its backend, from the first observation on.
    pub fn follow(&self) -> Follower<H> {
        Follower {
            device: self.clone(),
            frontend: None,
            backend: None,
            bad_state: Nonsense::default(),
        }
    }

    /// The backend's path and domain, if the device is there.
    async fn find_backend(&self) -> Result<Option<BackendAddress>, StoreError> {
        let node = self.node("backend-id");
        let (path, text) = join(
            read_if_there(&self.store, &self.node("backend")),
            read_if_there(&self.store, &node),
        )
        .await;
        let (Some(path), Some(text)) = (path?, text?) else {
            return Ok(None);
        };
        let Ok(domain) = text.parse() else {
            self.bad_backend
                .warn(format_args!("{node} is {text:?}, which is no domain"));
            return Ok(None);
        };
        if path.is_empty() || path.len() > LONGEST_BACKEND_PATH || path.contains('\0') {
            let node = self.node("backend");
            self.bad_backend.warn(format_args!("{node} is no path"));
            return Ok(None);
        }
        Ok(Some(BackendAddress {
            path,
            domain: DomainId(domain),
        }))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct BackendAddress {
    path: String,
    domain: DomainId,
}

/// Watches a device and its backend, also when the backend moves to another domain.
pub struct Follower<H: Hypervisor> {
    device: Device<H>,
    /// None before the first observation.
    frontend: Option<Watch<H>>,
    backend: Option<(BackendAddress, Watch<H>)>,
    /// Said about the backend's state.
    bad_state: Nonsense,
}

impl<H: Hypervisor> Follower<H> {
    /// The device followed.
    pub fn device(&self) -> &Device<H> {
        &self.device
    }

    /// The backend's path when last observed.
    pub fn backend_path(&self) -> Option<&str> {
        let (address, _) = self.backend.as_ref()?;
        Some(&address.path)
    }

    /// The backend's domain when last observed.
    pub fn backend_domain(&self) -> Option<DomainId> {
        let (address, _) = self.backend.as_ref()?;
        Some(address.domain)
    }

    /// The path of a node of the backend's.
    pub fn backend_node(&self, name: &str) -> Option<String> {
        Some(alloc::format!("{}/{name}", self.backend_path()?))
    }

    /// Waits until something may have changed since the last observation. Returns at once if
    /// there was none.
    ///
    /// # Errors
    /// [`StoreError::Broken`].
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    /// [`changed`](Self::changed) for those who wait for several things.
    ///
    /// # Errors
    /// [`StoreError::Broken`].
    pub fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        let Some(frontend) = &mut self.frontend else {
            return Poll::Ready(Ok(()));
        };
        if let Poll::Ready(result) = frontend.poll_changed(context) {
            return Poll::Ready(result.map(drop));
        }
        match &mut self.backend {
            Some((_, watch)) => watch.poll_changed(context).map(|result| result.map(drop)),
            None => Poll::Pending,
        }
    }

    /// Looks at the device and its backend now.
    ///
    /// # Errors
    /// [`StoreError`], except that nodes do not exist.
    pub async fn observe(&mut self) -> Result<Observation, StoreError> {
        let (seen, _) = self.observe_with(async |_| ()).await?;
        Ok(seen)
    }

    /// Like [`observe`](Self::observe), together with what `also` reads below the backend's
    /// path, if there is a backend. It is asked for after the backend's state, and so is as new
    /// as that or newer, and it costs no wait of its own.
    ///
    /// # Errors
    /// As there.
    pub async fn observe_with<T>(
        &mut self,
        also: impl AsyncFn(&str) -> T,
    ) -> Result<(Observation, Option<T>), StoreError> {
        let store = &self.device.store;
        let bad_state = &self.bad_state;
        let read = async |path: &str| join(read_backend(store, path, bad_state), also(path)).await;
        // Watched before it is read, so that no change falls between: requests are dealt
        // with in the order in which they are sent.
        let watched = async {
            match &self.frontend {
                Some(_) => Ok(None),
                None => {
                    let node = self.device.node("backend");
                    store.watch_changes(&node).await.map(Some)
                }
            }
        };
        // What the backend known so far says is asked together with whether it is still the one.
        let known = self.backend_path().map(str::to_string);
        let said = async {
            match &known {
                Some(path) => Some(read(path).await),
                None => None,
            }
        };
        let (watched, (found, said)) = join(watched, join(self.device.find_backend(), said)).await;
        if let Some(watch) = watched? {
            self.frontend = Some(watch);
        }
        let Some(found) = found? else {
            self.backend = None;
            let seen = Observation {
                present: false,
                backend: State::Unknown,
                online: false,
            };
            return Ok((seen, None));
        };
        let is_known = matches!(&self.backend, Some((address, _)) if *address == found);
        let (said, also) = match said {
            Some(said) if is_known => said,
            _ => {
                let state_node = alloc::format!("{}/state", found.path);
                let (watch, said) = join(store.watch_changes(&state_node), read(&found.path)).await;
                self.backend = Some((found, watch?));
                said
            }
        };
        let (backend, online) = said?;
        let seen = Observation {
            present: true,
            backend,
            online,
        };
        Ok((seen, Some(also)))
    }
}

/// A backend's state, and whether it means to stay.
async fn read_backend<H: Hypervisor>(
    store: &Store<H>,
    path: &str,
    bad_state: &Nonsense,
) -> Result<(State, bool), StoreError> {
    let state_node = alloc::format!("{path}/state");
    let online_node = alloc::format!("{path}/online");
    let (state, online) = join(
        read_state(store, &state_node, bad_state),
        read_if_there(store, &online_node),
    )
    .await;
    // Backends that do not write it mean to stay.
    Ok((state?, online?.is_none_or(|online| online != "0")))
}

/// A node's text; `None` if it is not there, is not ours to read, or is no text.
async fn read_if_there<H: Hypervisor>(
    store: &Store<H>,
    path: &str,
) -> Result<Option<String>, StoreError> {
    match store.read(path).await {
        Ok(text) => Ok(Some(text)),
        Err(StoreError::NotText { .. }) => Ok(None),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => Ok(None),
        Err(error) => Err(error),
    }
}
