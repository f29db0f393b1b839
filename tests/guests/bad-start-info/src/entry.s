# In place of pvh-boot's own entry: 32-bit, no stack, EBX is the loader's start info. Looks the
# command line up in FLAWS and makes EBX lead to the flawed data found there.

    .section .text.bad_start_info, "ax", @progbits
    .code32
    .global pvh_boot_note_entry
pvh_boot_note_entry:
    cld
    mov edx, offset {flaws}
.Ltry_flaw:
    mov esi, [ebx + 24]                  # cmdline_paddr
    test esi, esi
    jz .Lboot
    mov edi, edx                         # the flaw's name
.Lcompare:
    mov al, [edi]
    cmp al, [esi]
    jne .Lnext_flaw
    inc esi
    inc edi
    test al, al
    jnz .Lcompare

    lea esi, [edx + 24]                  # found: put its data outside the program
    mov ebx, [edx + 16]
    mov edi, {workplace}
    mov ecx, {data_size}
    rep movsb
    jmp .Lboot

.Lnext_flaw:
    add edx, {flaw_size}
    cmp edx, offset {flaws} + {flaws_end}
    jb .Ltry_flaw
.Lboot:
    jmp pvh_boot_start
    .code64
