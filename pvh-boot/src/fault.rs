//! What an exception means: names and explanations.

use core::fmt;

use crate::address_space::{Layout, StackName};
use crate::region::{MemoryRegion, PAGE};

/// An exception, explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Number of the exception: 0 to 31.
    pub vector: u8,
    /// What the processor's manual calls it.
    pub name: &'static str,
    /// The processor's error code; 0 for exceptions without one.
    pub error_code: u64,
    /// Address of the instruction, or of the one after it for breakpoints and the like.
    pub instruction_pointer: u64,
    /// RSP at that moment.
    pub stack_pointer: u64,
    /// RBP at that moment: the start of a backtrace.
    pub frame_pointer: u64,
    /// The address whose access failed; only page faults have one.
    pub fault_address: Option<u64>,
    /// What probably happened, such as "stack overflow: guard page of the boot stack".
    pub explanation: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} at {:#x}: {}",
            self.name, self.instruction_pointer, self.explanation
        )?;
        if let Some(address) = self.fault_address {
            write!(formatter, " (address {address:#x})")?;
        }
        write!(
            formatter,
            " [vector {}, error code {:#x}, stack {:#x}]",
            self.vector, self.error_code, self.stack_pointer
        )
    }
}

/// The state the processor pushed, and two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) vector: u8,
    pub(crate) error_code: u64,
    pub(crate) instruction_pointer: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) frame_pointer: u64,
    /// CR2: of a page fault, the address.
    pub(crate) fault_address: u64,
    /// Of a page fault: the page would have been mapped, had there been memory.
    pub(crate) out_of_memory: bool,
}

const DOUBLE_FAULT: u8 = 8;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// Makes the report of what `registers` show in a program laid out as `layout`.
pub(crate) fn report(registers: &Registers, layout: &Layout) -> Report {
    Report {
        vector: registers.vector,
        name: name(registers.vector),
        error_code: registers.error_code,
        instruction_pointer: registers.instruction_pointer,
        stack_pointer: registers.stack_pointer,
        frame_pointer: registers.frame_pointer,
        fault_address: (registers.vector == PAGE_FAULT).then_some(registers.fault_address),
        explanation: explanation(registers, layout),
    }
}

/// Source: Intel SDM volume 3, "Protected-mode exceptions and interrupts"; AMD APM volume 2 for
/// 28 to 30.
fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        DOUBLE_FAULT => "double fault",
        9 => "coprocessor segment overrun",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack-segment fault",
        GENERAL_PROTECTION => "general protection fault",
        PAGE_FAULT => "page fault",
        16 => "x87 floating-point exception",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        20 => "virtualization exception",
        21 => "control protection exception",
        28 => "hypervisor injection exception",
        29 => "VMM communication exception",
        30 => "security exception",
        _ => "reserved exception",
    }
}

fn explanation(registers: &Registers, layout: &Layout) -> &'static str {
    match registers.vector {
        0 => "division by zero, or a quotient too large",
        1 | 3 => "a breakpoint, and no debugger",
        2 => "the machine reports a failure",
        6 => "not an instruction of this processor, or a deliberate trap",
        DOUBLE_FAULT => match guard_near(registers.stack_pointer, layout) {
            Some(stack) => overflow(stack),
            None => "a fault could not be delivered",
        },
        GENERAL_PROTECTION => "a non-canonical address, or a privileged operation that is refused",
        PAGE_FAULT => page_fault(registers, layout),
        18 => "the processor found a hardware error",
        _ => "unexpected",
    }
}

/// Bits of a page fault's error code.
const WAS_PRESENT: u64 = 1 << 0;
const WAS_WRITE: u64 = 1 << 1;
const RESERVED_BIT: u64 = 1 << 3;
const WAS_FETCH: u64 = 1 << 4;

/// Whether a page fault's error code says that a read or a write found no page.
pub(crate) fn is_absent_page(code: u64) -> bool {
    code & !WAS_WRITE == 0
}

fn page_fault(registers: &Registers, layout: &Layout) -> &'static str {
    if registers.out_of_memory {
        return "no memory is left to back a buffer's page";
    }
    let address = registers.fault_address;
    let code = registers.error_code;
    if let Some(stack) = guard_at(address, layout) {
        return overflow(stack);
    }
    // QEMU 10.0 emulating AMD's virtualization hides the address from guests of guests: it reads
    // as 0. A stack pointer at a guard tells the same story.
    if address == 0
        && let Some(stack) = guard_near(registers.stack_pointer, layout)
    {
        return overflow(stack);
    }
    if code & RESERVED_BIT != 0 {
        return "damaged page table";
    }
    if address < PAGE {
        return match code & WAS_FETCH {
            0 => "null pointer",
            _ => "call of a null pointer",
        };
    }
    if code & WAS_PRESENT == 0 {
        return "nothing is mapped at the address";
    }
    if code & WAS_FETCH != 0 {
        return "execution of memory that is not code";
    }
    if code & WAS_WRITE != 0 && layout.text.contains(address) {
        return "write to the program's code";
    }
    if code & WAS_WRITE != 0 {
        return "write to read-only memory";
    }
    "access refused"
}

fn overflow(stack: StackName) -> &'static str {
    match stack {
        StackName::Boot => "stack overflow: guard page of the boot stack",
        StackName::Interrupt => "stack overflow: guard page of the interrupt stack",
        StackName::Exception => "stack overflow: guard page of the exception stack",
        StackName::NonMaskableInterrupt => {
            "stack overflow: guard page of the non-maskable interrupt stack"
        }
        StackName::DoubleFault => "stack overflow: guard page of the double fault stack",
        StackName::MachineCheck => "stack overflow: guard page of the machine check stack",
    }
}

