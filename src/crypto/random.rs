//! The operating system's randomness, through the library's generator.

use zeroize::Zeroize;

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

/// The same, drawn a few hundred bytes at a time: a call of the library costs as much for 32 bytes as
/// for all of these. What was handed out is wiped.
pub struct BufferedRandom {
    bytes: Box<[u8; BUFFER_LEN]>,
    /// Bytes that were handed out.
    used: usize,
}

const BUFFER_LEN: usize = 512;

impl Default for BufferedRandom {
    /// Nothing is drawn yet.
    fn default() -> Self {
        Self {
            bytes: Box::new([0; BUFFER_LEN]),
            used: BUFFER_LEN,
        }
    }
}

impl Random for BufferedRandom {
    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// As [`SystemRandom`].
    fn fill(&mut self, bytes: &mut [u8]) {
        if bytes.len() > BUFFER_LEN - self.used {
            if bytes.len() > BUFFER_LEN / 4 {
                return SystemRandom.fill(bytes);
            }
            SystemRandom.fill(&mut *self.bytes);
            self.used = 0;
        }
        let end = self.used + bytes.len();
        let fresh = &mut self.bytes[self.used..end];
        bytes.copy_from_slice(fresh);
        fresh.zeroize();
        self.used = end;
    }
}

impl Drop for BufferedRandom {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for BufferedRandom {
    /// Without the bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BufferedRandom")
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

    /// No byte is handed out twice, nor one that was wiped.
    #[test]
    fn a_buffer_gives_nothing_twice() {
        let mut random = BufferedRandom::default();
        let mut seen = std::collections::HashSet::new();
        for length in (0..20_000).map(|n| 8 + n % 150) {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            for word in bytes.chunks_exact(8) {
                assert!(seen.insert(word.to_vec()) && word != [0; 8]);
            }
        }
        random.fill(&mut []);
        let mut large = [0; 2000];
        random.fill(&mut large);
        assert_ne!(large[1992..], [0; 8]);
        assert!(random.bytes[..random.used].iter().all(|&byte| byte == 0));
    }
}
