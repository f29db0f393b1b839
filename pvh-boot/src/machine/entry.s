# From the loader's 32-bit world to 64-bit Rust.
#
# At pvh_boot_start the processor is in 32-bit protected mode without paging, with flat segments
# and interrupts off; EBX holds the physical address of the start info and nothing else is defined,
# the stack least of all (Xen: docs/misc/pvh.pandoc). pvh_boot_multiboot2_start is the same for boot
# loaders inside of the machine: EAX holds a magic number, EBX the address of the boot information
# (Multiboot2 specification, 3.5). On the way the first page tables are made:
# the first 4 GiB at their physical addresses, writable and not executable, but for the program's
# code, which is executable, and its constants, which are neither. So nothing is ever writable and
# executable.

    .equ PRESENT,           1 << 0
    .equ WRITABLE,          1 << 1
    .equ ACCESSED,          1 << 5
    .equ DIRTY,             1 << 6
    .equ LARGE,             1 << 7
    .equ NO_EXECUTE_HIGH,   1 << 31          # bit 63 of an entry, in its upper half

    .equ CR0_VALUE,         (1 << 31) | (1 << 16) | (1 << 5) | (1 << 4) | (1 << 1) | (1 << 0)
                            # paging, write protection, numeric errors, extension type,
                            # monitor coprocessor, protection; neither emulation nor task switched
    .equ CR4_VALUE,         (1 << 5) | (1 << 9) | (1 << 10)
                            # physical address extension, FXSAVE and SSE, SSE exceptions
    .equ EFER,              0xc0000080
    .equ EFER_BITS,         (1 << 8) | (1 << 11)    # long mode, no-execute

    .equ EARLY_DIRECTORIES, 4                # of 1 GiB each
    .equ EARLY_PAGE_TABLES, 4                # of 2 MiB each; link.x asserts that the code ends there

    .equ MULTIBOOT2_MAGIC,  0x36d76289       # in EAX at the entry

    .section .text.pvh_boot_entry, "ax", @progbits
    .code32
pvh_boot_multiboot2_start:
    cli
    cld
    mov esi, offset not_multiboot2
    cmp eax, MULTIBOOT2_MAGIC
    jne fail
    mov dword ptr [handover_kind], {multiboot2}
    jmp pvh_boot_start

    .global pvh_boot_start
pvh_boot_start:
    cli
    cld
    mov esp, offset {boot_stack} + {boot_stack_end}
    mov ebp, ebx                             # CPUID changes EBX

    # Long mode and no-execute are what everything else rests on.
    mov eax, 0x80000000
    cpuid
    mov esi, offset no_long_mode
    cmp eax, 0x80000001
    jb fail
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc fail
    mov esi, offset no_execute_missing
    bt edx, 20
    jnc fail

    # Root and directory pointers; what is not written is zero, as the loader zeroes .bss.
    mov dword ptr [early_root], offset early_pointers + (PRESENT | WRITABLE | ACCESSED)
    mov edi, offset early_pointers
    mov eax, offset early_directories + (PRESENT | WRITABLE | ACCESSED)
    mov ecx, EARLY_DIRECTORIES
.Lnext_directory:
    mov [edi], eax
    add edi, 8
    add eax, 4096
    loop .Lnext_directory

    # 4 GiB in pages of 2 MiB.
    mov edi, offset early_directories
    mov eax, PRESENT | WRITABLE | ACCESSED | DIRTY | LARGE
    mov ecx, EARLY_DIRECTORIES * 512
.Lnext_large_page:
    mov [edi], eax
    mov dword ptr [edi + 4], NO_EXECUTE_HIGH
    add edi, 8
    add eax, 2 << 20
    loop .Lnext_large_page

    # The first of them in pages of 4 KiB, by section.
    mov edi, offset early_directories
    mov eax, offset early_page_tables + (PRESENT | WRITABLE | ACCESSED)
    mov ecx, EARLY_PAGE_TABLES
.Lnext_page_table:
    mov [edi], eax
    mov dword ptr [edi + 4], 0
    add edi, 8
    add eax, 4096
    loop .Lnext_page_table

    mov edi, offset early_page_tables
    xor eax, eax
    mov ecx, EARLY_PAGE_TABLES * 512
