//! What the toolstack asks of this domain: `control/shutdown` in xenstore.
//!
//! `xl shutdown`, `xl reboot`, `xl save` and `xl migrate` write a word there; the guest acknowledges by
//! emptying the node and does what it says (`docs/misc/xenstore-paths.pandoc` in Xen's tree).

use alloc::string::String;
use core::fmt;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError, join_all};

use crate::node::{Node, take_word};

const SHUTDOWN: &str = "control/shutdown";

/// What this program can be asked to do; written for toolstacks that look before they ask.
const FEATURES: [&str; 3] = [
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
];

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
    node: Node<H>,
    /// The toolstack knows what this program can do.
    is_announced: bool,
    /// The last word that meant nothing here.
    unknown: Option<String>,
}

impl<H: Hypervisor> Orders<H> {
    /// Orders to come through `store`. Nothing is asked yet.
    pub fn new(store: Store<H>) -> Self {
        Self {
            node: Node::new(store, SHUTDOWN),
            is_announced: false,
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
        let Self {
            node,
            is_announced,
            unknown,
        } = self;
        node.next(None, async |store, _| {
            if !*is_announced {
                let announcements = FEATURES.map(|feature| announce(store, feature));
                let announced = join_all(announcements).await;
                announced.into_iter().collect::<Result<(), _>>()?;
                *is_announced = true;
            }
            let Some(word) = take_word(store, SHUTDOWN).await? else {
                return Ok(None);
            };
            let order = Order::parse(&word);
            // One line per word, not one per event.
            if order.is_none() && unknown.as_ref() != Some(&word) {
                log::warn!("{SHUTDOWN} is {word:?}, which this program cannot do: ignored");
                *unknown = Some(word);
            }
            Ok(order)
        })
        .await
    }

    /// The guest was restored in another domain, whose nodes do not say yet what it can do.
    pub fn restored(&mut self) {
        self.is_announced = false;
        self.node.look_anew();
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

#[cfg(test)]
mod tests;