fn guard_at(address: u64, layout: &Layout) -> Option<StackName> {
    find_guard(layout, |guard| guard.contains(address))
}

/// The guard that a push at `stack_pointer` would hit: the pointer may be at the guard's very end.
fn guard_near(stack_pointer: u64, layout: &Layout) -> Option<StackName> {
    find_guard(layout, |guard| {
        guard.start <= stack_pointer && stack_pointer <= guard.end
    })
}

fn find_guard(layout: &Layout, matches: impl Fn(MemoryRegion) -> bool) -> Option<StackName> {
    layout
        .guards
        .iter()
        .find(|(_, guard)| matches(*guard))
        .map(|(stack, _)| *stack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn layout() -> Layout {
        let guard = |index: u64| {
            let start = 0x20_0000 + index * 0x1_0000;
            MemoryRegion::new(start, start + PAGE)
        };
        Layout {
            text: MemoryRegion::new(0x10_1000, 0x11_0000),
            rodata: MemoryRegion::new(0x10_0000, 0x10_1000),
            data: MemoryRegion::new(0x20_0000, 0x30_0000),
            guards: [
                (StackName::Boot, guard(0)),
                (StackName::Interrupt, guard(1)),
                (StackName::Exception, guard(2)),
                (StackName::NonMaskableInterrupt, guard(3)),
                (StackName::DoubleFault, guard(4)),
                (StackName::MachineCheck, guard(5)),
            ],
        }
    }

    fn explain(vector: u8, error_code: u64, fault_address: u64, stack_pointer: u64) -> Report {
        let registers = Registers {
            vector,
            error_code,
            instruction_pointer: 0x10_1234,
            stack_pointer,
            frame_pointer: 0,
            fault_address,
            out_of_memory: false,
        };
        report(&registers, &layout())
    }

    #[test]
    fn page_faults_are_told_apart() {
        for (code, address, expected) in [
            (
                0b0_0010,
                0x20_0ff8,
                "stack overflow: guard page of the boot stack",
            ),
            (
                0b0_0010,
                0x21_0000,
                "stack overflow: guard page of the interrupt stack",
            ),
            (0b0_0000, 0x0, "null pointer"),
            (0b0_0010, 0xfff, "null pointer"),
            (0b1_0000, 0x0, "call of a null pointer"),
            (0b0_0000, 0x1000, "nothing is mapped at the address"),
            (0b1_0001, 0x28_0000, "execution of memory that is not code"),
            (0b0_0011, 0x10_1000, "write to the program's code"),
            (0b0_0011, 0x10_0000, "write to read-only memory"),
            (0b0_1001, 0x28_0000, "damaged page table"),
        ] {
            let report = explain(PAGE_FAULT, code, address, 0);
            assert_eq!(report.explanation, expected, "{address:#x} {code:#b}");
            assert_eq!(report.fault_address, Some(address));
        }
    }

    #[test]
    fn only_reads_and_writes_of_absent_pages_may_be_answered() {
        let answered: Vec<_> = (0..64).filter(|code| is_absent_page(*code)).collect();
        assert_eq!(answered, [0, 2]);
    }

    #[test]
    fn a_page_fault_for_want_of_memory_says_so() {
        let registers = Registers {
            vector: PAGE_FAULT,
            error_code: 2,
            instruction_pointer: 0x10_1234,
            stack_pointer: 0,
            frame_pointer: 0,
            fault_address: 0xffff_8000_0000_0000,
            out_of_memory: true,
        };
        assert_eq!(
            report(&registers, &layout()).explanation,
            "no memory is left to back a buffer's page"
        );
    }

    #[test]
    fn a_hidden_fault_address_does_not_hide_a_stack_overflow() {
        for (stack_pointer, expected) in [
            (0x20_1000, "stack overflow: guard page of the boot stack"),
            (0x20_0e50, "stack overflow: guard page of the boot stack"),
            (0x20_1008, "null pointer"),
        ] {
            let report = explain(PAGE_FAULT, 2, 0, stack_pointer);
            assert_eq!(report.explanation, expected, "{stack_pointer:#x}");
        }
    }

    #[test]
    fn a_double_fault_at_a_guard_is_a_stack_overflow() {
        let report = explain(DOUBLE_FAULT, 0, 0, 0x20_1000);
        assert_eq!(
            report.explanation,
            "stack overflow: guard page of the boot stack"
        );
        assert_eq!(report.fault_address, None);
        assert_eq!(
            explain(DOUBLE_FAULT, 0, 0, 0x20_1008).explanation,
            "a fault could not be delivered"
        );
    }

    #[test]
    fn every_vector_has_a_name() {
        for vector in 0..32 {
            assert!(!name(vector).is_empty());
            assert!(!explain(vector, 0, 0, 0).explanation.is_empty());
        }
        assert_eq!(name(15), "reserved exception");
    }

    #[test]
    fn a_report_is_one_line() {
        assert_eq!(
            explain(PAGE_FAULT, 2, 0x20_0ff8, 0x20_1000).to_string(),
            "page fault at 0x101234: stack overflow: guard page of the boot stack (address 0x200ff8) \
             [vector 14, error code 0x2, stack 0x201000]"
        );
        assert_eq!(
            explain(6, 0, 0, 0x1000).to_string(),
            "invalid opcode at 0x101234: not an instruction of this processor, or a deliberate trap \
             [vector 6, error code 0x0, stack 0x1000]"
        );
    }
}
