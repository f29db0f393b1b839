//! Memory that goes to the hypervisor and comes back. How much, others decide.

use core::ops::Range;

use xen_proto::hypervisor::PAGE_SIZE;

use crate::cpuid::{Detected, Processor};
use crate::hypercall::{self, Errno, Hypercalls, Instruction};
use crate::machine::Machine;

/// Pages that this domain has, before [`Machine::start`]: fewer than its RAM where it was created
/// with less memory than its maximum, and then only so many may be touched.
///
/// `None` where the processor's vendor is masked, so that the instruction for hypercalls is not
/// known yet, or Xen does not say.
///
/// # Safety
/// This is ring 0, and `detected` came from [`detect`](crate::detect).
pub unsafe fn reservation(detected: &Detected) -> Option<u64> {
    hypercall::use_instruction(match detected.processor {
        Processor::Intel => Instruction::Vmcall,
        Processor::Amd => Instruction::Vmmcall,
        Processor::Unknown => return None,
    });
    // SAFETY: Xen by `detected`, ring 0 by the caller's duty, and the instruction was just set.
    let calls = unsafe { Hypercalls::new() };
    calls.current_reservation().ok()
}

impl Machine {
    /// Pages that this domain has.
    ///
    /// # Errors
    /// What Xen says.
    pub fn reservation(&self) -> Result<u64, Errno> {
        self.calls().current_reservation()
    }

    /// Gives the pages of `run`, whose length is a power of two and its start a multiple of it, to
    /// Xen. Returns how many it took; those it did not take are lost until
    /// they are [taken back](Self::take_back).
    ///
    /// # Safety
    /// The pages are RAM of the heap that nobody accesses until they are taken back, and nothing of
    /// Xen's, a device's or a peer's is in them.
    ///
    /// # Errors
    /// What Xen says, if it took none.
    pub unsafe fn give_back(&self, run: &Range<usize>) -> Result<usize, Errno> {
        let each = |frame, order| {
            // SAFETY: the caller's duty.
            unsafe { self.calls().decrease_reservation(frame, order) }
        };
        whole_or_each(run, false, each)
    }

    /// Has Xen put pages at `run`, which was given back. Returns for how many, from its start on,
    /// it did: fewer than all when it has no more, or the toolstack allows no more.
    ///
    /// # Safety
    /// All of `run` was given back, and not taken back since: whatever was there is lost.
    ///
    /// # Errors
    /// What Xen says, if there is none.
    pub unsafe fn take_back(&self, run: &Range<usize>) -> Result<usize, Errno> {
        let each = |frame, order| {
            // SAFETY: the caller's duty.
            unsafe { self.calls().populate(frame, order) }
        };
        whole_or_each(run, true, each)
    }
}

/// Does it to the run as a whole, else page by page: Xen may allow domains single pages only, or
/// have no large ones. Returns how many pages it was done to; `ends` at the first failure.
fn whole_or_each(
    run: &Range<usize>,
    ends: bool,
    operation: impl Fn(u64, u32) -> Result<bool, Errno>,
) -> Result<usize, Errno> {
    let (first, pages) = ((run.start / PAGE_SIZE) as u64, run.len() / PAGE_SIZE);
    if matches!(operation(first, pages.ilog2()), Ok(true)) {
        return Ok(pages);
    }
    let mut done = 0;
    let mut refusal = None;
    for page in first..first + pages as u64 {
        match operation(page, 0) {
            Ok(true) => done += 1,
            Ok(false) if ends => break,
            Err(errno) if ends => {
                refusal = Some(errno);
                break;
            }
            Ok(false) => {}
            Err(errno) => refusal = Some(errno),
        }
    }
    match refusal {
        Some(errno) if done == 0 => Err(errno),
        _ => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::vec::Vec;

    use super::*;

    const RUN: Range<usize> = 0x20_0000..0x20_4000;

    /// Runs over 4 pages; those in `refused` fail, and so does the whole if there are any.
    fn run(ends: bool, refused: &[u64]) -> (Result<usize, Errno>, Vec<(u64, u32)>) {
        let calls = RefCell::new(Vec::new());
        let result = whole_or_each(&RUN, ends, |frame, order| {
            calls.borrow_mut().push((frame, order));
            match refused.is_empty() || order == 0 && !refused.contains(&frame) {
                true => Ok(true),
                false if refused.len() == 4 => Err(Errno(12)),
                false => Ok(false),
            }
        });
        (result, calls.into_inner())
    }

    #[test]
    fn a_run_is_one_call_if_xen_does_it() {
        assert_eq!(run(true, &[]), (Ok(4), std::vec![(0x200, 2)]));
    }

    #[test]
    fn else_a_call_for_each_page() {
        let (result, calls) = run(true, &[0x202]);
        assert_eq!(result, Ok(2));
        assert_eq!(calls, [(0x200, 2), (0x200, 0), (0x201, 0), (0x202, 0)]);
        let (result, calls) = run(false, &[0x202]);
        assert_eq!((result, calls.len()), (Ok(3), 5));
    }

    #[test]
    fn a_refusal_is_told_where_nothing_was_done() {
        let all = [0x200, 0x201, 0x202, 0x203];
        assert_eq!(run(true, &all).0, Err(Errno(12)));
        assert_eq!(run(false, &all).0, Err(Errno(12)));
        assert_eq!(run(true, &[0x200]).0, Ok(0));
    }
}
