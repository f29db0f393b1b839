//! Every operation, and every size and split of it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use super::{ping, run};
use crate::fake::{Misbehave, TestBed};
use crate::hypervisor::{DomainId, Hypervisor};
use crate::xenstore::wire::MessageType;
use crate::xenstore::{Errno, NodeAccess, Permission, StoreError};

#[test]
fn reads_what_was_written() {
    let bed = TestBed::new();
    let value = run(&bed, async |store| {
        store.write("data/key", "välue").await?;
        store.read("data/key").await
    });
    assert_eq!(value.as_deref(), Ok("välue"));
    assert_eq!(bed.xenstored.read("data/key").as_deref(), Some("välue"));
}

#[test]
fn relative_and_absolute_paths_meet() {
    let bed = TestBed::new();
    let value = run(&bed, async |store| {
        let home = store.domain_path(TestBed::GUEST).await?;
        store.write(&format!("{home}/data/a"), "1").await?;
        store.read("data/a").await
    });
    assert_eq!(value.as_deref(), Ok("1"));
}

#[test]
fn what_is_not_there_is_not_found() {
    let bed = TestBed::new();
    let error = run(&bed, async |store| {
        store.read("data/none").await.unwrap_err()
    });
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "xenstore read of \"data/none\": ENOENT");
    let error = run(&bed, async |store| {
        store.directory("nothing").await.unwrap_err()
    });
    assert!(error.is_not_found());
}

#[test]
fn what_is_not_ours_is_refused() {
    let bed = TestBed::new();
    bed.xenstored.write("/tool/secret", "1");
    bed.xenstored.set_owner("/tool/secret", DomainId(0), &[]);
    let read = run(&bed, async |store| store.read("/tool/secret").await);
    assert_eq!(read.unwrap_err().errno(), Some(Errno::EACCES));
    let write = run(&bed, async |store| store.write("device/x", "1").await);
    assert_eq!(write.unwrap_err().errno(), Some(Errno::EACCES));
}

#[test]
fn directories_are_made_listed_and_removed() {
    let bed = TestBed::new();
    let (names, empty, after) = run(&bed, async |store| {
        store.mkdir("data/dir").await.unwrap();
        store.mkdir("data/dir").await.unwrap();
        let empty = store.directory("data/dir").await.unwrap();
        store.write("data/dir/b", "").await.unwrap();
        store.write("data/dir/a/below", "").await.unwrap();
        let names = store.directory("data/dir").await.unwrap();
        store.remove("data/dir").await.unwrap();
        store.remove("data/dir").await.unwrap();
        (names, empty, store.directory("data").await.unwrap())
    });
    assert_eq!(names, ["a", "b"]);
    assert_eq!(empty, Vec::<String>::new());
    assert_eq!(after, Vec::<String>::new());
}

#[test]
fn a_directory_larger_than_a_message_is_read_in_parts() {
    let bed = TestBed::new();
    let expected: Vec<String> = (0..1500).map(|index| format!("name-{index:05}")).collect();
    for name in &expected {
        bed.xenstored.write(&format!("data/many/{name}"), "");
    }
    let names = run(&bed, async |store| store.directory("data/many").await);
    assert_eq!(names, Ok(expected));
    let parts = bed.xenstored.received();
    let parts = parts
        .iter()
        .filter(|kind| **kind == MessageType::DirectoryPart);
    assert!(parts.count() > 3);
}

#[test]
fn a_directory_beyond_all_bounds_is_too_big() {
    let bed = TestBed::new();
    for index in 0..7000 {
        bed.xenstored
            .write(&format!("data/many/name-{index:05}"), "");
    }
    let error = run(&bed, async |store| {
        store.directory("data/many").await.unwrap_err()
    });
    assert_eq!(error.errno(), Some(Errno::E2BIG));
}

#[test]
fn a_directory_that_changes_between_parts_is_read_again() {
    let bed = TestBed::new();
    for index in 0..1000 {
        bed.xenstored
            .write(&format!("data/many/name-{index:05}"), "");
    }
    // Slow enough that the test gets between the parts.
    bed.xenstored.misbehave(Misbehave::Dribble(64));
    let store = bed.store.clone();
    let names = bed
        .executor
        .spawn(async move { store.directory("data/many").await });
    let server = bed.xenstored.clone();
    bed.executor.block_on(async move {
        let parts = |kinds: Vec<MessageType>| {
            let parts = kinds
                .iter()
                .filter(|kind| **kind == MessageType::DirectoryPart);
            parts.count()
        };
        server
            .wait_until(|server| parts(server.received()) == 2)
            .await;
        // Before all others: every offset changes.
        server.write("data/many/aaa", "");
    });
    bed.executor.run_until_stalled();
    let names = names.take().expect("it is done").expect("it is read");
    assert_eq!(names.len(), 1001);
    assert_eq!(names.first().map(String::as_str), Some("aaa"));
    assert_eq!(names.last().map(String::as_str), Some("name-00999"));
}

