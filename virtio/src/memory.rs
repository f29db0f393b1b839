//! Memory that a device sees.

use alloc::vec::Vec;

/// Bytes of a buffer: a page.
pub const BUFFER: usize = 4096;

/// Memory that the device reads and writes as well. It is never borrowed, only copied.
///
/// # Panics
/// All accesses panic outside of the memory: a mistake of the caller, never the device's doing.
pub trait DeviceMemory: Sized {
    /// `bytes` of zeroed memory in one piece, aligned to 4096 bytes; `None` if there is none.
    /// It stays the device's and is never used for anything else.
    fn allocate(bytes: usize) -> Option<Self>;

    /// Where the device sees the first byte.
    fn address(&self) -> u64;

    /// Reads the number at an even `offset`, by one acquiring load.
    fn load_u16(&self, offset: usize) -> u16;

    /// Writes the number at an even `offset`, by one releasing store.
    fn store_u16(&self, offset: usize, value: u16);

    /// Copies bytes out.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// Copies `length` bytes to the end of `into`.
    fn append(&self, offset: usize, length: usize, into: &mut Vec<u8>);

    /// Copies bytes in.
    fn write(&self, offset: usize, from: &[u8]);
}
