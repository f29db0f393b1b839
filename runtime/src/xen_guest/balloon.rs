//! `xl mem-set`: memory goes to the host and comes back. What decides is in
//! `rekernel_heap::balloon`; here is the way between heap, hypervisor and xenstore.

use alloc::string::String;
use core::ops::Range;
use core::time::Duration;

use rekernel_core::executor::yield_now;
use rekernel_heap::PAGE_SIZE;
use rekernel_heap::balloon::{Balloon, Step, runs, wanted};
use xen::Machine;
use xen::node::{Node, Occasion};
use xen_proto::xenstore::StoreError;

use super::Store;
use crate::heap::{self, AbsentRam, MEMORY};
use crate::network;

const TARGET: &str = "memory/target";
const MAXIMUM: &str = "memory/static-max";
const VIDEO: &str = "memory/videoram";

/// Tells Xen of RAM that there is no memory for: until then it takes a touch too many for a reason
/// to end the domain.
pub(super) fn release(machine: &Machine, absent: &AbsentRam) {
    for run in absent.ranges().iter().cloned().flat_map(runs) {
        // SAFETY: absent in the heap, so nobody accesses it until it is restored.
        if let Err(errno) = unsafe { machine.give_back(&run) } {
            log::error!("xen does not take {} KiB back: {errno}", run.len() >> 10);
        }
    }
}

/// Follows the toolstack's target from now on.
pub(super) async fn follow(machine: &'static Machine, store: Store) {
    let mut node = Node::new(store, TARGET);
    let mut follower = Follower {
        machine,
        maximum: None,
        told: None,
        balloon: Balloon::default(),
    };
    // What the guest began with, until the target is known.
    follower.balloon.aim(heap::information().absent);
    let mut retry = None;
    loop {
        let looked = node.next(retry, async |store, occasion| {
            if occasion == Occasion::Change {
                follower.read_target(store).await?;
            }
            Ok(Some(()))
        });
        if let Err(error) = looked.await {
            log::error!("{TARGET} is not followed any more: {error}");
            return;
        }
        retry = follower.inflate().await;
    }
}

struct Follower {
    machine: &'static Machine,
    /// The maximum at the start, and the emulated graphics card's part of it: the rest is how much RAM
    /// there is. `xl mem-max` changes the node, not the RAM.
    maximum: Option<(String, String)>,
    /// The last target that made no sense: each is told once.
    told: Option<String>,
    balloon: Balloon,
}

impl Follower {
    async fn read_target(&mut self, store: &Store) -> Result<(), StoreError> {
        let target = match store.read(TARGET).await {
            // A host without balloon.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(StoreError::NotText { .. }) => String::from("\u{fffd}"),
            target => target?,
        };
        let (maximum, video) = match &self.maximum {
            Some(maximum) => maximum,
            None => {
                let maximum = store.read(MAXIMUM).await?;
                let video = match store.read(VIDEO).await {
                    Err(error) if error.is_not_found() => String::from("0"),
                    video => video?,
                };
                self.maximum.insert((maximum, video))
            }
        };
        match wanted(maximum, video, &target) {
            Ok(absent) => {
                self.told = None;
                self.balloon.aim(absent);
            }
            Err(_) if self.told.as_ref() == Some(&target) => {}
            Err(error) => {
                log::warn!("{TARGET} is ignored: {error}");
                self.told = Some(target);
            }
        }
        Ok(())
    }

    /// Gives and takes until the aim is reached, or returns when to try again.
    async fn inflate(&mut self) -> Option<Duration> {
        let before = heap::information().absent;
        let retry = loop {
            let heap = MEMORY.lock().information();
            let problem = match self.balloon.step(&heap) {
                Step::Done => break None,
                Step::GiveBack(pages) => give_back(self.machine, pages).err(),
                Step::Take(pages) => take_back(self.machine, pages).err(),
                Step::Short(shortage) => Some(alloc::format!("{shortage}")),
            };
            if let Some(problem) = problem {
                let (pause, is_first) = self.balloon.missed();
                if is_first {
                    log::warn!("{TARGET} is not reached: {problem}; trying again");
                }
                break Some(pause);
            }
            self.balloon.progressed();
            yield_now().await;
        };
        let now = heap::information();
        if now.absent != before {
            network::limit_buffers();
            log::info!(
                "the host has {} KiB of this guest's memory; heap: {now}",
                now.absent >> 10
            );
        }
        retry
    }
}

/// Gives this many pages to the host, or tells why not.
fn give_back(machine: &Machine, pages: usize) -> Result<(), String> {
    let mut left = pages;
    while left > 0 {
        let Some(run) = MEMORY.lock().withdraw(left) else {
            break;
        };
        left -= run.len() / PAGE_SIZE;
        let before = machine.reservation();
        // SAFETY: withdrawn from the heap, whose pages are granted to nobody.
        let taken = unsafe { machine.give_back(&run) };
        if taken == Ok(run.len() / PAGE_SIZE) {
            continue;
        }
        // Of a run that it refused Xen may have taken some pages: its own count tells.
        let none = matches!(taken, Err(_) | Ok(0));
        if none && before.is_ok() && machine.reservation() == before {
            restore(run.clone(), run.len() / PAGE_SIZE);
            return Err(match taken {
                Err(errno) => alloc::format!("xen takes no memory back ({errno})"),
                Ok(_) => String::from("xen takes no memory back"),
            });
        }
        log::error!(
            "xen took some of {} pages; the others are lost until the target rises",
            run.len() / PAGE_SIZE
        );
    }
    match left < pages {
        true => Ok(()),
        false => Err(String::from("no page is free")),
    }
}

/// Takes this many pages from the host, or tells why not.
fn take_back(machine: &Machine, pages: usize) -> Result<(), String> {
    let mut left = pages;
    while left > 0 {
        let Some(run) = MEMORY.lock().absent_run(left) else {
            break;
        };
        // SAFETY: absent, so it was given back, and not taken back since.
        let taken = match unsafe { machine.take_back(&run) } {
            Ok(taken) => taken,
            Err(errno) => return Err(alloc::format!("xen gives no memory ({errno})")),
        };
        restore(run.clone(), taken);
        if taken < run.len() / PAGE_SIZE {
            return Err(String::from("xen gives no more memory"));
        }
        left -= taken;
    }
    Ok(())
}

/// Gives the first `pages` pages of `run` to the heap.
fn restore(run: Range<usize>, pages: usize) {
    let mut memory = MEMORY.lock();
    for part in runs(run.start..run.start + pages * PAGE_SIZE) {
        // SAFETY: part of an absent run, aligned to its length, that Xen has pages at; RAM is
        // mapped writable at its physical address.
        unsafe { memory.restore(part) };
    }
}
