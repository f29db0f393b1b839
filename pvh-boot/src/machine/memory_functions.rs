//! The memory functions that compiled code calls by name.

use core::arch::asm;
use core::ffi::{c_char, c_int};

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's ranges are valid and apart; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") target => _, inout("rsi") source => _, options(nostack, preserves_flags));
    }
    target
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    if target.addr().wrapping_sub(source.addr()) >= count {
        // SAFETY: the target does not begin inside the source: copying upwards reads each byte
        // before it is overwritten.
        unsafe {
            asm!("rep movsb", inout("rcx") count => _, inout("rdi") target => _, inout("rsi") source => _, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: downwards, from the last byte on, which is there as the ranges overlap; the
        // direction flag is put back.
        unsafe {
            asm!("std", "rep movsb", "cld",
                inout("rcx") count => _,
                inout("rdi") target.wrapping_add(count).wrapping_sub(1) => _,
                inout("rsi") source.wrapping_add(count).wrapping_sub(1) => _, options(nostack));
        }
    }
    target
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: c_int, count: usize) -> *mut u8 {
    // SAFETY: the caller's range is valid; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") target => _, in("al") value as u8, options(nostack, preserves_flags));
    }
    target
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    let mut index = 0;
    while index < count {
        // SAFETY: inside the caller's first range.
        let left = unsafe { one.wrapping_add(index).read() };
        // SAFETY: inside the caller's second range.
        let right = unsafe { other.wrapping_add(index).read() };
        if left != right {
            return c_int::from(left) - c_int::from(right);
        }
        index += 1;
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    // SAFETY: the caller's ranges are as `memcmp` needs them.
    unsafe { memcmp(one, other, count) }
}

/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: the caller's string has a NUL, and everything before it was looked at.
    while unsafe { text.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    length
}
