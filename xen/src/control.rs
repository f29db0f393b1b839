//! What the toolstack asks of this domain: `control/shutdown` in xenstore.
//!
//! `xl shutdown`, `xl reboot`, `xl save` and `xl migrate` write a word there; the guest acknowledges by
//! emptying the node and does what it says (`docs/misc/xenstore-paths.pandoc` in Xen's tree).

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError, Watch, join, join_all};

const SHUTDOWN: &str = "control/shutdown";

/// What this program can be asked to do; written for toolstacks that look before they ask.
const FEATURES: [&str; 3] = [
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
];

/// How long to wait after a failed operation before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the toolstack wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `xl shutdown`.
    Poweroff,
    /// `xl reboot`.
    Reboot,
    /// Stop; the same as power-off for a virtual machine.
    Halt,
    /// `xl save`, `xl migrate`: [suspend](crate::Machine::suspend), within a minute.
    Suspend,
}

impl Order {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "poweroff" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            "halt" => Some(Self::Halt),
            "suspend" => Some(Self::Suspend),
            _ => None,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Suspend => "suspend",
        })
    }
}

/// The toolstack's orders, one after the other.
pub struct Orders<H: Hypervisor> {
    store: Store<H>,
    watch: Option<Watch<H>>,
    /// The last word that meant nothing here.
    unknown: Option<String>,
}

impl<H: Hypervisor> Orders<H> {
    /// Orders to come through `store`. Nothing is asked yet.
    pub fn new(store: Store<H>) -> Self {
        Self {
            store,
            watch: None,
            unknown: None,
        }
    }

    /// Waits until the toolstack asks for something this program can do, acknowledges it and returns
    /// it. Words that mean nothing here are acknowledged too, lest the toolstack wait for what never
    /// comes, and logged.
    ///
    /// # Errors
    /// [`StoreError::Broken`] only: whatever else fails is logged and tried again.
    pub async fn next(&mut self) -> Result<Order, StoreError> {
        loop {
            match self.step().await {
                Ok(Some(order)) => return Ok(order),
                Ok(None) => {}
                Err(error @ StoreError::Broken(_)) => return Err(error),
                Err(error) => {
                    log::warn!("{error}; trying again");
                    // With a new watch, which fires at once: the event may have been the one that
                    // was not dealt with.
                    self.watch = None;
                    let hypervisor = self.store.hypervisor();
                    hypervisor.sleep_until(hypervisor.now() + PAUSE).await;
                }
            }
        }
    }

    /// The guest was restored in another domain, whose nodes do not say yet what it can do.
    pub fn restored(&mut self) {
        self.watch = None;
    }

    /// Sets the watch up if there is none, waits for it, and looks.
    async fn step(&mut self) -> Result<Option<Order>, StoreError> {
        let store = &self.store;
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let announcements = FEATURES.map(|feature| announce(store, feature));
                let (announced, watched) =
                    join(join_all(announcements), store.watch(SHUTDOWN)).await;
                announced.into_iter().collect::<Result<(), _>>()?;
                self.watch.insert(watched?)
            }
        };
        watch.changed().await?;
        let word = take_word(store).await?;
        if word.is_empty() {
            return Ok(None);
        }
        let order = Order::parse(&word);
        // One line per word, not one per event.
        if order.is_none() && self.unknown.as_ref() != Some(&word) {
            log::warn!("{SHUTDOWN} is {word:?}, which this program cannot do: ignored");
            self.unknown = Some(word);
        }
        Ok(order)
    }
}

/// Writes that this program can do something. A toolstack that does not let it does not ask
/// either.
async fn announce<H: Hypervisor>(store: &Store<H>, feature: &str) -> Result<(), StoreError> {
    match store.write(feature, "1").await {
        Err(error @ StoreError::Refused { .. }) => {
            log::debug!("{error}");
            Ok(())
        }
        result => result,
    }
}

/// Reads the node and empties it, in one transaction: a word written in between is not lost, and a
/// toolstack that gives up waiting knows whether it was too late. Empty if there is nothing to do: at
/// first, and after our own acknowledgement.
async fn take_word<H: Hypervisor>(store: &Store<H>) -> Result<String, StoreError> {
    store
        .transaction(async |transaction| {
            let word = match transaction.read(SHUTDOWN).await {
                Err(error) if error.is_not_found() => return Ok(String::new()),
                // What is no text is no word.
                Err(StoreError::NotText { .. }) => String::from("(not text)"),
                word => word?,
            };
            if !word.is_empty() {
                transaction.write(SHUTDOWN, "").await?;
            }
            Ok(word)
        })
        .await
}

#[cfg(test)]
mod tests;
