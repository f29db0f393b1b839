use std::vec::Vec;

use xen_proto::hypervisor::PAGE_SIZE;

use super::*;
use crate::memory::test_page;

const PEER: DomainId = DomainId(3);

/// A table that may grow to `frames` pages, and a pool of `pages`.
struct Machine {
    table: GrantTable,
    pool: PagePool,
    mapped: Vec<(u32, u32)>,
    refuse: bool,
}

impl Machine {
    fn new(frames: u32, pages: usize) -> Self {
        let mut pool = PagePool::default();
        // SAFETY: leaked memory that only the pool knows.
        unsafe { pool.add(test_page::frames(pages)) }.unwrap();
        Self {
            table: GrantTable::new(frames),
            pool,
            mapped: Vec::new(),
            refuse: false,
        }
    }

    fn share(&mut self) -> Result<(GrantReference, OwnedPage), ResourceError> {
        let mut map = |index, page: &OwnedPage| {
            if self.refuse {
                return Err(Errno(12));
            }
            self.mapped.push((index, page.number()));
            Ok(())
        };
        self.table
            .share(&mut self.pool, &mut map, PEER, Access::ReadWrite)
    }

    fn end(&mut self, grant: (GrantReference, OwnedPage)) {
        self.table.end(&mut self.pool, grant.0, grant.1);
    }

    /// The peer maps (or lets go of) a page, as Xen notes it in the entry.
    fn peer_maps(&self, reference: GrantReference, mapped: bool) {
        let (table, offset) = self.table.entry(reference.0);
        if mapped {
            table
                .half(offset)
                .fetch_or(GTF_READING | GTF_WRITING, Ordering::AcqRel);
        } else {
            table
                .half(offset)
                .fetch_and(!(GTF_READING | GTF_WRITING), Ordering::AcqRel);
        }
    }

    /// Flags, domain and frame of an entry.
    fn entry(&self, reference: GrantReference) -> (u16, u16, u32) {
        let (table, offset) = self.table.entry(reference.0);
        (
            table.half(offset).load(Ordering::Relaxed),
            table.half(offset + 2).load(Ordering::Relaxed),
            table.word32(offset + 4).load(Ordering::Relaxed),
        )
    }
}

#[test]
fn an_entry_says_who_and_what() {
    let mut machine = Machine::new(1, 4);
    let (reference, page) = machine.share().unwrap();
    assert_eq!(machine.entry(reference), (1, 3, page.number()));
    machine.end((reference, page));
    assert_eq!(machine.entry(reference).0, 0);

    let (reference, page) = machine
        .table
        .share(
            &mut machine.pool,
            &mut |_, _| Ok(()),
            PEER,
            Access::ReadOnly,
        )
        .unwrap();
    assert_eq!(machine.entry(reference), (1 | 4, 3, page.number()));
}

#[test]
fn reserved_entries_are_never_granted() {
    let mut machine = Machine::new(1, 600);
    let mut seen = Vec::new();
    while let Ok((reference, _page)) = machine.share() {
        seen.push(reference.0);
    }
    seen.sort_unstable();
    assert_eq!(seen, (8..512).collect::<Vec<_>>());
    assert_eq!(machine.share().unwrap_err(), ResourceError::OutOfGrants);
}

#[test]
fn the_table_grows_as_far_as_xen_allows() {
    let mut machine = Machine::new(3, 4 * PAGE_SIZE);
    let grants: Vec<_> = core::iter::from_fn(|| machine.share().ok()).collect();
    assert_eq!(grants.len(), 3 * 512 - 8);
    let indices: Vec<_> = machine.mapped.iter().map(|&(index, _)| index).collect();
    assert_eq!(indices, [0, 1, 2]);
    // The pages that the table sits on are not granted.
    for (_, frame) in &machine.mapped {
        assert!(grants.iter().all(|(_, page)| page.number() != *frame));
    }
    for grant in grants {
        machine.end(grant);
    }
    assert_eq!(machine.table.free(), 3 * 512 - 8);
}

#[test]
fn a_refused_growth_is_an_error_and_is_not_tried_for_ever() {
    let mut machine = Machine::new(2, 8);
    machine.refuse = true;
    assert!(matches!(
        machine.share(),
        Err(ResourceError::Refused { errno: 12, .. })
    ));
    assert_eq!(machine.pool.free(), 7);
    assert_eq!(machine.share().unwrap_err(), ResourceError::OutOfGrants);
    assert_eq!(machine.pool.free(), 7);
}

#[test]
fn without_pages_no_reference_is_lost() {
    let mut machine = Machine::new(1, 2);
    let grant = machine.share().unwrap();
    let free = machine.table.free();
    assert_eq!(machine.share().unwrap_err(), ResourceError::OutOfPages);
    assert_eq!(machine.table.free(), free);
    machine.end(grant);
    assert!(machine.share().is_ok());
}

