//! Memory for what cannot be refused.
//!
//! `Rc::new`, `Arc::new` and `Box::pin` of stable Rust end the guest when there is no memory for them.
//! Whoever asked for a block of the same size before, and gave it back, knows that there is: a guest
//! has one processor, its interrupt handlers allocate nothing, so nobody takes the block in between.

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

/// There is no memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not enough memory")
    }
}

impl core::error::Error for OutOfMemory {}

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// A block that is held until right before something of its size is made.
#[must_use = "a block that is given back at once says nothing about the next"]
pub(crate) struct Room<T>(Vec<T>);

impl<T> Room<T> {
    /// A block for a `Box<T>`.
    pub(crate) fn boxed() -> Result<Self, OutOfMemory> {
        let mut block = Vec::new();
        block.try_reserve_exact(1)?;
        Ok(Self(block))
    }

    /// Gives the block back: the next allocation is to be what it was held for.
    pub(crate) fn release(self) {
        drop(self.0);
    }
}

impl<T> Room<Counted<T>> {
    /// A block for an `Rc<T>` or `Arc<T>`.
    pub(crate) fn counted() -> Result<Self, OutOfMemory> {
        Self::boxed()
    }
}

/// What an `Rc` or `Arc` allocates: two counters before the value. Should that ever change, the tests of
/// failing memory notice.
#[repr(C)]
pub(crate) struct Counted<T> {
    counters: [usize; 2],
    value: T,
}

/// `value` in a box.
pub(crate) fn boxed<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    Room::<T>::boxed()?.release();
    Ok(Box::new(value))
}

/// `value`, to be shared.
pub(crate) fn shared<T>(value: T) -> Result<Rc<T>, OutOfMemory> {
    Room::<Counted<T>>::counted()?.release();
    Ok(Rc::new(value))
}

/// A copy of `bytes`.
pub(crate) fn copy(bytes: &[u8]) -> Result<Vec<u8>, OutOfMemory> {
    let mut copy = with_capacity(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// `length` zeros.
pub(crate) fn zeroed(length: usize) -> Result<Vec<u8>, OutOfMemory> {
    let mut zeros = with_capacity(length)?;
    zeros.resize(length, 0);
    Ok(zeros)
}

/// An empty vector with room for exactly `length` values.
pub(crate) fn with_capacity<T>(length: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(length)?;
    Ok(vector)
}

/// Finds memory for `count` entries of `list` in all.
pub(crate) fn reserve<T>(list: &mut Vec<T>, count: usize) -> Result<(), OutOfMemory> {
    Ok(list.try_reserve(count.saturating_sub(list.len()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(zeroed(isize::MAX as usize), Err(OutOfMemory));
        assert_eq!(zeroed(10).unwrap(), [0; 10]);
        assert_eq!(copy(b"abc").unwrap(), b"abc");
    }
}