#[test]
fn permissions_are_read_and_set() {
    let bed = TestBed::new();
    let wanted = vec![
        Permission {
            domain: TestBed::GUEST,
            access: NodeAccess::None,
        },
        Permission {
            domain: DomainId(3),
            access: NodeAccess::Both,
        },
        Permission {
            domain: DomainId(0),
            access: NodeAccess::Read,
        },
    ];
    let expected = wanted.clone();
    let (before, after) = run(&bed, async move |store| {
        store.write("data/mine", "").await.unwrap();
        let before = store.permissions("data/mine").await.unwrap();
        store.set_permissions("data/mine", &wanted).await.unwrap();
        (before, store.permissions("data/mine").await.unwrap())
    });
    assert_eq!(before, expected[..1]);
    assert_eq!(after, expected);
}

#[test]
fn a_value_may_be_any_bytes_but_text_must_be_text() {
    let bed = TestBed::new();
    bed.xenstored.write_bytes("data/raw", &[0xff, 0, 0x80]);
    let (raw, text) = run(&bed, async |store| {
        let raw = store.read_bytes("data/raw").await;
        (raw, store.read("data/raw").await)
    });
    assert_eq!(raw, Ok(vec![0xff, 0, 0x80]));
    let path = "data/raw".to_string();
    assert_eq!(text, Err(StoreError::NotText { path }));
    assert_eq!(ping(&bed), Ok(()), "that does not break the connection");
}

#[test]
fn values_up_to_a_whole_message_go_through_the_small_ring() {
    let bed = TestBed::new();
    let longest = 4096 - "data/big".len() - 1;
    for dribble in [None, Some(1), Some(7)] {
        if let Some(bytes) = dribble {
            bed.xenstored.misbehave(Misbehave::Dribble(bytes));
        }
        for length in [0, 1, 1000, 1024, 1025, longest] {
            let value = "x".repeat(length);
            let expected = value.clone();
            let read = run(&bed, async move |store| {
                store.write("data/big", &value).await?;
                store.read("data/big").await
            });
            assert_eq!(read, Ok(expected), "{length} bytes, dribble {dribble:?}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_the_callers_mistake() {
    let bed = TestBed::new();
    let long = "x".repeat(2049);
    let deep = format!("/{}", "x".repeat(3072));
    let value = "x".repeat(4096);
    run(&bed, async move |store| {
        for (path, value, expected) in [
            ("", "", "the path is empty"),
            ("a\0b", "", "the path contains a NUL"),
            (&long, "", "the path is too long"),
            (&deep, "", "the path is too long"),
            ("data/a", &value, "path and value do not fit in a message"),
        ] {
            match store.write(path, value).await {
                Err(StoreError::Misuse { problem, path, .. }) => {
                    assert_eq!(problem, expected);
                    assert!(path.len() <= 64);
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(bed.xenstored.received(), [], "nothing was sent");
    assert_eq!(ping(&bed), Ok(()));
}

#[test]
fn many_tasks_share_a_connection() {
    let bed = TestBed::new();
    let handles: Vec<_> = (0..200)
        .map(|index| {
            let store = bed.store.clone();
            bed.executor.spawn(async move {
                let path = format!("data/{index}");
                store.write(&path, &"v".repeat(index)).await?;
                store.read(&path).await
            })
        })
        .collect();
    bed.executor.run_until_stalled();
    for (index, handle) in handles.iter().enumerate() {
        assert_eq!(handle.take(), Some(Ok("v".repeat(index))));
    }
}

#[test]
fn request_ids_wrap() {
    let bed = TestBed::new();
    let started = bed.hypervisor.now();
    for _ in 0..600 {
        assert_eq!(ping(&bed), Ok(()));
    }
    assert_eq!(bed.hypervisor.now(), started, "nothing had to wait");
}

#[test]
fn a_shorter_timeout_is_kept() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    let started = bed.hypervisor.now();
    let result = run(&bed, async |store| {
        let hasty = store.with_timeout(Duration::from_millis(250));
        hasty.read("data/x").await
    });
    let expected = StoreError::TimedOut {
        operation: MessageType::Read,
        path: "data/x".to_string(),
    };
    assert_eq!(result, Err(expected));
    assert_eq!(bed.hypervisor.now() - started, Duration::from_millis(250));
}

#[test]
fn nothing_is_sent_before_xenstored_is_connected() {
    let bed = TestBed::new();
    bed.xenstored.set_connected(false);
    let store = bed.store.clone();
    let write = bed
        .executor
        .spawn(async move { store.write("data/a", "1").await });
    bed.executor.run_for(Duration::from_secs(5));
    assert!(!write.is_finished());
    assert_eq!(bed.xenstored.received(), []);
    bed.xenstored.set_connected(true);
    bed.executor.run_until_stalled();
    assert_eq!(write.take(), Some(Ok(())));
}
