//! The virtual interfaces of this guest, which the host plugs and unplugs at any time.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use netfront::{Control, Device, NetFront};
use rekernel_core::executor::{JoinHandle, spawn};
use rekernel_core::time::{sleep, timeout};
use xen::Hypervisor;
use xen_proto::xenstore::{StoreError, join_all};

use super::Store;
use super::suspend::Resumables;
use super::vif::Vif;
use crate::network::Interfaces;

/// How long the start waits for an interface to tell its Ethernet address, which xenstore has.
const IDENTIFICATION_TIMEOUT: Duration = Duration::from_secs(5);

/// When to watch for changes. Each node that an interface writes while it connects is one, and
/// would cost the start of the guest a message; what is plugged earlier is found then.
const WATCH_AFTER: Duration = Duration::from_secs(1);

/// Interfaces at a time. The host could name thousands, and each costs memory.
const MOST_INTERFACES: usize = 32;

/// The nodes of all interfaces are below this one.
const DIRECTORY: &str = "device/vif";

/// Starts interfaces as the host plugs them. Clones are the same.
#[derive(Clone)]
pub(super) struct Vifs {
    hypervisor: Hypervisor,
    store: Store,
    interfaces: Interfaces,
    resumables: Resumables,
    /// Handles of the interfaces that somebody cares for.
    running: Rc<RefCell<Vec<u32>>>,
    complained: Rc<Cell<bool>>,
}

impl Vifs {
    pub(super) fn new(
        hypervisor: Hypervisor,
        store: Store,
        interfaces: Interfaces,
        resumables: Resumables,
    ) -> Self {
        Self {
            hypervisor,
            store,
            interfaces,
            resumables,
            running: Rc::default(),
            complained: Rc::default(),
        }
    }

    /// Starts the interfaces that there are, and waits until the stack has them. One whose address
    /// cannot be read is not waited for, and comes later if it comes.
    pub(super) async fn start_all(&self) {
        match self.start_new().await {
            Ok(started) => {
                let waits = started.into_iter().map(async |(handle, joins)| {
                    if timeout(IDENTIFICATION_TIMEOUT, joins).await.is_err() {
                        log::error!("vif{handle}: no usable Ethernet address yet; not waited for");
                    }
                });
                join_all(waits).await;
            }
            Err(error) => log::error!("cannot list network interfaces: {error}"),
        }
    }

    /// Starts what the host plugs from now on, for as long as there is a xenstore.
    pub(super) async fn follow(self) {
        sleep(WATCH_AFTER).await;
        while let Err(error) = self.follow_changes().await {
            log::error!("cannot see new network interfaces: {error}");
            if matches!(error, StoreError::Broken(_)) {
                return;
            }
            sleep(WATCH_AFTER).await;
        }
    }

    async fn follow_changes(&self) -> Result<(), StoreError> {
        let mut watch = self.store.watch(DIRECTORY).await?;
        loop {
            let path = watch.changed().await?;
            // What happens to a known one is the business of its own task.
            let is_known = handle_in(&path).is_some_and(|it| self.running.borrow().contains(&it));
            if !is_known {
                self.start_new().await?;
            }
        }
    }

    /// Starts the interfaces that nobody cares for yet. Their tasks end when the stack has them.
    async fn start_new(&self) -> Result<Vec<(u32, JoinHandle<()>)>, StoreError> {
        let mut started = Vec::new();
        for handle in netfront::list_vifs(&self.store).await? {
            if self.running.borrow().contains(&handle) {
                continue;
            }
            if self.running.borrow().len() >= MOST_INTERFACES {
                if !self.complained.replace(true) {
                    log::error!("vif{handle}: left out: {MOST_INTERFACES} interfaces are enough");
                }
                break;
            }
            self.running.borrow_mut().push(handle);
            let (joins, control) = self.start(handle);
            spawn(self.clone().care(handle, control));
            started.push((handle, joins));
        }
        Ok(started)
    }

    fn start(&self, handle: u32) -> (JoinHandle<()>, Control<Hypervisor>) {
        let (device, control) = NetFront::new(self.hypervisor, self.store.clone(), handle);
        self.resumables.add(control.resume_handle());
        (spawn(join_stack(device, handle, self.interfaces)), control)
    }

    /// Runs an interface for as long as it is there. When it was taken away, the stack drops the
    /// device sooner or later, which ends the control; if it is back by then, all begins anew.
    async fn care(self, handle: u32, mut control: Control<Hypervisor>) {
        loop {
            control.run().await;
            // xenstored answers and tells of changes in one order: whatever is plugged after this
            // answer is told after it, and then nobody cares for it.
            let backend = format!("{DIRECTORY}/{handle}/backend");
            if self.store.read_bytes(&backend).await.is_err() {
                break;
            }
            (_, control) = self.start(handle);
        }
        self.running.borrow_mut().retain(|&other| other != handle);
    }
}

/// Hands an interface to the network stack once it is known.
async fn join_stack(mut device: Device<Hypervisor>, handle: u32, interfaces: Interfaces) {
    if device.identified().await {
        log::debug!("{}: identified", device.name());
        interfaces.add(handle as usize, Box::new(Vif { device }));
    } else {
        log::debug!("{}: gone before it was known", device.name());
    }
}

/// The handle in the path of a node below the directory.
fn handle_in(path: &str) -> Option<u32> {
    let below = path.split_once(DIRECTORY)?.1.strip_prefix('/')?;
    below.split('/').next()?.parse().ok()
}
