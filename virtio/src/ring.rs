//! Where the parts of a ring are, and when one side is to tell the other.

/// Bytes of a descriptor: address, length, flags, next.
const DESCRIPTOR: usize = 16;
/// Bytes of an entry of the used ring: head, length.
const USED_ENTRY: usize = 8;
/// What the parts of a ring of the oldest kind are aligned to; good for newer ones too.
const ALIGNMENT: usize = 4096;

/// Offsets of the parts of a ring in its memory (virtio 1.2, 2.7.2; the distances are those
/// that legacy devices demand).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    size: u16,
    /// The available ring, which the driver writes.
    pub available: usize,
    /// The used ring, which the device writes.
    pub used: usize,
    /// Bytes in all.
    pub bytes: usize,
}

impl Places {
    /// For a ring of `size` descriptors.
    pub fn new(size: u16) -> Self {
        let count = usize::from(size);
        let available = DESCRIPTOR * count;
        let used = (available + 6 + 2 * count).next_multiple_of(ALIGNMENT);
        let bytes = (used + 6 + USED_ENTRY * count).next_multiple_of(ALIGNMENT);
        Self {
            size,
            available,
            used,
            bytes,
        }
    }

    pub(crate) fn descriptor(&self, number: u16) -> usize {
        DESCRIPTOR * usize::from(number)
    }

    pub(crate) fn available_flags(&self) -> usize {
        self.available
    }

    pub(crate) fn available_index(&self) -> usize {
        self.available + 2
    }

    pub(crate) fn available_entry(&self, index: u16) -> usize {
        self.available + 4 + 2 * self.slot(index)
    }

    /// Where the driver says at which used entry it wants an interrupt.
    pub(crate) fn used_event(&self) -> usize {
        self.available + 4 + 2 * usize::from(self.size)
    }

    pub(crate) fn used_flags(&self) -> usize {
        self.used
    }

    pub(crate) fn used_index(&self) -> usize {
        self.used + 2
    }

    pub(crate) fn used_entry(&self, index: u16) -> usize {
        self.used + 4 + USED_ENTRY * self.slot(index)
    }

    /// Where the device says at which available entry it wants a notification.
    pub(crate) fn available_event(&self) -> usize {
        self.used + 4 + USED_ENTRY * usize::from(self.size)
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }
}

/// Whether the step of an index from `old` to `new` passed the entry `event` (virtio 1.2,
/// 2.7.7.2). Indices wrap.
pub(crate) fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
