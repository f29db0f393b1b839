//! The memory functions that compiled code calls by name. Other systems' C library has them.
//!
//! In assembly, as a compiler may turn a loop in Rust that copies memory into a call of `memcpy`.
//! Moves of eight bytes up to [`LONG`], string instructions from there on: on processors those take
//! long to start and are fastest then. Eight bytes at a time there too, which software emulation
//! does one by one: `rep movsb` takes it eight times as long. Vector registers, twice as fast on
//! processors, take it three times as long as integer registers.
//!
//! The odd bytes at the end are moved first or last, together with some that are moved anyway, so
//! that there is no loop over single bytes.
//!
//! `benches/memory.rs` compares them with others.
//!
//! All keep to the System V calling convention: arguments in RDI, RSI, RDX, result in RAX.

use core::arch::naked_asm;
use core::ffi::{c_char, c_int};

/// Bytes from which on string instructions are used.
const LONG: usize = 1024;

/// # Safety
/// As C's `memcpy`: `source` is readable and `target` writable for `count` bytes.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memcpy(
    target: *mut u8,
    source: *const u8,
    count: usize,
) -> *mut u8 {
    // Knowing that nothing overlaps would save one comparison: not worth a second copy.
    naked_asm!("jmp {memmove}", memmove = sym memmove)
}

/// # Safety
/// As C's `memmove`: `source` is readable and `target` writable for `count` bytes; they may
/// overlap.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 30f",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 20f",

        // Upwards: the target does not begin inside the source. The last 16 bytes are read before
        // anything is stored, and stored last.
        "mov r10, [rsi + rdx - 16]",
        "mov r11, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 16]",
        "cmp rdx, {long}",
        "jae 5f",
        "sub rdx, 16",
        "jz 4f",
        "sub rdx, 32",
        "jb 3f",
        "2:",
        "mov rcx, [rsi]",
        "mov [rdi], rcx",
        "mov r8, [rsi + 8]",
        "mov [rdi + 8], r8",
        "mov rcx, [rsi + 16]",
        "mov [rdi + 16], rcx",
        "mov r8, [rsi + 24]",
        "mov [rdi + 24], r8",
        "add rsi, 32",
        "add rdi, 32",
        "sub rdx, 32",
        "jae 2b",
        "3:",
        "add rdx, 32",
        "jz 4f",
        "6:",
        "mov rcx, [rsi]",
        "mov [rdi], rcx",
        "add rsi, 8",
        "add rdi, 8",
        "sub rdx, 8",
        "ja 6b",
        "4:",
        "mov [r9], r10",
        "mov [r9 + 8], r11",
        "ret",
        "5:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r10",
        "mov [r9 + 8], r11",
        "ret",

        // Downwards, the same with the first 16 bytes. RDX is what is left above them.
        "20:",
        "mov r10, [rsi]",
        "mov r11, [rsi + 8]",
        "sub rdx, 16",
        "jz 24f",
        "sub rdx, 32",
        "jb 23f",
        "22:",
        "mov rcx, [rsi + rdx + 40]",
        "mov [rdi + rdx + 40], rcx",
        "mov r8, [rsi + rdx + 32]",
        "mov [rdi + rdx + 32], r8",
        "mov rcx, [rsi + rdx + 24]",
        "mov [rdi + rdx + 24], rcx",
        "mov r8, [rsi + rdx + 16]",
        "mov [rdi + rdx + 16], r8",
        "sub rdx, 32",
        "jae 22b",
        "23:",
        "add rdx, 32",
        "jz 24f",
        "26:",
        "mov rcx, [rsi + rdx + 8]",
        "mov [rdi + rdx + 8], rcx",
        "sub rdx, 8",
        "ja 26b",
        "24:",
        "mov [rdi], r10",
        "mov [rdi + 8], r11",
        "ret",

        // Below 16 bytes: two moves that may overlap, both read before either is stored.
        "30:",
        "cmp edx, 8",
        "jb 32f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "32:",
        "cmp edx, 4",
        "jb 33f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        // First, middle and last of at most three.
        "33:",
        "test edx, edx",
        "jz 34f",
        "mov r9, rdx",
        "shr r9, 1",
        "movzx ecx, byte ptr [rsi]",
        "movzx r10d, byte ptr [rsi + r9]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], cl",
        "mov [rdi + r9], r10b",
        "mov [rdi + rdx - 1], r8b",
        "34:",
        "ret",
        long = const LONG,
    )
}

/// # Safety
/// As C's `memset`: `target` is writable for `count` bytes.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memset(target: *mut u8, value: c_int, count: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        // The byte in all eight bytes of RAX.
        "movzx eax, sil",
        "mov rcx, 0x0101010101010101",
        "imul rax, rcx",
        "cmp rdx, 8",
        "jb 5f",
        "mov [rdi + rdx - 8], rax",
        "cmp rdx, {long}",
        "jae 4f",
        "sub rdx, 32",
        "jb 3f",
        "2:",
        "mov [rdi], rax",
        "mov [rdi + 8], rax",
        "mov [rdi + 16], rax",
        "mov [rdi + 24], rax",
        "add rdi, 32",
        "sub rdx, 32",
        "jae 2b",
        // What is left, but for the last eight bytes, which are done.
        "3:",
        "add rdx, 32",
        "7:",
        "sub rdx, 8",
        "jbe 6f",
        "mov [rdi], rax",
        "add rdi, 8",
        "jmp 7b",
        "4:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "jmp 6f",
        "5:",
        "test edx, edx",
        "jz 6f",
        "mov [rdi], al",
        "inc rdi",
        "dec edx",
        "jmp 5b",
        "6:",
        "mov rax, r8",
        "ret",
        long = const LONG,
    )
}

