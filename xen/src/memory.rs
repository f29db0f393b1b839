//! One page of memory that somebody else may write at any moment.

use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use xen_proto::hypervisor::{PAGE_SIZE, SharedPage};

/// A page shared with Xen or with another domain.
///
/// There is no reference to its bytes, ever: words are reached as atomics, runs of bytes are
/// copied by assembly that the compiler cannot repeat, split or cache. A
/// concurrent writer on the other side can therefore change values, but not the meaning of the
/// program.
#[derive(Debug)]
pub(crate) struct Frame {
    address: NonNull<u8>,
}

// SAFETY: every access is atomic or made by assembly on raw memory; by the contract
// of `Frame::new` nothing else in this program refers to the page.
unsafe impl Send for Frame {}
// SAFETY: as for Send.
unsafe impl Sync for Frame {}

impl Frame {
    /// # Safety
    /// For as long as the value lives:
    /// 1. `address` is aligned to 4096, and 4096 bytes from it are mapped readable and writable.
    /// 2. Nothing else in this program accesses them, except through other `Frame`s.
    pub(crate) const unsafe fn new(address: NonNull<u8>) -> Self {
        Self { address }
    }

    /// Another value for the same page.
    ///
    /// # Safety
    /// Duty 1 of [`new`](Self::new) holds for as long as the new value lives, too.
    pub(crate) const unsafe fn another(&self) -> Self {
        Self {
            address: self.address,
        }
    }

    /// The guest frame number.
    pub(crate) fn number(&self) -> u64 {
        (self.address() / PAGE_SIZE) as u64
    }

    /// Where the page is. Virtual and physical addresses are the same.
    pub(crate) fn address(&self) -> usize {
        self.address.as_ptr() as usize
    }

    /// The byte at `offset`.
    pub(crate) fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: `word` checked that the byte lies in the page (duty 1 of `new`), which is
        // only accessed atomically or by `copy` (duty 2).
        unsafe { AtomicU8::from_ptr(self.word::<1>(offset)) }
    }

    /// The 16-bit word at byte `offset`.
    pub(crate) fn half(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: as for `byte`; `word` also checked the alignment.
        unsafe { AtomicU16::from_ptr(self.word::<2>(offset).cast()) }
    }

    /// The 32-bit word at byte `offset`.
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as for `half`.
        unsafe { AtomicU32::from_ptr(self.word::<4>(offset).cast()) }
    }

    /// The 64-bit word at byte `offset`.
    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as for `half`.
        unsafe { AtomicU64::from_ptr(self.word::<8>(offset).cast()) }
    }

    /// Copies `into.len()` bytes out of the page, reading each once.
    ///
    /// # Panics
    /// If the bytes do not all lie in the page.
    pub(crate) fn copy_out(&self, offset: usize, into: &mut [u8]) {
        let source = self.bytes(offset, into.len());
        // SAFETY: the source lies in the page, the destination is a slice of ours; the page is
        // not part of any Rust object (duty 2 of `new`), so they do not overlap.
        unsafe { copy(source, into.as_mut_ptr(), into.len()) }
    }

    /// Copies `length` bytes out of the page to the end of `into`, reading each once and
    /// writing each once.
    ///
    /// # Panics
    /// If the bytes do not all lie in the page.
    pub(crate) fn append_to(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        let source = self.bytes(offset, length);
        into.reserve(length);
        let start = into.len();
        let room = into.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: the source lies in the page; `reserve` made room for `length` bytes after the
        // vector's own. The page is not part of any Rust object (duty 2 of `new`), so they do
        // not overlap.
        unsafe { copy(source, room, length) };
        // SAFETY: the capacity was reserved, and the copy initialised the bytes.
        unsafe { into.set_len(start + length) };
    }

    /// Copies `from` into the page, writing each byte once.
    ///
    /// # Panics
    /// If the bytes do not all lie in the page.
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        let destination = self.bytes(offset, from.len());
        // SAFETY: as in `copy_out`, the other way round.
        unsafe { copy(from.as_ptr(), destination, from.len()) }
    }

    /// Fills the page with zeros.
    pub(crate) fn clear(&self) {
        // SAFETY: writes PAGE_SIZE bytes at `address`, which duty 1 of `new` allows. The
        // direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep stosq",
                inout("rcx") PAGE_SIZE / 8 => _,
                inout("rdi") self.address.as_ptr() => _,
                in("rax") 0_u64,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Pointer to the `SIZE` bytes at `offset`, naturally aligned.
    fn word<const SIZE: usize>(&self, offset: usize) -> *mut u8 {
        assert!(
            offset.is_multiple_of(SIZE),
            "offset {offset} of a {SIZE}-byte word"
        );
        self.bytes(offset, SIZE)
    }

    /// Pointer to the bytes `offset..offset + length` of the page.
    fn bytes(&self, offset: usize, length: usize) -> *mut u8 {
        #[cfg(test)]
        test_page::access();
        assert!(
            offset <= PAGE_SIZE && length <= PAGE_SIZE - offset,
            "{length} bytes at offset {offset} of a page"
        );
        self.address.as_ptr().wrapping_add(offset)
    }
}

