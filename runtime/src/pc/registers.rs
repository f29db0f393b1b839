//! Memory-mapped registers of a device.

use core::fmt;
use core::ptr::NonNull;

use pvh_boot::paging;

/// A range of registers, mapped uncached.
pub(crate) struct Registers {
    base: NonNull<u8>,
    length: usize,
}

impl Registers {
    /// Maps the `length` bytes of registers at physical address `start`.
    ///
    /// # Safety
    /// 1. The range holds registers of a device and no memory.
    /// 2. What this crate writes to them makes the device access no memory other than what
    ///    was given to it.
    ///
    /// # Errors
    /// When the range cannot be mapped: it is RAM, or page tables ran out.
    pub(crate) unsafe fn map(start: u64, length: usize) -> Result<Self, paging::MapError> {
        let base = paging::map_device(start, length as u64)?;
        Ok(Self { base, length })
    }

    /// The local interrupt controller, where it is unless somebody moved it, which no firmware
    /// we boot under does.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub(crate) fn local_apic() -> Result<Self, paging::MapError> {
        // SAFETY: 1. the page is the local APIC's on every PC; 2. it accesses no memory.
        unsafe { Self::map(0xfee0_0000, 4096) }
    }

    /// The first I/O interrupt controller.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub(crate) fn io_apic() -> Result<Self, paging::MapError> {
        // SAFETY: 1. the page is the I/O APIC's on every PC; 2. it accesses no memory.
        unsafe { Self::map(0xfec0_0000, 4096) }
    }

    /// Writes the two bytes at `offset`.
    ///
    /// # Panics
    /// Like all accesses: if `offset` is outside the range or not aligned to the access.
    pub(crate) fn write_u16(&self, offset: usize, value: u16) {
        self.write(offset, value);
    }

    /// Reads the four bytes at `offset`.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        self.read(offset)
    }

    /// Writes the four bytes at `offset`.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        self.write(offset, value);
    }

    fn read<T: Copy>(&self, offset: usize) -> T {
        let register = self.register::<T>(offset);
        // SAFETY: the register is mapped and aligned, as `register` checked, and every bit
        // pattern is a value of the integers this is used with.
        unsafe { register.read_volatile() }
    }

    fn write<T: Copy>(&self, offset: usize, value: T) {
        let register = self.register::<T>(offset);
        // SAFETY: the register is mapped and aligned, as `register` checked; by the contract
        // of `map` the write does not reach memory in use.
        unsafe { register.write_volatile(value) };
    }

    fn register<T>(&self, offset: usize) -> NonNull<T> {
        let size = size_of::<T>();
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.length,
            "register {offset:#x} is outside the device"
        );
        // SAFETY: the offset lies inside the mapped range, as just checked.
        unsafe { self.base.byte_add(offset) }.cast()
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Registers({} bytes)", self.length)
    }
}

// SAFETY: registers belong to no thread; there is one processor.
unsafe impl Send for Registers {}
// SAFETY: as above; each access is one volatile instruction.
unsafe impl Sync for Registers {}
