//! Pages: an honest one, one that counts and lies.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

use super::Random;
use crate::hypervisor::{PAGE_SIZE, SharedPage};

/// What a page holds after it was given back: nobody may depend on it.
const POISON: u8 = 0xdb;

/// Memory under a page, seen by a guest and by a peer.
pub(super) struct Memory {
    bytes: RefCell<Box<[u8; PAGE_SIZE]>>,
    /// Which bytes the guest has copied out since the peer last wrote them.
    seen: RefCell<Box<[bool; PAGE_SIZE]>>,
    double_reads: Cell<u64>,
    lies: Cell<bool>,
    random: Random,
}

impl Memory {
    pub(super) fn zeroed() -> Rc<Self> {
        Rc::new(Self {
            bytes: RefCell::new(Box::new([0; PAGE_SIZE])),
            seen: RefCell::new(Box::new([false; PAGE_SIZE])),
            double_reads: Cell::new(0),
            lies: Cell::new(false),
            random: Random::new(1),
        })
    }

    pub(super) fn zero(&self) {
        self.bytes.borrow_mut().fill(0);
        self.seen.borrow_mut().fill(false);
    }

    pub(super) fn poison(&self) {
        self.bytes.borrow_mut().fill(POISON);
    }

    /// How many bytes the guest copied out more than once.
    pub(super) fn double_reads(&self) -> u64 {
        self.double_reads.get()
    }

    /// From now on, a byte that the guest copies out again has changed meanwhile.
    pub(super) fn lie_at_second_read(&self, lies: bool) {
        self.lies.set(lies);
    }

    pub(super) fn load(&self, word: usize) -> u32 {
        let bytes = self.bytes.borrow();
        let mut value = [0; 4];
        value.copy_from_slice(&bytes[word * 4..word * 4 + 4]);
        u32::from_le_bytes(value)
    }

    pub(super) fn guest_store(&self, word: usize, value: u32) {
        self.guest_write(word * 4, &value.to_le_bytes());
    }

    pub(super) fn guest_read(&self, offset: usize, into: &mut [u8]) {
        self.peer_read(offset, into);
        let mut seen = self.seen.borrow_mut();
        for (byte, seen) in into.iter_mut().zip(&mut seen[offset..]) {
            if *seen {
                self.double_reads.set(self.double_reads.get() + 1);
                if self.lies.get() {
                    *byte ^= 1 + self.random.below(255) as u8;
                }
            }
            *seen = true;
        }
    }

    pub(super) fn guest_write(&self, offset: usize, from: &[u8]) {
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }

    pub(super) fn peer_store(&self, word: usize, value: u32) {
        self.peer_write(word * 4, &value.to_le_bytes());
    }

    pub(super) fn peer_read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes.borrow()[offset..offset + into.len()]);
    }

    pub(super) fn peer_write(&self, offset: usize, from: &[u8]) {
        self.guest_write(offset, from);
        self.seen.borrow_mut()[offset..offset + from.len()].fill(false);
    }
}

/// Plain shared memory, with two sides: clone it, and give one clone to each.
#[derive(Clone)]
pub struct FakePage {
    memory: Rc<Memory>,
}

impl FakePage {
    /// A page of zeroes.
    pub fn zeroed() -> Self {
        Self {
            memory: Memory::zeroed(),
        }
    }
}

impl SharedPage for FakePage {
    fn load(&self, word: usize) -> u32 {
        self.memory.load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.memory.peer_store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.memory.peer_read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.memory.peer_write(offset, from);
    }
}

/// A page on whose other side sits an enemy: every read gives another answer. Words are often
/// close to what was last stored there, so that some checks pass and the code behind them is
/// reached. Counts how often each byte was copied out.
pub struct AdversarialPage {
    memory: Rc<Memory>,
    reads: RefCell<Box<[u32; PAGE_SIZE]>>,
    random: Random,
}

impl AdversarialPage {
    /// A page whose answers depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self {
            memory: Memory::zeroed(),
            reads: RefCell::new(Box::new([0; PAGE_SIZE])),
            random: Random::new(seed),
        }
    }

    /// How often the byte at `offset` was copied out by [`SharedPage::read`].
    ///
    /// # Panics
    /// If `offset >= 4096`.
    pub fn reads(&self, offset: usize) -> u32 {
        self.reads.borrow()[offset]
    }

    /// The highest count of any byte since the last call, which sets all counts to 0.
    pub fn take_most_reads(&self) -> u32 {
        let mut reads = self.reads.borrow_mut();
        let most = reads.iter().copied().max().unwrap_or(0);
        reads.fill(0);
        most
    }
}

impl SharedPage for AdversarialPage {
    fn load(&self, word: usize) -> u32 {
        let stored = self.memory.load(word);
        match self.random.below(4) {
            0 => self.random.next() as u32,
            1 => stored.wrapping_add(self.random.below(300) as u32),
            _ => stored.wrapping_add(self.random.below(3) as u32),
        }
    }

    fn store(&self, word: usize, value: u32) {
        self.memory.guest_store(word, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= PAGE_SIZE, "read beyond the page");
        let mut reads = self.reads.borrow_mut();
        for (byte, reads) in into.iter_mut().zip(&mut reads[offset..]) {
            *byte = self.random.next() as u8;
            *reads += 1;
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.memory.guest_write(offset, from);
    }
}
