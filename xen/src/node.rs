//! A node of xenstore that the toolstack writes to, whenever it wants something.

use alloc::string::String;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError, Watch};

/// How long to wait after a failed operation before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why somebody looks at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It may have changed, or nobody has looked yet.
    Change,
    /// The time to wait is over.
    Time,
}

/// Waits for what the toolstack writes to one node.
pub struct Node<H: Hypervisor> {
    store: Store<H>,
    path: &'static str,
    watch: Option<Watch<H>>,
    /// What failed the last time, and was said.
    failure: Option<StoreError>,
}

impl<H: Hypervisor> Node<H> {
    /// Follows the node at `path`. Nothing is asked of xenstore yet.
    #[must_use]
    pub fn new(store: Store<H>, path: &'static str) -> Self {
        Self {
            store,
            path,
            watch: None,
            failure: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Waits until the node may have changed, at first for nothing, but no longer than `limit`, and has
    /// `look` look; again, until that finds something.
    ///
    /// # Errors
    /// [`StoreError::Broken`] only: whatever else fails is tried again, and logged once for as long as it
    /// is the same.
    pub async fn next<T>(
        &mut self,
        limit: Option<Duration>,
        mut look: impl AsyncFnMut(&Store<H>, Occasion) -> Result<Option<T>, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let found = match self.step(limit, &mut look).await {
                Ok(found) => found,
                Err(error @ StoreError::Broken(_)) => return Err(error),
                Err(error) => {
                    if self.failure.as_ref() != Some(&error) {
                        log::warn!("{error}; trying again");
                    }
                    self.failure = Some(error);
                    self.look_anew();
                    let hypervisor = self.store.hypervisor();
                    hypervisor.sleep_until(hypervisor.now() + PAUSE).await;
                    continue;
                }
            };
            self.failure = None;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Looks the next time without waiting, as at first: with a new watch, which fires at once.
    pub fn look_anew(&mut self) {
        self.watch = None;
    }

    async fn step<T>(
        &mut self,
        limit: Option<Duration>,
        look: &mut impl AsyncFnMut(&Store<H>, Occasion) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => self.watch.insert(self.store.watch(self.path).await?),
        };
        let occasion = wait(self.store.hypervisor(), watch, limit).await?;
        look(&self.store, occasion).await
    }
}

async fn wait<H: Hypervisor>(
    hypervisor: &H,
    watch: &mut Watch<H>,
    limit: Option<Duration>,
) -> Result<Occasion, StoreError> {
    let mut end = limit.map(|limit| hypervisor.sleep_until(hypervisor.now() + limit));
    let mut changed = pin!(watch.changed());
    poll_fn(|context| {
        if let Poll::Ready(changed) = changed.as_mut().poll(context) {
            return Poll::Ready(changed.map(|_| Occasion::Change));
        }
        match &mut end {
            Some(end) => Pin::new(end).poll(context).map(|()| Ok(Occasion::Time)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Takes the word out of a node, which acknowledges it: reads and empties it in one transaction, so that
/// a word written in between is not lost, and a toolstack that gives up waiting knows whether it was
/// too late. `None` if there is nothing to take: at first, and after our own acknowledgement; then a
/// plain look does. What is no text is a word that nobody knows.
///
/// # Errors
/// [`StoreError`].
pub async fn take_word<H: Hypervisor>(
    store: &Store<H>,
    path: &str,
) -> Result<Option<String>, StoreError> {
    if word(store.read(path).await)?.is_none() {
        return Ok(None);
    }
    store
        .transaction(async |transaction| {
            let word = word(transaction.read(path).await)?;
            if word.is_some() {
                transaction.write(path, "").await?;
            }
            Ok(word)
        })
        .await
}

fn word(read: Result<String, StoreError>) -> Result<Option<String>, StoreError> {
    match read {
        Err(error) if error.is_not_found() => Ok(None),
        Err(StoreError::NotText { .. }) => Ok(Some(String::from("\u{fffd}"))),
        Err(error) => Err(error),
        Ok(word) => Ok((!word.is_empty()).then_some(word)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    use xen_proto::fake::TestBed;

    use super::*;

    const PATH: &str = "/local/domain/7/memory/target";

    #[test]
    fn a_look_is_taken_at_first_at_changes_and_when_the_time_is_over() {
        let bed = TestBed::new();
        bed.xenstored.write(PATH, "1");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (store, place) = (bed.store.clone(), seen.clone());
        bed.executor.spawn(async move {
            let mut node = Node::new(store, "memory/target");
            loop {
                let limit = Some(Duration::from_secs(10));
                let found = node
                    .next(limit, async |store, occasion| {
                        let text = store.read("memory/target").await?;
                        Ok(Some((occasion, text)))
                    })
                    .await
                    .expect("xenstored behaves");
                place.borrow_mut().push(found);
            }
        });
        let expect = |occasion, text: &str| {
            let found = core::mem::take(&mut *seen.borrow_mut());
            assert_eq!(found, [(occasion, String::from(text))]);
        };
        bed.executor.run_until_stalled();
        expect(Occasion::Change, "1");
        bed.xenstored.write(PATH, "2");
        bed.executor.run_until_stalled();
        expect(Occasion::Change, "2");
        bed.executor.run_for(Duration::from_secs(11));
        expect(Occasion::Time, "2");
    }

    #[test]
    fn a_look_that_fails_is_taken_again() {
        let bed = TestBed::new();
        let store = bed.store.clone();
        let found = bed.executor.block_on(async move {
            let mut failures = 3;
            let mut node = Node::new(store, "memory/target");
            node.next(None, async |_, _| {
                if failures == 0 {
                    return Ok(Some("found"));
                }
                failures -= 1;
                Err(StoreError::Conflict { attempts: 16 })
            })
            .await
        });
        assert_eq!(found, Ok("found"));
        bed.executor.run_until_stalled();
        assert_eq!(bed.xenstored.watches(), 0);
    }
}
