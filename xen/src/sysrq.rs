//! `xl sysrq`: a key that the toolstack presses, in `control/sysrq` of xenstore
//! (`docs/misc/xenstore-paths.pandoc` in Xen's tree). The guest acknowledges by emptying the node.

use alloc::string::String;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError};

use crate::node::{Node, take_word};

const SYSRQ: &str = "control/sysrq";

/// The keys that are pressed, one after the other.
pub struct Keys<H: Hypervisor> {
    node: Node<H>,
}

impl<H: Hypervisor> Keys<H> {
    /// Nothing is asked of xenstore yet.
    #[must_use]
    pub fn new(store: Store<H>) -> Self {
        Self {
            node: Node::new(store, SYSRQ),
        }
    }

    /// Waits for the next key and acknowledges it. A toolstack writes one character; whoever else
    /// writes may write more.
    ///
    /// # Errors
    /// [`StoreError::Broken`] only: whatever else fails is logged and tried again.
    pub async fn next(&mut self) -> Result<String, StoreError> {
        self.node
            .next(None, async |store, _| take_word(store, SYSRQ).await)
            .await
    }
}

#[cfg(test)]
mod tests {
    use xen_proto::fake::{TaskHandle, TestBed};

    use super::*;

    const NODE: &str = "/local/domain/7/control/sysrq";

    fn press(bed: &TestBed, key: &str) {
        bed.xenstored.write(NODE, key);
        bed.executor.run_until_stalled();
    }

    /// A task that waits for `count` keys.
    fn keys(
        bed: &TestBed,
        count: usize,
    ) -> TaskHandle<Result<alloc::vec::Vec<String>, StoreError>> {
        // As libxl does.
        bed.xenstored.write(NODE, "");
        bed.xenstored.set_owner(NODE, TestBed::GUEST, &[]);
        let store = bed.store.clone();
        let task = bed.executor.spawn(async move {
            let mut keys = Keys::new(store);
            let mut pressed = alloc::vec::Vec::new();
            while pressed.len() < count {
                pressed.push(keys.next().await?);
            }
            Ok(pressed)
        });
        bed.executor.run_until_stalled();
        task
    }

    #[test]
    fn each_key_is_returned_once_and_acknowledged() {
        let bed = TestBed::new();
        let task = keys(&bed, 3);
        for key in ["m", "", "m", "no key"] {
            press(&bed, key);
            assert_eq!(bed.xenstored.read(NODE).as_deref(), Some(""));
        }
        let pressed = task.take().unwrap().unwrap();
        assert_eq!(pressed, ["m", "m", "no key"]);
    }

    #[test]
    fn a_node_that_goes_is_waited_for() {
        let bed = TestBed::new();
        let task = keys(&bed, 1);
        bed.xenstored.remove(NODE);
        bed.executor.run_until_stalled();
        assert!(!task.is_finished());
        bed.xenstored.write(NODE, "t");
        bed.xenstored.set_owner(NODE, TestBed::GUEST, &[]);
        bed.executor.run_until_stalled();
        assert_eq!(task.take().unwrap().unwrap(), ["t"]);
    }
}