#[test]
fn a_mapped_page_is_kept_until_the_peer_lets_go() {
    let mut machine = Machine::new(1, 3);
    let (reference, page) = machine.share().unwrap();
    let number = page.number();
    page.memory().copy_in(0, b"secret of the driver");
    machine.peer_maps(reference, true);
    machine.end((reference, page));
    assert_eq!(machine.table.quarantined(), 1);

    // Neither the page nor the reference is used again.
    let (other, other_page) = machine.share().unwrap();
    assert_ne!((other, other_page.number()), (reference, number));
    assert_eq!(machine.share().unwrap_err(), ResourceError::OutOfPages);

    machine.peer_maps(reference, false);
    let (_, page) = machine.share().unwrap();
    assert_eq!(page.number(), number);
    assert_eq!(machine.table.quarantined(), 0);
    let mut bytes = [1; 20];
    page.memory().copy_out(0, &mut bytes);
    assert_eq!(bytes, [0; 20]);
}

#[test]
fn the_quarantine_drains_whatever_order_the_peer_lets_go_in() {
    let mut machine = Machine::new(1, 101);
    let grants: Vec<_> = core::iter::from_fn(|| machine.share().ok()).collect();
    let references: Vec<_> = grants.iter().map(|grant| grant.0).collect();
    assert_eq!(references.len(), 100);
    for grant in grants {
        machine.peer_maps(grant.0, true);
        machine.end(grant);
    }
    assert_eq!(machine.table.quarantined(), 100);
    for reference in references.iter().rev().step_by(2) {
        machine.peer_maps(*reference, false);
    }
    machine
        .table
        .retry_quarantine(&mut machine.pool, usize::MAX);
    assert_eq!((machine.table.quarantined(), machine.pool.free()), (50, 50));
    for reference in &references {
        machine.peer_maps(*reference, false);
    }
    machine
        .table
        .retry_quarantine(&mut machine.pool, usize::MAX);
    assert_eq!((machine.table.quarantined(), machine.pool.free()), (0, 100));
    assert_eq!(machine.table.free(), 504);
}

#[test]
fn in_need_the_whole_quarantine_is_searched() {
    let mut machine = Machine::new(1, 101);
    let grants: Vec<_> = core::iter::from_fn(|| machine.share().ok()).collect();
    let last = grants[99].0;
    for grant in grants {
        machine.peer_maps(grant.0, true);
        machine.end(grant);
    }
    assert_eq!(machine.share().unwrap_err(), ResourceError::OutOfPages);
    machine.peer_maps(last, false);
    assert_eq!(machine.share().unwrap().0, last);
}

/// Puts an empty table in the place of each page, as Xen does for a new domain.
fn restore(machine: &mut Machine) -> Result<Vec<(u32, u64)>, Errno> {
    let mut mapped = Vec::new();
    let Machine { table, pool, .. } = machine;
    table.resume(pool, &mut |index, frame| {
        frame.clear();
        mapped.push((index, frame.number()));
        Ok(())
    })?;
    Ok(mapped)
}

#[test]
fn after_a_restore_nothing_is_granted_and_nothing_lost() {
    let mut machine = Machine::new(4, 700);
    let mut grants: Vec<_> = (0..600).map(|_| machine.share().unwrap()).collect();
    let kept = grants.split_off(590);
    for grant in grants.drain(..10) {
        machine.peer_maps(grant.0, true);
        machine.end(grant);
    }
    assert_eq!(machine.table.quarantined(), 10);
    let free = (machine.pool.free(), machine.table.free());
    let before: Vec<_> = machine
        .mapped
        .iter()
        .map(|&(index, frame)| (index, u64::from(frame)))
        .collect();

    let mut mapped = restore(&mut machine).unwrap();
    // The same pages in the same places, the last first.
    assert_eq!(mapped.len(), 2);
    mapped.reverse();
    assert_eq!(mapped, before);
    // The peers are gone, and with them the quarantine.
    assert_eq!(machine.table.quarantined(), 0);
    assert_eq!(
        (machine.pool.free(), machine.table.free()),
        (free.0 + 10, free.1 + 10)
    );

    // A reference that is still owned is not given to anyone else.
    let owned: Vec<_> = grants.iter().chain(&kept).map(|grant| grant.0).collect();
    for _ in 0..100 {
        let new = machine.share().unwrap();
        assert!(!owned.contains(&new.0));
        machine.peer_maps(new.0, true);
        machine.peer_maps(new.0, false);
        machine.end(new);
    }
    for grant in grants.into_iter().chain(kept) {
        machine.end(grant);
    }
    assert_eq!(machine.table.quarantined(), 0);
    assert_eq!(machine.pool.free(), 698);
}

#[test]
fn a_table_that_xen_refuses_after_a_restore_is_an_error() {
    let mut machine = Machine::new(1, 8);
    machine.share().unwrap();
    let Machine { table, pool, .. } = &mut machine;
    let refused = table.resume(pool, &mut |_, _| Err(Errno(12)));
    assert_eq!(refused, Err(Errno(12)));
}
