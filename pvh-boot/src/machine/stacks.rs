//! The stacks, each above a page that stays unmapped.

use core::cell::UnsafeCell;
use core::ops::Range;

use crate::address_space::StackName;
use crate::descriptors::StackIndex;
use crate::region::{MemoryRegion, PAGE};

/// Bytes of the stack the program runs on. Everything an async program does happens on this one
/// stack, one task at a time: deep call chains of parsers and cryptography need tens of KiB, twice
/// that in debug builds. 256 KiB leaves room above them and is 3 % of an 8 MiB guest.
pub(super) const BOOT_STACK_SIZE: usize = 256 * 1024;

/// Bytes of each handler's stack. Interrupt handlers note and return; exception handlers format and
/// print a report, which takes a few KiB in debug builds.
const HANDLER_STACK_SIZE: usize = 16 * 1024;

/// A stack and the page below it. Stacks grow down: the first byte too many is in the guard.
#[repr(C, align(4096))]
pub(super) struct GuardedStack<const SIZE: usize> {
    guard: [u8; PAGE as usize],
    stack: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: never accessed through Rust references, only through the stack pointer.
unsafe impl<const SIZE: usize> Sync for GuardedStack<SIZE> {}

impl<const SIZE: usize> GuardedStack<SIZE> {
    const fn new() -> Self {
        Self {
            guard: [0; PAGE as usize],
            stack: UnsafeCell::new([0; SIZE]),
        }
    }

    fn guard(&self) -> MemoryRegion {
        let start = (&raw const self.guard).addr() as u64;
        MemoryRegion::new(start, start + PAGE)
    }

    fn bounds(&self) -> Range<usize> {
        let start = self.stack.get().addr();
        start..start + SIZE
    }
}

pub(super) static BOOT: GuardedStack<BOOT_STACK_SIZE> = GuardedStack::new();
static INTERRUPT: GuardedStack<HANDLER_STACK_SIZE> = GuardedStack::new();
static EXCEPTION: GuardedStack<HANDLER_STACK_SIZE> = GuardedStack::new();
static NON_MASKABLE_INTERRUPT: GuardedStack<HANDLER_STACK_SIZE> = GuardedStack::new();
static DOUBLE_FAULT: GuardedStack<HANDLER_STACK_SIZE> = GuardedStack::new();
static MACHINE_CHECK: GuardedStack<HANDLER_STACK_SIZE> = GuardedStack::new();

/// The addresses of the stack the program runs on, from its lowest byte up.
#[must_use]
pub fn stack_bounds() -> Range<usize> {
    BOOT.bounds()
}

/// Highest address of a handler's stack.
pub(super) fn handler_stack_top(index: StackIndex) -> u64 {
    let stack = match index {
        StackIndex::Interrupt => &INTERRUPT,
        StackIndex::Exception => &EXCEPTION,
        StackIndex::NonMaskableInterrupt => &NON_MASKABLE_INTERRUPT,
        StackIndex::DoubleFault => &DOUBLE_FAULT,
        StackIndex::MachineCheck => &MACHINE_CHECK,
    };
    stack.bounds().end as u64
}

/// The pages that stay unmapped.
pub(super) fn guards() -> [(StackName, MemoryRegion); 6] {
    [
        (StackName::Boot, BOOT.guard()),
        (StackName::Interrupt, INTERRUPT.guard()),
        (StackName::Exception, EXCEPTION.guard()),
        (
            StackName::NonMaskableInterrupt,
            NON_MASKABLE_INTERRUPT.guard(),
        ),
        (StackName::DoubleFault, DOUBLE_FAULT.guard()),
        (StackName::MachineCheck, MACHINE_CHECK.guard()),
    ]
}
