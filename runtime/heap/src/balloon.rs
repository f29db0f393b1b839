//! The balloon: how much memory the host wants back, and what to do about it next.
//!
//! Who carries it out takes pages out of the heap and gives them to the hypervisor, or the other
//! way round, and asks here before each batch.
//!
//! Source of the nodes: `docs/misc/xenstore-paths.pandoc` in Xen's tree.

use core::fmt;
use core::ops::Range;
use core::time::Duration;

use crate::{Information, LARGE_SIZE, PAGE_SIZE};

/// Pages moved at a time: between two batches everything else in the guest has its turn.
const BATCH: usize = 512;

/// Give-backs smaller than this wait, unless they are the last, so that memory which the program
/// frees and takes again is not fought over page by page.
const LEAST: usize = 64 * PAGE_SIZE;

/// The part of the heap that stays free whatever the host wants: an eighth, a mebibyte at least.
const RESERVE_PART: usize = 8;
const LEAST_RESERVE: usize = 1 << 20;

/// Memory that the toolstack places outside of RAM for itself and that counts as the guest's: special
/// pages and ACPI tables, under 20 pages with xl, and an allowance.
const OUTSIDE_RAM: u64 = 256 * 1024;

/// The first pause before what could not be done is tried again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(32);

/// Bytes of RAM that must not be touched from the start on, as there is no memory for them.
///
/// A guest that is created with less memory than its maximum finds RAM of the latter size, of
/// which the first touches are backed until its memory is used up; one more and Xen ends the
/// domain. `ram` is what the boot data calls RAM, in bytes, `reservation` what the domain has, in
/// pages.
#[must_use]
pub fn absent_at_start(ram: u64, reservation: u64) -> u64 {
    let reservation = reservation.saturating_mul(PAGE_SIZE as u64);
    match ram.checked_sub(reservation) {
        None | Some(0) => 0,
        Some(short) => short.saturating_add(OUTSIDE_RAM).min(ram),
    }
}

/// What part of the heap is kept free, in bytes, of `total` bytes.
#[must_use]
pub fn reserve(total: usize) -> usize {
    (total / RESERVE_PART).max(LEAST_RESERVE)
}

/// A target that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError<'a> {
    /// Not a number of KiB.
    NotANumber {
        /// The node's value.
        value: &'a str,
    },
    /// 0: there is no guest without memory.
    Zero,
    /// More than the guest was created for.
    AboveMaximum {
        /// The target.
        target_kib: usize,
        /// The maximum.
        maximum_kib: usize,
    },
}

impl fmt::Display for TargetError<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber { value } => {
                write!(formatter, "{:?} is not a number of KiB", Shortened(value))
            }
            Self::Zero => write!(formatter, "0 KiB are too few for any guest"),
            Self::AboveMaximum {
                target_kib,
                maximum_kib,
            } => write!(
                formatter,
                "{target_kib} KiB are more than the maximum of {maximum_kib} KiB"
            ),
        }
    }
}

impl core::error::Error for TargetError<'_> {}

/// The beginning of a text from outside, for messages.
struct Shortened<'a>(&'a str);

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self
            .0
            .char_indices()
            .nth(32)
            .map_or(self.0.len(), |(at, _)| at);
        fmt::Debug::fmt(&self.0[..end], formatter)
    }
}

/// Bytes that shall be absent: `maximum`, `video` and `target` are the values of `memory/static-max`,
/// `memory/videoram` and `memory/target`, in KiB. An emulated graphics card's memory is part of the
/// maximum, and neither RAM nor part of the target.
///
/// # Errors
/// [`TargetError`].
pub fn wanted<'a>(
    maximum: &'a str,
    video: &'a str,
    target: &'a str,
) -> Result<usize, TargetError<'a>> {
    let maximum_kib = parse(maximum)?.saturating_sub(parse(video)?);
    let target_kib = parse(target)?;
    if target_kib == 0 {
        return Err(TargetError::Zero);
    }
    match maximum_kib.checked_sub(target_kib) {
        Some(difference) => Ok(difference.saturating_mul(1024) & !(PAGE_SIZE - 1)),
        None => Err(TargetError::AboveMaximum {
            target_kib,
            maximum_kib,
        }),
    }
}

fn parse(value: &str) -> Result<usize, TargetError<'_>> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    number.ok_or(TargetError::NotANumber { value })
}

/// The range, whose ends are whole pages, in runs as [`Memory::withdraw`](crate::Memory::withdraw)
/// gives them: each a power of two long, at most 2 MiB, and its start a multiple of its length.
pub fn runs(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    core::iter::from_fn(move || {
        let left = range.end.checked_sub(start).filter(|left| *left > 0)?;
        let aligned = 1 << start.trailing_zeros().min(usize::BITS - 1);
        let length = LARGE_SIZE.min(aligned).min(1 << left.ilog2());
        let run = start..start + length;
        start = run.end;
        Some(run)
    })
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is wanted is so.
    Done,
    /// Give this many pages to the hypervisor.
    GiveBack(usize),
    /// Take this many pages from the hypervisor.
    Take(usize),
    /// More cannot be given back now: the program has it, or it is the reserve.
    Short(Shortage),
}

/// Why the heap gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes still to be given back.
    pub wanted: usize,
    /// Free bytes of the heap.
    pub free: usize,
    /// Bytes that stay free.
    pub reserve: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} KiB more are wanted, but of the heap only {} KiB are free, of which {} KiB stay so",
            self.wanted >> 10,
            self.free >> 10,
            self.reserve >> 10
        )
    }
}

/// The aim, and how often it was missed.
#[derive(Debug, Default)]
pub struct Balloon {
    absent: usize,
    misses: u32,
}

impl Balloon {
    /// This many bytes shall be absent from now on. Returns whether that is new.
    pub fn aim(&mut self, absent: usize) -> bool {
        let is_new = self.absent != absent;
        if is_new {
            *self = Self { absent, misses: 0 };
        }
        is_new
    }

    /// What to do next, `heap` being as it says.
    #[must_use]
    pub fn step(&self, heap: &Information) -> Step {
        if let Some(surplus) = heap.absent.checked_sub(self.absent) {
            return match (surplus / PAGE_SIZE).min(BATCH) {
                0 => Step::Done,
                pages => Step::Take(pages),
            };
        }
        let wanted = self.absent - heap.absent;
        let reserve = reserve(heap.total);
        let spare = heap.free.saturating_sub(reserve);
        if spare < wanted.min(LEAST) {
            return Step::Short(Shortage {
                wanted,
                free: heap.free,
                reserve,
            });
        }
        Step::GiveBack((wanted.min(spare) / PAGE_SIZE).clamp(1, BATCH))
    }

    /// A step was carried out.
    pub fn progressed(&mut self) {
        self.misses = 0;
    }

    /// A step could not be carried out: how long to wait until it is tried again, and whether it is
    /// the first time, which is worth a message.
    pub fn missed(&mut self) -> (Duration, bool) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.misses.min(16));
        let is_first = self.misses == 0;
        self.misses = self.misses.saturating_add(1);
        (pause.min(LAST_PAUSE), is_first)
    }
}

#[cfg(test)]
#[path = "balloon_tests.rs"]
mod tests;