impl SharedPage for Frame {
    fn load(&self, word: usize) -> u32 {
        self.word32(word * 4).load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u32) {
        self.word32(word * 4).store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.copy_out(offset, into);
    }

    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        self.append_to(offset, length, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.copy_in(offset, from);
    }
}

/// Copies bytes, each read once and written once, opaque to the compiler.
///
/// Moves of eight bytes up to [`LONG`], and from there on the string instruction, which
/// processors do fastest once it has started. It moves eight bytes at a time, too: software
/// emulation does these one by one.
///
/// # Safety
/// 1. `source` is readable and `destination` writable for `length` bytes.
/// 2. The two do not overlap.
unsafe fn copy(source: *const u8, destination: *mut u8, length: usize) {
    // SAFETY: the caller's duties are exactly what the instructions need: all addresses are
    // within `length` bytes of the pointers; the direction flag is clear by the calling
    // convention.
    unsafe {
        asm!(
            "cmp rcx, {long}",
            "jae 4f",
            "sub rcx, 8",
            "jb 3f",
            "2:",
            "mov {bytes}, [rsi]",
            "mov [rdi], {bytes}",
            "add rsi, 8",
            "add rdi, 8",
            "sub rcx, 8",
            "jae 2b",
            "3:",
            "add rcx, 8",
            "jmp 5f",
            "4:",
            "mov {bytes}, rcx",
            "shr rcx, 3",
            "rep movsq",
            "mov rcx, {bytes}",
            "and rcx, 7",
            "5:",
            "sub rcx, 4",
            "jb 6f",
            "mov {bytes:e}, [rsi]",
            "mov [rdi], {bytes:e}",
            "add rsi, 4",
            "add rdi, 4",
            "sub rcx, 4",
            "6:",
            "add rcx, 4",
            "jz 7f",
            "rep movsb",
            "7:",
            bytes = out(reg) _,
            long = const LONG,
            inout("rcx") length => _,
            inout("rsi") source => _,
            inout("rdi") destination => _,
            options(nostack)
        );
    }
}

/// Bytes from which on the string instruction is worth its start.
const LONG: usize = 1024;

#[cfg(test)]
pub(crate) mod test_page {
    use core::cell::RefCell;
    use core::ops::Range;
    use std::rc::Rc;

    use super::{Frame, NonNull, PAGE_SIZE};

