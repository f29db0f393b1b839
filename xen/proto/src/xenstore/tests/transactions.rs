//! Transactions commit all or nothing, retry, and leave nothing open.

use alloc::rc::Rc;
use alloc::vec;
use core::cell::Cell;

use super::{ping, run};
use crate::fake::{Misbehave, TestBed};
use crate::xenstore::wire::MessageType;
use crate::xenstore::{MAX_TRANSACTION_ATTEMPTS, StoreError};

#[test]
fn a_transaction_commits_what_it_did() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let read = run(&bed, async move |store| {
        store
            .transaction(async |transaction| {
                transaction.write("data/a", "1").await?;
                transaction.write("data/b", "2").await?;
                assert_eq!(server.read("data/a"), None, "not before the commit");
                transaction.read("data/b").await
            })
            .await
    });
    assert_eq!(read.as_deref(), Ok("2"));
    assert_eq!(bed.xenstored.read("data/a").as_deref(), Some("1"));
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn conflicts_are_tried_again_and_only_the_last_counts() {
    let bed = TestBed::new();
    bed.xenstored.refuse_commits(3);
    let attempts = Rc::new(Cell::new(0));
    let count = attempts.clone();
    let result = run(&bed, async move |store| {
        store
            .transaction(async |transaction| {
                count.set(count.get() + 1);
                let value = alloc::format!("{}", count.get());
                transaction.write("data/a", &value).await
            })
            .await
    });
    assert_eq!(result, Ok(()));
    assert_eq!(attempts.get(), 4);
    assert_eq!(bed.xenstored.read("data/a").as_deref(), Some("4"));
}

#[test]
fn a_real_conflict_is_seen() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let seen = run(&bed, async move |store| {
        let mut seen = vec![];
        store
            .transaction(async |transaction| {
                seen.push(transaction.read("data/a").await.unwrap_or_default());
                if seen.len() == 1 {
                    server.write("data/a", "theirs");
                }
                transaction.write("data/b", "ours").await
            })
            .await
            .unwrap();
        seen
    });
    assert_eq!(seen, ["", "theirs"]);
}

#[test]
fn conflicts_for_ever_end() {
    let bed = TestBed::new();
    bed.xenstored.refuse_commits(u32::MAX);
    let result = run(&bed, async |store| {
        store
            .transaction(async |transaction| transaction.write("data/a", "1").await)
            .await
    });
    let attempts = MAX_TRANSACTION_ATTEMPTS;
    assert_eq!(result, Err(StoreError::Conflict { attempts }));
    assert_eq!(bed.xenstored.read("data/a"), None);
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn a_failed_body_commits_nothing_and_leaves_nothing_open() {
    let bed = TestBed::new();
    let error = run(&bed, async |store| {
        store
            .transaction(async |transaction| {
                transaction.write("data/a", "1").await?;
                transaction.read("data/none").await
            })
            .await
            .unwrap_err()
    });
    assert!(error.is_not_found());
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.read("data/a"), None);
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn a_dropped_transaction_leaves_nothing_open() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let task = bed.executor.spawn(async move {
        store
            .transaction(async |transaction| {
                transaction.write("data/a", "1").await?;
                core::future::pending::<()>().await;
                Ok(())
            })
            .await
    });
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.open_transactions(), 1);
    task.abort();
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.open_transactions(), 0);
    assert_eq!(bed.xenstored.read("data/a"), None);
}

#[test]
fn a_start_given_up_before_its_reply_is_taken_back() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    let result = run(&bed, async |store| {
        store.transaction(async |_| Ok(())).await.unwrap_err()
    });
    let is_timeout = matches!(
        result,
        StoreError::TimedOut {
            operation: MessageType::TransactionStart,
            ..
        }
    );
    assert!(is_timeout, "{result}");
    bed.xenstored.behave();
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.open_transactions(), 0);
    assert_eq!(ping(&bed), Ok(()));
}

#[test]
fn many_starts_given_up_do_not_use_up_the_quota() {
    let bed = TestBed::new();
    for _ in 0..30 {
        bed.xenstored.misbehave(Misbehave::Silent);
        let result = run(&bed, async |store| {
            store.transaction(async |_| Ok(())).await
        });
        assert!(result.is_err());
        bed.xenstored.behave();
    }
    // Silent ones are never answered, so these cannot be taken back: xenstored's own quota
    // answers, and the error names it.
    let error = run(&bed, async |store| {
        store.transaction(async |_| Ok(())).await.unwrap_err()
    });
    assert_eq!(error.errno(), Some(crate::xenstore::Errno::ENOSPC));
}
