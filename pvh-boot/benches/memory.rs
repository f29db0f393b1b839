//! Copying and filling memory: a guest's `memcpy` and `memset`, beside the host's C library and
//! the string instructions alone.
//!
//! Without `--bench` (as `cargo test` runs it) everything runs once, as a test. Figures of a
//! processor say nothing of software emulation, nor the other way round: docs/decisions/boot.md
//! has both.

// The crate itself would bring its entry point along. Cargo sets `test` for benchmarks too, so the
// functions do not get the C library's names.
#[path = "../src/memory_functions.rs"]
#[allow(dead_code, reason = "what is not measured")]
mod memory_functions;

use std::arch::asm;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Bytes at a time: headers, a frame, a page, a long frame.
const SIZES: [usize; 7] = [16, 64, 128, 512, 1460, 4096, 65536];

/// Where the target begins, in bytes from an address that is a multiple of 16: as after an
/// Ethernet header.
const MISALIGNED: usize = 14;

type Copy = fn(&mut [u8], &[u8]);
type Fill = fn(&mut [u8], u8);

fn guests_copy(target: &mut [u8], source: &[u8]) {
    assert_eq!(target.len(), source.len());
    // SAFETY: both have this length, and a unique reference does not overlap another.
    unsafe { memory_functions::memcpy(target.as_mut_ptr(), source.as_ptr(), source.len()) };
}

fn guests_fill(target: &mut [u8], byte: u8) {
    // SAFETY: the slice is writable.
    unsafe { memory_functions::memset(target.as_mut_ptr(), byte.into(), target.len()) };
}

fn string_copy(target: &mut [u8], source: &[u8]) {
    assert_eq!(target.len(), source.len());
    // SAFETY: both have this length; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") source.len() => _,
            inout("rsi") source.as_ptr() => _,
            inout("rdi") target.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

fn string_fill(target: &mut [u8], byte: u8) {
    // SAFETY: the slice is writable; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") target.len() => _,
            inout("rdi") target.as_mut_ptr() => _,
            in("al") byte,
            options(nostack, preserves_flags),
        );
    }
}

const COPIES: [(&str, Copy); 3] = [
    ("guest", guests_copy),
    ("C library", |target, source| target.copy_from_slice(source)),
    ("rep movsb", string_copy),
];

const FILLS: [(&str, Fill); 3] = [
    ("guest", guests_fill),
    ("C library", |target, byte| target.fill(byte)),
    ("rep stosb", string_fill),
];

fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    for bytes in SIZES {
        let source: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, copy) in COPIES {
            let mut target = vec![0; MISALIGNED + bytes];
            let target = &mut target[MISALIGNED..];
            copy(target, &source);
            assert_eq!(*target, *source, "{name}");
            group.bench_function(BenchmarkId::new(name, bytes), |run| {
                run.iter(|| copy(black_box(target), black_box(&source)));
            });
        }
    }
    group.finish();
}

fn fills(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fill");
    for bytes in SIZES {
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, fill) in FILLS {
            let mut target = vec![0xee; bytes];
            fill(&mut target, 5);
            assert!(target.iter().all(|&byte| byte == 5), "{name}");
            group.bench_function(BenchmarkId::new(name, bytes), |run| {
                run.iter(|| fill(black_box(&mut target), black_box(0)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, copies, fills);
criterion_main!(benches);
