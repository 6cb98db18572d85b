//! The operating system's randomness, through the library's generator.

use crate::random::Random;

/// Randomness fit for secrets. Costs about 0.35 us for 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// When the operating system cannot provide randomness: there is no safe way to go on.
    fn fill(&mut self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system provides randomness");
    }
}

/// Draws once and discards it: the library's first draw takes tens of milliseconds, so it is made
/// before the ports open.
pub fn warm_up() {
    SystemRandom.fill(&mut [0; 32]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ() {
        warm_up();
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRandom.fill(&mut a);
        SystemRandom.fill(&mut b);
        assert_ne!(a, b);
        assert_ne!(a, [0; 32]);
    }
}
