//! Seeds from the processor's own source of randomness.

use rekernel_core::platform::NoEntropy;

use crate::processor;

/// Attempts per word before the source counts as failed. Intel's guide for RDRAND asks for
/// ten; RDSEED may run dry under load and recovers in microseconds, hence more.
const ATTEMPTS: usize = 128;

/// Fills `seed` from RDSEED, or RDRAND where there is no RDSEED or it stays dry.
///
/// # Errors
/// [`NoEntropy`], with `seed` unchanged.
pub(crate) fn fill(seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
    let mut fresh = [0; 32];
    for word in fresh.chunks_exact_mut(8) {
        word.copy_from_slice(&next_word()?.to_le_bytes());
    }
    // Early AMD firmware made RDRAND answer all ones, successfully, after a resume.
    if fresh == [0xff; 32] || fresh == [0; 32] {
        return Err(NoEntropy);
    }
    *seed = fresh;
    Ok(())
}

fn next_word() -> Result<u64, NoEntropy> {
    let attempts = || core::iter::repeat_n((), ATTEMPTS);
    attempts()
        .find_map(|()| processor::random_seed())
        .or_else(|| attempts().find_map(|()| processor::random_number()))
        .ok_or(NoEntropy)
}
