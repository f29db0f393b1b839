//! Random numbers fit for keys: a ChaCha20 generator seeded by the platform's entropy source.
//!
//! There is no weaker generator behind it: without a hardware source, [`fill`] fails, and so
//! must whoever needed secrets.

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

pub use crate::platform::NoEntropy;

use crate::context;
use crate::platform::Platform;

/// Fills `bytes` with random numbers fit for cryptographic keys.
///
/// The generator is re-keyed from its own output afterwards, so that whoever reads its state
/// later cannot compute what it gave before.
///
/// # Errors
/// [`NoEntropy`]: the platform has no source of entropy; `bytes` is unchanged.
///
/// # Panics
/// Outside of a running runtime.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    let runtime = context::current();
    runtime.random.borrow_mut().fill(bytes, runtime.platform)
}

/// Forgets the generator's state and seeds it anew: for a guest that was resumed from an image
/// which may be resumed a second time.
///
/// # Errors
/// [`NoEntropy`]: from here on [`fill`] fails until the platform has entropy again.
///
/// # Panics
/// Outside of a running runtime.
pub fn reseed() -> Result<(), NoEntropy> {
    let runtime = context::current();
    runtime.random.borrow_mut().reseed(runtime.platform)
}

/// Random numbers for the network stack: hash keys, port numbers, sequence numbers.
///
/// A stack without entropy is worse than one with, but better than none: it falls back to a
/// seed made of the clocks, and says so loudly, once.
pub(crate) fn network_u64() -> u64 {
    let runtime = context::current();
    let mut generator = runtime.random.borrow_mut();
    generator.network_u64(runtime.platform)
}

/// The generator of one runtime, seeded on first use.
pub(crate) struct Generator {
    strong: Option<ChaCha20Rng>,
    fallback: Option<ChaCha20Rng>,
}

impl Generator {
    pub(crate) fn new() -> Self {
        Self {
            strong: None,
            fallback: None,
        }
    }

    fn fill(&mut self, bytes: &mut [u8], platform: &dyn Platform) -> Result<(), NoEntropy> {
        let generator = self.strong(platform)?;
        generator.fill_bytes(bytes);
        let mut key = [0; 32];
        generator.fill_bytes(&mut key);
        *generator = ChaCha20Rng::from_seed(key);
        Ok(())
    }

    fn reseed(&mut self, platform: &dyn Platform) -> Result<(), NoEntropy> {
        self.strong = None;
        self.fallback = None;
        self.strong(platform).map(|_| ())
    }

    fn strong(&mut self, platform: &dyn Platform) -> Result<&mut ChaCha20Rng, NoEntropy> {
        if self.strong.is_none() {
            let mut seed = [0; 32];
            platform.entropy(&mut seed)?;
            self.strong = Some(ChaCha20Rng::from_seed(seed));
        }
        self.strong.as_mut().ok_or(NoEntropy)
    }

    fn network_u64(&mut self, platform: &dyn Platform) -> u64 {
        if let Ok(generator) = self.strong(platform) {
            return generator.next_u64();
        }
        self.fallback
            .get_or_insert_with(|| {
                log::error!(
                    target: "random",
                    "no entropy: {NoEntropy}; the network stack's port and sequence numbers can be \
                     guessed, and nothing that needs secrets will work"
                );
                ChaCha20Rng::from_seed(clock_seed(platform))
            })
            .next_u64()
    }
}

impl fmt::Debug for Generator {
    /// Never shows the state.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Generator")
            .field("seeded", &self.strong.is_some())
            .finish_non_exhaustive()
    }
}

/// The best seed there is without entropy: guessable, but different from boot to boot.
fn clock_seed(platform: &dyn Platform) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&platform.now().as_nanos().to_le_bytes());
    let wall_clock = platform.wall_clock().unwrap_or_default();
    seed[16..].copy_from_slice(&wall_clock.as_nanos().to_le_bytes());
    seed
}
