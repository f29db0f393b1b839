//! The smallest guests there are, made by hand.
//!
//! One says "I ran" and ends: it shows whether an accelerator really works, which the
//! presence of its device node does not. The other halts at once: what its machine
//! executed is the firmware's share.

/// The status with which QEMU exits when [`exiting`] ran: the value it writes to the
/// `isa-debug-exit` device, doubled, plus one.
pub(super) const EXIT_STATUS: i32 = ((VALUE as i32) << 1) | 1;

/// What it writes; the value a rekernel guest writes for a clean end, too.
const VALUE: u8 = 0x10;

/// Where both are loaded and start.
const ADDRESS: u32 = 0x10_0000;

/// Tells QEMU to exit. 32-bit code, as PVH guests are entered: protected mode, no paging.
#[rustfmt::skip]
const EXIT: &[u8] = &[
    0xb0, VALUE,                  // mov  al, VALUE
    0xba, 0xf4, 0x00, 0x00, 0x00, // mov  edx, 0xf4 (isa-debug-exit)
    0xee,                         // out  dx, al
];

/// Stops for good, with interrupts disabled.
#[rustfmt::skip]
const HALT: &[u8] = &[
    0xfa,       // cli
    0xf4,       // hlt
    0xeb, 0xfd, // jmp  to the hlt
];

/// The ELF file of the guest that exits with [`EXIT_STATUS`].
pub(super) fn exiting() -> Vec<u8> {
    elf(&[EXIT, HALT].concat())
}

/// The ELF file of the guest that halts at its first instructions.
pub fn halting() -> Vec<u8> {
    elf(HALT)
}

/// Header, two program headers (code and note), the note, the code.
fn elf(code: &[u8]) -> Vec<u8> {
    let note = entry_note();
    let note_offset = EHDR_SIZE + 2 * PHDR_SIZE;
    let code_offset = note_offset + note.len() as u64;
    let code_size = code.len() as u64;
    let mut file = elf_header();
    file.extend(program_header(
        PT_LOAD,
        code_offset,
        u64::from(ADDRESS),
        code_size,
    ));
    file.extend(program_header(PT_NOTE, note_offset, 0, note.len() as u64));
    file.extend(note);
    file.extend(code);
    file
}

const EHDR_SIZE: u64 = 64;
const PHDR_SIZE: u64 = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const READ_EXECUTE: u32 = 5;

/// ELF-64 header (System V ABI) of an x86-64 executable with two program headers.
fn elf_header() -> Vec<u8> {
    let mut header = vec![
        0x7f, b'E', b'L', b'F', 2, /* 64 bit */
        1, /* little endian */
        1, /* version */
    ];
    header.resize(16, 0);
    header.extend(2u16.to_le_bytes()); // an executable
    header.extend(62u16.to_le_bytes()); // for x86-64
    header.extend(1u32.to_le_bytes()); // version
    header.extend(u64::from(ADDRESS).to_le_bytes()); // entry
    header.extend(EHDR_SIZE.to_le_bytes()); // program headers follow at once
    header.extend(0u64.to_le_bytes()); // no section headers
    header.extend(0u32.to_le_bytes()); // flags
    for half in [EHDR_SIZE as u16, PHDR_SIZE as u16, 2, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn program_header(kind: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(READ_EXECUTE.to_le_bytes());
    for field in [offset, address, address, size, size, 4 /* alignment */] {
        header.extend(field.to_le_bytes());
    }
    header
}

/// XEN_ELFNOTE_PHYS32_ENTRY (Xen's public/elfnote.h): where a PVH guest starts.
fn entry_note() -> Vec<u8> {
    let mut note = Vec::new();
    note.extend(4u32.to_le_bytes()); // length of the name
    note.extend(4u32.to_le_bytes()); // length of the descriptor
    note.extend(18u32.to_le_bytes());
    note.extend(b"Xen\0");
    note.extend(ADDRESS.to_le_bytes());
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_sizes_they_claim() {
        assert_eq!(elf_header().len() as u64, EHDR_SIZE);
        assert_eq!(program_header(PT_LOAD, 0, 0, 0).len() as u64, PHDR_SIZE);
        let file = halting();
        assert_eq!(&file[file.len() - HALT.len()..], HALT);
    }
}
