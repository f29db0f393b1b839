//! The descriptor tables and the way from a vector to a Rust function.

use core::arch::global_asm;
use core::mem;

use x86_64::VirtAddr;
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;

use super::boot_cell::BootCell;
use super::{exceptions, interrupts, stacks};
use crate::descriptors::{TASK_SELECTOR, TaskState, gate, segments, stack_of};

global_asm!(
    include_str!("vectors.s"),
    exception = sym exceptions::dispatch,
    page_fault = sym exceptions::page_fault,
    interrupt = sym interrupts::dispatch,
);

unsafe extern "C" {
    /// 256 pieces of code of [`STUB_SIZE`] bytes, in `vectors.s`.
    static pvh_boot_vector_stubs: u8;
}

const STUB_SIZE: u64 = 16;

static TASK: BootCell<TaskState> = BootCell::new();
static SEGMENTS: BootCell<[u64; 5]> = BootCell::new();
static GATES: BootCell<[[u64; 2]; 256]> = BootCell::new();

/// Loads the segments, the handlers' stacks and the gates of all vectors.
pub(super) fn load() {
    let task = TASK.set(TaskState::new(stacks::handler_stack_top));
    let segments = SEGMENTS.set(segments((&raw const *task).addr() as u64));
    let stubs = (&raw const pvh_boot_vector_stubs).addr() as u64;
    let mut gates = [[0; 2]; 256];
    for (entry, vector) in gates.iter_mut().zip(0..=255u8) {
        *entry = gate(stubs + u64::from(vector) * STUB_SIZE, stack_of(vector));
    }
    let gates = GATES.set(gates);

    // SAFETY: the table is static, and its code and data segments are those now in use.
    unsafe { lgdt(&table_pointer(segments)) };
    // SAFETY: the selector is that of an available task state segment, which is static, in a
    // static table in writable memory: the processor marks it busy.
    unsafe { load_tss(SegmentSelector(TASK_SELECTOR)) };
    // SAFETY: the table is static and each gate leads to a stub that keeps to the processor's
    // frame and runs on a stack of its own.
    unsafe { lidt(&table_pointer(gates)) };
}

fn table_pointer<T>(table: &'static T) -> DescriptorTablePointer {
    DescriptorTablePointer {
        limit: (mem::size_of::<T>() - 1) as u16,
        base: VirtAddr::from_ptr(table),
    }
}
