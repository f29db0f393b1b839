//! The client against the fake xenstored, over a real ring with indices close to the wrap.

mod client;
mod connection;
mod hostile;
mod parser;
mod resume;
mod transactions;
mod watches;

use core::future::Future;

use super::{Store, StoreError};
use crate::fake::{FakeHypervisor, TestBed};

type TestStore = Store<FakeHypervisor>;

/// Runs an operation on the bed's store, moving time on as needed.
fn run<R: 'static, F: Future<Output = R> + 'static>(
    bed: &TestBed,
    operation: impl FnOnce(TestStore) -> F,
) -> R {
    bed.executor.block_on(operation(bed.store.clone()))
}

/// The simplest operation that shows whether the connection works.
fn ping(bed: &TestBed) -> Result<(), StoreError> {
    run(bed, async |store| store.write("data/ping", "1").await)
}
