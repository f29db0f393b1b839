# In place of pvh-boot's own entry: 32-bit, no stack, EBX is the loader's start info. Looks the
# command line up in FLAWS and makes EBX lead to the flawed data found there.

    .section .text.bad_start_info, "ax", @progbits
    .code32
    .global pvh_boot_note_entry
pvh_boot_note_entry:
    cld
    mov edx, offset {flaws}
1:  mov esi, [ebx + 24]                  # cmdline_paddr
    test esi, esi
    jz 4f
    mov edi, edx                         # the flaw's name
2:  mov al, [edi]
    cmp al, [esi]
    jne 3f
    inc esi
    inc edi
    test al, al
    jnz 2b

    lea esi, [edx + 24]                  # found: put its data outside the program
    mov ebx, [edx + 16]
    mov edi, {workplace}
    mov ecx, {data_size}
    rep movsb
    jmp 4f

3:  add edx, {flaw_size}
    cmp edx, offset {flaws} + {flaws_end}
    jb 1b
4:  jmp pvh_boot_start
    .code64
