# The way from each of the 256 vectors to Rust.
#
# A gate cannot tell its code which vector it was, so each has a stub of 16 bytes that pushes the
# number. Exceptions but page faults never return: their registers need not be saved. All of this runs
# on a stack from the task state segment, with interrupts off, so that it is never entered twice.

    .section .text.pvh_boot_vectors, "ax", @progbits
    .code64

    .balign 16
    .global pvh_boot_vector_stubs
pvh_boot_vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    # 8, 10 to 14, 17, 21, 29 and 30 come with an error code; the others get a zero in its place.
    .if (vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    # push vector, as four immediate bytes: the size of all stubs is the same
    .byte 0x68
    .long vector
    .if vector == 14
    jmp page_fault
    .elseif vector < 32
    jmp exception_common
    .else
    jmp interrupt_common
    .endif
    .set vector, vector + 1
    .endr

# On the stack, from the top: vector, error code, and the processor's frame of five words.
exception_common:
    cld
    mov rdi, rsp
    mov rsi, rbp
    mov rdx, cr2
    and rsp, -16
    call {exception}
    ud2

# The one exception that may return: the handler may map the page. All that compiled code may change
# is kept, and as nothing else here touches memory that is not mapped, so is CR2.
page_fault:
    cld
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    mov rbx, rsp
    sub rsp, 512
    and rsp, -16
    fxsave64 [rsp]
    mov rdi, cr2
    # Above the ten registers: vector, error code.
    mov rsi, [rbx + 88]
    call {page_fault}
    fxrstor64 [rsp]
    mov rsp, rbx
    test al, al
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    jz exception_common
    add rsp, 16
    iretq

# Interrupts are on in the window below and nowhere else, so an interrupt that is one came there, and
# there is nothing to return to but the window's end: the handler is called from it, and the frame on
# this stack is forgotten.
#
# An interrupt that comes while interrupts are off is none of the processor's. QEMU's emulation of
# AMD's virtualization now and then delivers one a second time. If that hit the first instructions
# here, the frame of the first delivery is overwritten, but the window still waits: go on as if this
# were the first. If it hit a handler or the program, it is ignored; this stack of its own kept what
# compiled code has below its stack pointer.
interrupt_common:
    cld
    # From the stack pointer up: vector, error code, RIP, CS, RFLAGS, RSP, SS. IF is bit 9 of RFLAGS.
    test byte ptr [rsp + 33], 2
    jnz 1f
    push rax
    mov rax, [rsp + 48]
    # Within 4 KiB of this stack pointer: no other stack is as near.
    sub rax, rsp
    add rax, 4096
    cmp rax, 8192
    pop rax
    jb 1f
    add rsp, 16
    iretq
1:
    mov edi, [rsp]
    mov rsp, [rip + pvh_boot_window_stack]
    call {interrupt}
    jmp window_end

# extern "C" fn(halt: u32): lets one interrupt in, if one waits; with `halt` waits for one.
    .global pvh_boot_interrupt_window
pvh_boot_interrupt_window:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov [rip + pvh_boot_window_stack], rsp
    test edi, edi
    jz 2f
    # Never `hlt` with interrupts off: Xen takes that as the end of the domain. They come on only after
    # the instruction behind `sti`, so that none is missed before the halt.
    sti
    hlt
    cli
    jmp window_end
2:
    sti
    nop
    cli
window_end:
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .pushsection .bss.pvh_boot_window_stack, "aw", @nobits
    .balign 8
pvh_boot_window_stack:
    .skip 8
    .popsection
