# The way from each of the 256 vectors to Rust.
#
# A gate cannot tell its code which vector it was, so each has a stub of 16 bytes that pushes the
# number. Exceptions never return: their registers need not be saved. Interrupts return, and the
# code they interrupt may be in the middle of anything: every register that compiled code may change
# is saved, the vector registers too. All of this runs on a stack from the task state segment, with
# interrupts off, so that it is never entered twice.

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
    .if vector < 32
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

interrupt_common:
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
    # RBX survives calls and remembers the stack; nine registers lie above it.
    push rbx
    mov rbx, rsp
    mov edi, [rbx + 80]
    sub rsp, 512
    and rsp, -16
    fxsave64 [rsp]
    call {interrupt}
    fxrstor64 [rsp]
    mov rsp, rbx
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
    # Vector and error code.
    add rsp, 16
    iretq
