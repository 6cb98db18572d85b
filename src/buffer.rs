//! Memory that is used again: what an answered request took serves the next one.

/// Buffers kept at most.
const SPARES_MAX: usize = 1024;
/// Longest buffer that is kept, in bytes: as long as nearly all requests. With [`SPARES_MAX`] of
/// them it is a mebibyte.
const SPARE_BYTES_MAX: usize = 1024;

/// Bytes of bodies that come or are fetched in blocks, of all peers together.
const CLAIMED_MAX: usize = 16 << 20;
/// With less of them left, those that have them and do not go on give way.
const HEADROOM: usize = 1 << 20;

/// Empty buffers that have memory, a bounded number of them, last in first out; and the budget for
/// requests that are not complete yet.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    spares: Vec<Vec<u8>>,
    claimed: usize,
}

impl SpareBuffers {
    /// An empty buffer, with memory if there is a spare one.
    pub fn take(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    /// Keeps the memory of `buffer`, unless there is none, too much, or enough already.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        if (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) && self.spares.len() < SPARES_MAX {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// Claims memory for a request in blocks, to be given back by [`Self::release`]; `false` when the
    /// budget is spent.
    pub const fn claim(&mut self, bytes: usize) -> bool {
        let is_left = bytes <= CLAIMED_MAX - self.claimed;
        if is_left {
            self.claimed += bytes;
        }
        is_left
    }

    /// Gives memory back that was claimed.
    pub const fn release(&mut self, bytes: usize) {
        self.claimed = self.claimed.saturating_sub(bytes);
    }

    /// Whether so little is left of the budget that somebody has to give way.
    pub const fn is_scarce(&self) -> bool {
        CLAIMED_MAX - self.claimed < HEADROOM
    }

    /// Bytes that are claimed.
    pub const fn claimed(&self) -> usize {
        self.claimed
    }

    /// Buffers that are kept.
    pub const fn len(&self) -> usize {
        self.spares.len()
    }

    /// Whether none is kept.
    pub const fn is_empty(&self) -> bool {
        self.spares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty_and_within_bounds() {
        let mut buffers = SpareBuffers::default();
        assert_eq!(buffers.take().capacity(), 0);
        buffers.put(Vec::new());
        buffers.put(vec![1; SPARE_BYTES_MAX + 1]);
        assert!(buffers.is_empty(), "nothing of use, or too long");
        for _ in 0..SPARES_MAX + 5 {
            buffers.put(vec![7; 100]);
        }
        assert_eq!(buffers.len(), SPARES_MAX);
        let buffer = buffers.take();
        assert_eq!((buffer.len(), buffer.capacity()), (0, 100));
    }

    #[test]
    fn claims_are_bounded() {
        let mut buffers = SpareBuffers::default();
        assert!(buffers.claim(CLAIMED_MAX - 5) && buffers.claim(5));
        assert!(!buffers.claim(1));
        assert!(buffers.is_scarce());
        buffers.release(7);
        assert!(!buffers.claim(8) && buffers.claim(7));
        assert_eq!(buffers.claimed(), CLAIMED_MAX);
        buffers.release(HEADROOM);
        assert!(!buffers.is_scarce());
    }
}