/// # Safety
/// As C's `memcmp`: both are readable for `count` bytes.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    naked_asm!(
        "sub rdx, 8",
        "jb 3f",
        "2:",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 6f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "jae 2b",
        // The last seven at most.
        "3:",
        "xor eax, eax",
        "add edx, 8",
        "jz 5f",
        "4:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "inc rdi",
        "inc rsi",
        "sub eax, ecx",
        "jnz 5f",
        "dec edx",
        "jnz 4b",
        "5:",
        "ret",
        // As big-endian numbers, eight bytes compare as one after the other.
        "6:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
    )
}

/// # Safety
/// As C's `memcmp`, of which it is the part that tells equal from different.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// # Safety
/// As C's `strlen`: `text` is readable up to and with its NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    naked_asm!(
        "xor eax, eax",
        "2:",
        "cmp byte ptr [rdi + rax], 0",
        "je 3f",
        "inc rax",
        "jmp 2b",
        "3:",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Every length that takes another path.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..300).chain(LONG - 10..LONG + 20)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + 13) as u8).collect()
    }

    #[test]
    fn copies_are_whole_and_stay_inside() {
        for length in lengths() {
            let source = pattern(length);
            let mut target = std::vec![0xee; length + 32];
            let start = target[16..].as_mut_ptr();
            // SAFETY: both have `length` bytes and are apart.
            let returned = unsafe { memcpy(start, source.as_ptr(), length) };
            assert_eq!(returned, start);
            assert_eq!(target[16..16 + length], source);
            assert!(
                target[..16]
                    .iter()
                    .chain(&target[16 + length..])
                    .all(|&byte| byte == 0xee)
            );
        }
    }

    #[test]
    fn moves_inside_one_buffer_keep_the_bytes() {
        for length in lengths() {
            for (from, to) in [(0, 1), (1, 0), (0, 15), (16, 0), (0, 70), (70, 0), (9, 9)] {
                let mut buffer = pattern(length + 70);
                let mut expected = buffer.clone();
                expected.copy_within(from..from + length, to);
                let start = buffer.as_mut_ptr();
                // SAFETY: both ranges are inside the buffer.
                unsafe { memmove(start.wrapping_add(to), start.wrapping_add(from), length) };
                assert_eq!(buffer, expected, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn fills_are_whole_and_stay_inside() {
        for length in lengths() {
            let mut target = std::vec![0xee; length + 32];
            let start = target[16..].as_mut_ptr();
            // SAFETY: the range is inside the buffer.
            let returned = unsafe { memset(start, 0x1a5, length) };
            assert_eq!(returned, start);
            assert!(target[16..16 + length].iter().all(|&byte| byte == 0xa5));
            assert!(
                target[..16]
                    .iter()
                    .chain(&target[16 + length..])
                    .all(|&byte| byte == 0xee)
            );
        }
    }

    #[test]
    fn comparison_finds_each_difference() {
        for length in 0..=80 {
            let one = pattern(length);
            // SAFETY: both have `length` bytes.
            assert_eq!(unsafe { memcmp(one.as_ptr(), one.as_ptr(), length) }, 0);
            for place in 0..length {
                let mut other = one.clone();
                other[place] = other[place].wrapping_add(0x80);
                // Later bytes differ the other way and must not matter.
                other[place + 1..]
                    .iter_mut()
                    .for_each(|byte| *byte = !*byte);
                let expected = one.cmp(&other) as c_int;
                // SAFETY: both have `length` bytes.
                let found = unsafe { memcmp(one.as_ptr(), other.as_ptr(), length) };
                assert_eq!(found.signum(), expected, "{length} bytes, place {place}");
                // SAFETY: both have `length` bytes.
                assert_ne!(unsafe { bcmp(one.as_ptr(), other.as_ptr(), length) }, 0);
            }
        }
    }

    #[test]
    fn the_length_of_a_string_is_without_its_nul() {
        for text in [c"", c"x", c"a longer text"] {
            // SAFETY: a C string ends with NUL.
            assert_eq!(unsafe { strlen(text.as_ptr()) }, text.to_bytes().len());
        }
    }

    proptest! {
        #[test]
        fn comparison_orders_as_slices_do(one in prop::collection::vec(0u8..3, 0..40), other in prop::collection::vec(0u8..3, 40)) {
            let other = &other[..one.len()];
            // SAFETY: both are as long as `one`.
            let found = unsafe { memcmp(one.as_ptr(), other.as_ptr(), one.len()) };
            prop_assert_eq!(found.signum(), one.as_slice().cmp(other) as c_int);
        }
    }
}