.Lnext_page:
    lea ebx, [eax + (PRESENT | WRITABLE | ACCESSED | DIRTY)]
    mov edx, NO_EXECUTE_HIGH
    cmp eax, offset __text_start
    jb .Lnot_code
    cmp eax, offset __text_end
    jae .Lnot_code
    xor edx, edx
    jmp .Lread_only
.Lnot_code:
    cmp eax, offset __rodata_start
    jb .Lset_page
    cmp eax, offset __rodata_end
    jae .Lset_page
.Lread_only:
    and ebx, ~WRITABLE
.Lset_page:
    mov [edi], ebx
    mov [edi + 4], edx
    add edi, 8
    add eax, 4096
    loop .Lnext_page

    # Long mode. The registers get whole values: nothing is inherited from the loader.
    mov eax, CR4_VALUE
    mov cr4, eax
    mov eax, offset early_root
    mov cr3, eax
    mov ecx, EFER
    rdmsr
    or eax, EFER_BITS
    wrmsr
    mov eax, CR0_VALUE
    mov cr0, eax
    lgdt [early_segments_pointer]
    push {code_selector}
    mov eax, offset in_long_mode
    push eax
    retf

# Prints the text at ESI on the debug port and COM1 and stops.
fail:
    lodsb
    test al, al
    jz .Lstop
    out 0xe9, al
    mov dx, 0x3f8
    out dx, al
    jmp fail
.Lstop:
    mov eax, 0x11                            # QEMU's debug exit device: exit status 35
    out 0xf4, eax
    cli
.Lhalt:
    hlt
    jmp .Lhalt

    .code64
in_long_mode:
    mov eax, {data_selector}
    mov ss, eax
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    fninit
    ldmxcsr [rip + default_mxcsr]
    # The upper halves of the registers are undefined after the switch.
    mov esp, offset {boot_stack} + {boot_stack_end}
    mov edi, ebp
    mov esi, [rip + handover_kind]
    xor ebp, ebp                             # a backtrace ends here
    call {start}
    # Booting took some of the stack: the program gets all of it.
    mov esp, offset {boot_stack} + {boot_stack_end}
    xor ebp, ebp
    mov rdi, rax
    call {run}
    ud2

    .section .rodata.pvh_boot_entry, "a", @progbits
    .balign 8
    # Marked as accessed: the processor would otherwise do it, in memory that is read-only.
early_segments:
    .quad 0
    .quad 0x00af9b000000ffff                 # code, 64-bit
    .quad 0x00cf93000000ffff                 # data
early_segments_pointer:
    .word early_segments_pointer - early_segments - 1
    .long early_segments
    .balign 4
default_mxcsr:
    .long 0x1f80                             # all floating-point exceptions masked
not_multiboot2:
    .asciz "pvh-boot: entered for multiboot2, but not by a multiboot2 loader (EAX lacks its magic)\n"
no_long_mode:
    .asciz "pvh-boot: this processor has no 64-bit mode\n"
no_execute_missing:
    .asciz "pvh-boot: this processor, or its hypervisor, does not offer no-execute pages (NX)\n"

    # What EBX led to; the loader zeroes it.
    .section .bss.pvh_boot_entry, "aw", @nobits
    .balign 4
handover_kind:
    .skip 4

    # By which multiboot2 loaders (GRUB) know the program: sections 3.1.2 to 3.1.7 of the
    # specification. Without a request for an EFI entry, firmware of that kind is left behind before
    # the entry, too.
    .section .multiboot2, "a", @progbits
    .balign 8
multiboot2_header:
    .long 0xe85250d6                         # magic
    .long 0                                  # i386, protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    .short 1, 0                              # information request: no boot without a memory map
    .long 12
    .long 6
    .balign 8
    .short 3, 0                              # entry address
    .long 12
    .long pvh_boot_multiboot2_start
    .balign 8
    .short 6, 0                              # modules on page boundaries
    .long 8
    .short 0, 0                              # the end
    .long 8
multiboot2_header_end:

    .section .early_tables, "aw", @nobits
    .balign 4096
early_root:
    .skip 4096
early_pointers:
    .skip 4096
early_directories:
    .skip 4096 * EARLY_DIRECTORIES
early_page_tables:
    .skip 4096 * EARLY_PAGE_TABLES