    /// The addresses of `count` pages that are never freed, not zeroed. Below 2 GiB, as in a
    /// guest: the frame numbers of the host's heap do not fit a grant entry.
    pub(crate) fn frames(count: usize) -> Range<usize> {
        const MMAP: usize = 9;
        const READ_WRITE: usize = 3;
        const PRIVATE_ANONYMOUS_32BIT: usize = 0x62;
        let address: usize;
        // SAFETY: asks Linux for fresh memory, which changes nothing that exists.
        unsafe {
            core::arch::asm!("syscall", inlateout("rax") MMAP => address, in("rdi") 0,
                in("rsi") count * PAGE_SIZE, in("rdx") READ_WRITE,
                in("r10") PRIVATE_ANONYMOUS_32BIT, in("r8") -1_i64, in("r9") 0,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        assert!(address < 1 << 31, "mmap failed: {}", address.cast_signed());
        let memory: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the memory was just mapped, writable, for this many bytes.
        unsafe { memory.write_bytes(0xa5, count * PAGE_SIZE) };
        address..address + count * PAGE_SIZE
    }

    thread_local! {
        static BEFORE_ACCESS: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    type Hook = Rc<dyn Fn()>;

    /// Has `hook` called before each access to any page by this thread.
    pub(crate) fn before_each_access(hook: Option<Hook>) {
        BEFORE_ACCESS.set(hook);
    }

    pub(super) fn access() {
        let hook = BEFORE_ACCESS.with_borrow(Clone::clone);
        if let Some(hook) = hook {
            hook();
        }
    }

    /// A zeroed page that is never freed.
    pub(crate) fn frame() -> Frame {
        let address = core::ptr::with_exposed_provenance_mut(frames(1).start);
        // SAFETY: 1. aligned by its type, never freed. 2. only the Frame knows it.
        let frame = unsafe { Frame::new(NonNull::new(address).unwrap()) };
        frame.clear();
        frame
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use xen_proto::hypervisor::SharedPage;

    use super::test_page::frame;

    #[test]
    fn words_are_little_endian_views_of_the_bytes() {
        let frame = frame();
        frame.write(8, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(frame.byte(9).load(Relaxed), 2);
        assert_eq!(frame.half(10).load(Relaxed), 0x0403);
        assert_eq!(frame.word32(8).load(Relaxed), 0x0403_0201);
        assert_eq!(frame.word64(8).load(Relaxed), 0x0807_0605_0403_0201);
        frame.word32(12).store(0x6060_6060, Relaxed);
        let mut bytes = [0; 10];
        frame.read(7, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0x60, 0x60, 0x60, 0x60, 0]);
        frame.clear();
        frame.read(7, &mut bytes);
        assert_eq!(bytes, [0; 10]);
    }

    #[test]
    fn copies_of_every_length_and_no_more() {
        let frame = frame();
        for length in (0..100).chain(1000..1050).chain(4050..=4094) {
            let bytes: alloc::vec::Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            frame.write(0, &[0xee; 4096]);
            frame.write(1, &bytes);
            let mut around = [0; 4096];
            frame.read(0, &mut around);
            assert_eq!(around[0], 0xee);
            assert_eq!(around[1..=length], bytes);
            assert!(around[length + 1..].iter().all(|&byte| byte == 0xee));
            let mut back = alloc::vec![0xdd; length + 2];
            frame.read(1, &mut back[1..=length]);
            assert_eq!((back[0], back[length + 1]), (0xdd, 0xdd));
            assert_eq!(back[1..=length], bytes);
        }
    }

    #[test]
    fn the_last_byte_is_reachable() {
        let frame = frame();
        frame.write(4095, &[7]);
        assert_eq!(frame.byte(4095).load(Relaxed), 7);
        frame.write(4096, &[]);
    }

    #[test]
    fn bytes_are_appended_behind_what_is_there() {
        let frame = frame();
        frame.write(4090, &[1, 2, 3, 4, 5, 6]);
        let mut bytes = alloc::vec![9];
        frame.append(4091, 5, &mut bytes);
        frame.append(4096, 0, &mut bytes);
        frame.append(4090, 1, &mut bytes);
        assert_eq!(bytes, [9, 2, 3, 4, 5, 6, 1]);
        let mut whole = alloc::vec::Vec::new();
        frame.append(0, 4096, &mut whole);
        assert_eq!(whole.len(), 4096);
        assert_eq!(whole[4089..], [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    #[should_panic(expected = "4096 bytes at offset 1")]
    fn appending_from_past_the_end_is_refused() {
        frame().append(1, 4096, &mut alloc::vec::Vec::new());
    }

    #[test]
    #[should_panic(expected = "2 bytes at offset 4095")]
    fn a_copy_past_the_end_is_refused() {
        frame().write(4095, &[0, 0]);
    }

    #[test]
    #[should_panic(expected = "offset 2 of a 4-byte word")]
    fn a_misaligned_word_is_refused() {
        frame().word32(2);
    }
}
