//! Memory that is used again: what an answered request took serves the next one.

/// Buffers kept at most.
const SPARES_MAX: usize = 1024;
/// Longest buffer that is kept, in bytes: as long as nearly all requests. With [`SPARES_MAX`] of
/// them it is a mebibyte.
const SPARE_BYTES_MAX: usize = 1024;

/// Empty buffers that have memory, a bounded number of them, last in first out.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    spares: Vec<Vec<u8>>,
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
}
