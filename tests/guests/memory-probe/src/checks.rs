//! What must be true of the guest's memory.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;

use rekernel::{buffers, memory};

const PAGE: usize = 4096;

type Outcome = Result<(), String>;

pub(crate) fn all() -> Outcome {
    touching_backs_and_dropping_gives_back()?;
    given_back_reads_as_zero()?;
    registers_survive_a_fault()?;
    copies_fault_in_the_middle()?;
    cycles_leave_nothing_behind()?;
    the_reserve_is_kept()?;
    the_heap_comes_back()
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn equal(what: &str, found: usize, expected: usize) -> Outcome {
    ensure(found == expected, || {
        format!("{what}: {found} instead of {expected}")
    })
}

fn buffer(bytes: usize) -> Result<Vec<u8>, String> {
    buffers::socket_buffer(bytes).ok_or_else(|| format!("no buffer of {bytes} bytes"))
}

fn touching_backs_and_dropping_gives_back() -> Outcome {
    equal("backed at first", buffers::backed_bytes(), 0)?;
    let before = memory().heap.used;
    let mut one = buffer(16 * PAGE)?;
    let other = buffer(1 << 20)?;
    equal("backed before a touch", buffers::backed_bytes(), 0)?;
    one[5 * PAGE + 3] = 7;
    equal("backed by a write", buffers::backed_bytes(), PAGE)?;
    equal(
        "read from an untouched page",
        black_box(other[PAGE]).into(),
        0,
    )?;
    equal("backed by a read", buffers::backed_bytes(), 2 * PAGE)?;
    equal("the byte written", black_box(one[5 * PAGE + 3]).into(), 7)?;
    one.fill(9);
    equal("backed when full", buffers::backed_bytes(), 17 * PAGE)?;
    ensure(one.iter().all(|&byte| byte == 9), || "content".into())?;
    // Growing moves it to the heap, as any vector.
    one.extend_from_slice(&[8; 100]);
    equal("backed after growing", buffers::backed_bytes(), PAGE)?;
    ensure(one[..16 * PAGE].iter().all(|&byte| byte == 9), || {
        "content after growing".into()
    })?;
    drop((one, other));
    equal("backed after dropping", buffers::backed_bytes(), 0)?;
    // A table of each size of buffers is kept.
    let kept = memory().heap.used.saturating_sub(before);
    ensure(kept <= 8 * PAGE, || format!("{kept} bytes are missing"))
}

fn given_back_reads_as_zero() -> Outcome {
    let mut buffer = buffer(8 * PAGE)?;
    buffer.fill(0xa5);
    buffers::give_back(&mut buffer[1..3 * PAGE]);
    equal(
        "backed after giving back",
        buffers::backed_bytes(),
        6 * PAGE,
    )?;
    let wrong = (0..8 * PAGE).find(|&place| {
        let expected = if (PAGE..3 * PAGE).contains(&place) {
            0
        } else {
            0xa5
        };
        buffer[place] != expected
    });
    ensure(wrong.is_none(), || format!("wrong at {wrong:?}"))?;
    equal("backed after reading", buffers::backed_bytes(), 8 * PAGE)?;
    // Memory of the heap is not touched.
    let mut ordinary = vec![3_u8; 4 * PAGE];
    buffers::give_back(&mut ordinary);
    ensure(ordinary.iter().all(|&byte| byte == 3), || "heap".into())
}

/// A fault comes between two instructions that know nothing of it.
fn registers_survive_a_fault() -> Outcome {
    let buffer = buffer(PAGE)?;
    let (mut low, mut high, mut flags) = (1_u64, 2_u64, 0_u64);
    let mut integers = [3_u64, 4, 5, 6];
    // SAFETY: reads a byte of the buffer; everything that changes is named.
    unsafe {
        core::arch::asm!(
            "movq xmm0, {low}", "movq xmm15, {high}",
            "std",
            "mov r11b, [{place}]",
            "pushfq", "pop {flags}",
            "cld",
            "movq {low}, xmm0", "movq {high}, xmm15",
            place = in(reg) buffer.as_ptr(),
            low = inout(reg) low, high = inout(reg) high, flags = inout(reg) flags,
            inout("rax") integers[0], inout("rcx") integers[1],
            inout("r8") integers[2], inout("r10") integers[3],
            out("r11") _, out("xmm0") _, out("xmm15") _,
        );
    }
    equal("backed", buffers::backed_bytes(), PAGE)?;
    ensure((low, high) == (1, 2), || "vector registers changed".into())?;
    ensure(integers == [3, 4, 5, 6], || "registers changed".into())?;
    ensure(flags & 1 << 10 != 0, || "the flags changed".into())
}

/// String instructions are resumed where the page was missing.
fn copies_fault_in_the_middle() -> Outcome {
    let pattern: Vec<u8> = (0..40_000_u32).map(|number| number as u8 ^ 0x5a).collect();
    for (from, length) in [(1, 39_999), (4090, 12), (100, 20_000), (4096, 4096)] {
        let mut one = buffer(48_000)?;
        let mut other = buffer(48_000)?;
        one[from..from + length].copy_from_slice(&pattern[..length]);
        other[17..17 + length].copy_from_slice(&one[from..from + length]);
        ensure(other[17..17 + length] == pattern[..length], || {
            format!("a copy of {length} bytes is wrong")
        })?;
        let rest = other[..17].iter().chain(&other[17 + length..]);
        ensure(rest.into_iter().all(|&byte| byte == 0), || {
            format!("the rest of a buffer with {length} bytes is not zero")
        })?;
    }
    Ok(())
}

fn cycles_leave_nothing_behind() -> Outcome {
    let cycle = |round: usize| -> Outcome {
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(16);
        for number in 0..16 {
            let mut buffer = buffer(PAGE << ((round + number) % 6))?;
            let middle = buffer.len() / 2;
            buffer[middle] = 1;
            held.push(buffer);
        }
        let victim = &mut held[round % 16];
        buffers::give_back(victim);
        held.swap_remove(round % 7);
        Ok(())
    };
    (0..100).try_for_each(cycle)?;
    let used = memory().heap.used;
    (0..5000).try_for_each(cycle)?;
    equal("backed after 5000 cycles", buffers::backed_bytes(), 0)?;
    equal("heap after 5000 cycles", memory().heap.used, used)
}

/// Takes pages for as long as `can_back` allows, as the stack does.
fn the_reserve_is_kept() -> Outcome {
    // Backing gigabytes shows nothing that 48 MiB do not.
    let mut others = Vec::new();
    while memory().heap.total - memory().heap.used > memory().heap.total / 16 + (48 << 20) {
        others.push(Vec::<u8>::with_capacity(8 << 20));
    }
    let before = memory().heap;
    let mut held = Vec::new();
    'all: loop {
        let mut buffer = buffer(2 << 20)?;
        for page in 0..buffer.len() / PAGE {
            if !buffers::can_back(PAGE) {
                held.push(buffer);
                break 'all;
            }
            buffer[page * PAGE] = 1;
        }
        held.push(buffer);
    }
    ensure(!buffers::can_back(1), || "one more byte".into())?;
    ensure(!buffers::can_back(usize::MAX), || "all bytes".into())?;
    let left = before.total - memory().heap.used;
    ensure(left >= before.total / 16, || {
        format!("{left} bytes are left")
    })?;
    ensure(
        buffers::backed_bytes() + before.total / 16 > (before.total - before.used) / 10 * 9,
        || format!("only {} bytes were backed", buffers::backed_bytes()),
    )?;
    // The rest of the program goes on.
    let rest: Vec<_> = (0..left.min(4 << 20) >> 15)
        .map(|_| vec![1_u8; 1 << 14])
        .collect();
    drop(black_box(rest));
    drop(held);
    ensure(buffers::can_back(PAGE), || "nothing came back".into())?;
    equal("backed in the end", buffers::backed_bytes(), 0)
}

fn the_heap_comes_back() -> Outcome {
    let churn = || {
        let mut held: Vec<Vec<u8>> = Vec::new();
        for number in 0..3000_usize {
            held.push(vec![number as u8; number * 37 % 5000]);
            if number % 3 == 0 {
                held.swap_remove(number * 7 % held.len());
            }
        }
        held.iter().map(Vec::len).sum::<usize>()
    };
    black_box(churn());
    let used = memory().heap.used;
    for _ in 0..20 {
        black_box(churn());
    }
    equal("heap after churning", memory().heap.used, used)
}
