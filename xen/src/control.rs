//! What the toolstack asks of this domain: `control/shutdown` in xenstore.
//!
//! `xl shutdown` and `xl reboot` write a word there; the guest acknowledges by emptying the node
//! and does what it says (`docs/misc/xenstore-paths.pandoc` in Xen's tree).

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError, Watch, join, join_all};

const SHUTDOWN: &str = "control/shutdown";

/// What this program can be asked to do; written for toolstacks that look before they ask.
/// `feature-suspend` is not among them.
const FEATURES: [&str; 2] = ["control/feature-poweroff", "control/feature-reboot"];

/// How long to wait after a failed operation before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the toolstack wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownRequest {
    /// `xl shutdown`.
    Poweroff,
    /// `xl reboot`.
    Reboot,
    /// Stop; the same as power-off for a virtual machine.
    Halt,
}

impl ShutdownRequest {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "poweroff" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            "halt" => Some(Self::Halt),
            _ => None,
        }
    }
}

impl fmt::Display for ShutdownRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        })
    }
}

/// Waits until the toolstack asks for something this program can do, acknowledges it and returns
/// it. Words that mean nothing here are logged and left unacknowledged, so that the toolstack
/// gives up on them (`suspend` among them).
///
/// # Errors
/// [`StoreError::Broken`] only: whatever else fails is logged and tried again.
pub async fn shutdown_request<H: Hypervisor>(
    store: &Store<H>,
) -> Result<ShutdownRequest, StoreError> {
    let mut watch: Option<Watch<H>> = None;
    let mut ignored = None;
    loop {
        match step(store, &mut watch, &mut ignored).await {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(error @ StoreError::Broken(_)) => return Err(error),
            Err(error) => {
                log::warn!("{error}; trying again");
                // With a new watch, which fires at once: the event may have been the one that
                // was not dealt with.
                watch = None;
                let hypervisor = store.hypervisor();
                hypervisor.sleep_until(hypervisor.now() + PAUSE).await;
            }
        }
    }
}

/// Sets the watch up if there is none, waits for it, and looks.
async fn step<H: Hypervisor>(
    store: &Store<H>,
    watch: &mut Option<Watch<H>>,
    ignored: &mut Option<String>,
) -> Result<Option<ShutdownRequest>, StoreError> {
    let watch = match watch {
        Some(watch) => watch,
        None => {
            let announcements = FEATURES.map(|feature| announce(store, feature));
            let (announced, watched) = join(join_all(announcements), store.watch(SHUTDOWN)).await;
            announced.into_iter().collect::<Result<(), _>>()?;
            watch.insert(watched?)
        }
    };
    watch.changed().await?;
    let word = take_word(store).await?;
    match word {
        Word::Request(request) => return Ok(Some(request)),
        Word::None => *ignored = None,
        // One line per word, not one per event.
        Word::Unknown(word) if ignored.as_deref() == Some(&word) => {}
        Word::Unknown(word) => {
            log::warn!("{SHUTDOWN} is {word:?}, which this program cannot do: ignored");
            *ignored = Some(word);
        }
    }
    Ok(None)
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

enum Word {
    /// The node is empty or absent: at first, and after our own acknowledgement.
    None,
    Request(ShutdownRequest),
    Unknown(String),
}

/// Reads the node and empties it if this program will do what it says, in one transaction: a
/// word written in between is not lost.
async fn take_word<H: Hypervisor>(store: &Store<H>) -> Result<Word, StoreError> {
    store
        .transaction(async |transaction| {
            let word = match transaction.read(SHUTDOWN).await {
                Err(error) if error.is_not_found() => return Ok(Word::None),
                word => word?,
            };
            if word.is_empty() {
                return Ok(Word::None);
            }
            let Some(request) = ShutdownRequest::parse(&word) else {
                return Ok(Word::Unknown(word));
            };
            transaction.write(SHUTDOWN, "").await?;
            Ok(Word::Request(request))
        })
        .await
}

#[cfg(test)]
mod tests;
