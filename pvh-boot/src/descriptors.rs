//! Segment and gate descriptors as numbers.
//!
//! Source: Intel SDM volume 3, "Segment descriptors", "64-bit mode TSS" and "64-bit IDT gates".

/// Selector of the code segment.
pub(crate) const CODE_SELECTOR: u16 = 0x08;
/// Selector of the data and stack segment.
pub(crate) const DATA_SELECTOR: u16 = 0x10;
/// Selector of the task state segment.
pub(crate) const TASK_SELECTOR: u16 = 0x18;

/// Ring 0 code: present, 64-bit, accessed (the processor would write that bit).
const CODE: u64 = 0x00af_9b00_0000_ffff;
/// Ring 0 data: present, writable, accessed.
const DATA: u64 = 0x00cf_9300_0000_ffff;

/// The vectors' stacks, by their place in the task state segment: 1 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StackIndex {
    Interrupt = 1,
    Exception = 2,
    NonMaskableInterrupt = 3,
    DoubleFault = 4,
    MachineCheck = 5,
}

/// The stack a vector is handled on: never the interrupted one, as compiled code keeps data below
/// the stack pointer (the red zone), and as the stack may be what broke.
pub(crate) const fn stack_of(vector: u8) -> StackIndex {
    match vector {
        2 => StackIndex::NonMaskableInterrupt,
        8 => StackIndex::DoubleFault,
        18 => StackIndex::MachineCheck,
        0..32 => StackIndex::Exception,
        32.. => StackIndex::Interrupt,
    }
}

/// The 64-bit task state segment: nothing but the handlers' stacks.
#[repr(C, packed(4))]
pub(crate) struct TaskState {
    reserved_0: u32,
    ring_stacks: [u64; 3],
    reserved_1: u64,
    /// Stack pointers 1 to 7.
    handler_stacks: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    /// Offset of the I/O permission bitmap; past the segment's end: there is none.
    io_map_base: u16,
}

/// Bytes of the task state segment.
const TASK_STATE_SIZE: u64 = 104;
const _: () = assert!(size_of::<TaskState>() as u64 == TASK_STATE_SIZE);

impl TaskState {
    /// `stack_top` gives each stack's highest address.
    pub(crate) fn new(stack_top: impl Fn(StackIndex) -> u64) -> Self {
        let mut handler_stacks = [0; 7];
        for index in [
            StackIndex::Interrupt,
            StackIndex::Exception,
            StackIndex::NonMaskableInterrupt,
            StackIndex::DoubleFault,
            StackIndex::MachineCheck,
        ] {
            handler_stacks[index as usize - 1] = stack_top(index);
        }
        Self {
            reserved_0: 0,
            ring_stacks: [0; 3],
            reserved_1: 0,
            handler_stacks,
            reserved_2: 0,
            reserved_3: 0,
            io_map_base: TASK_STATE_SIZE as u16,
        }
    }
}

/// The global descriptor table for a task state segment at `task_state`.
pub(crate) const fn segments(task_state: u64) -> [u64; 5] {
    const AVAILABLE_TASK: u64 = 0x89 << 40;
    let low = (TASK_STATE_SIZE - 1)
        | (task_state & 0x00ff_ffff) << 16
        | AVAILABLE_TASK
        | (task_state >> 24 & 0xff) << 56;
    [0, CODE, DATA, low, task_state >> 32]
}

/// An interrupt gate (interrupts go off) of ring 0 to the code at `handler`.
pub(crate) const fn gate(handler: u64, stack: StackIndex) -> [u64; 2] {
    const INTERRUPT_GATE: u64 = 0x8e << 40;
    let low = (handler & 0xffff)
        | (CODE_SELECTOR as u64) << 16
        | (stack as u64) << 32
        | INTERRUPT_GATE
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_holds_its_handler_in_three_pieces() {
        let [low, high] = gate(0x1234_5678_9abc_def0, StackIndex::DoubleFault);
        assert_eq!(low, 0x9abc_8e04_0008_def0);
        assert_eq!(high, 0x1234_5678);
    }

    #[test]
    fn the_task_descriptor_holds_its_base_in_four_pieces() {
        let table = segments(0x1234_5678_9abc_def0);
        assert_eq!(table[3], 0x9a00_89bc_def0_0067);
        assert_eq!(table[4], 0x1234_5678);
        assert_eq!(table[usize::from(CODE_SELECTOR) / 8], CODE);
        assert_eq!(table[usize::from(DATA_SELECTOR) / 8], DATA);
        assert_eq!(TASK_SELECTOR / 8, 3);
    }

    #[test]
    fn the_faults_that_can_come_at_any_time_have_stacks_of_their_own() {
        assert_eq!(stack_of(2), StackIndex::NonMaskableInterrupt);
        assert_eq!(stack_of(8), StackIndex::DoubleFault);
        assert_eq!(stack_of(18), StackIndex::MachineCheck);
        assert_eq!(stack_of(14), StackIndex::Exception);
        assert_eq!(stack_of(31), StackIndex::Exception);
        assert_eq!(stack_of(32), StackIndex::Interrupt);
        assert_eq!(stack_of(255), StackIndex::Interrupt);
    }

    #[test]
    fn the_task_state_lists_the_stacks_in_order() {
        let state = TaskState::new(|index| 0x1000 * index as u64);
        assert_eq!(
            { state.handler_stacks },
            [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0, 0]
        );
    }
}
