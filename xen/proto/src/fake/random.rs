//! Numbers that look random and are the same in each run.

use core::cell::Cell;

/// A small generator (xorshift64*), for tests only.
#[derive(Clone, Debug)]
pub struct Random {
    state: Cell<u64>,
}

impl Random {
    /// A generator whose numbers depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        let scrambled = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        Self {
            state: Cell::new(scrambled | 1),
        }
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut state = self.state.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.state.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number, below `limit`.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&self, limit: u64) -> u64 {
        self.next() % limit
    }
}
