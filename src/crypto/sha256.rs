//! SHA-256 (FIPS 180-4) and HMAC over it (RFC 2104), for what a handshake does many times over a few
//! bytes: there an object of the library for each costs more than the hashing.
//!
//! The compression function is the `sha2` crate's, with the processor's instructions where it has
//! them; its time depends on lengths alone. Everything here lies on the stack.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const BLOCK_LEN: usize = 64;
/// Length of a digest in bytes.
pub(super) const DIGEST_LEN: usize = 32;
/// Where the length stands in the last block.
const LENGTH_AT: usize = BLOCK_LEN - 8;

type State = [u32; 8];

/// FIPS 180-4 section 5.3.3.
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A hash that is being fed.
#[derive(Clone)]
pub(super) struct Sha256 {
    state: State,
    /// The block that is not full yet.
    block: [u8; BLOCK_LEN],
    /// Bytes taken so far.
    length: u64,
}

impl Sha256 {
    /// Nothing hashed yet.
    pub(super) const fn new() -> Self {
        Self::after(INITIAL, 0)
    }

    /// `length` bytes of whole blocks led to `state`.
    const fn after(state: State, length: u64) -> Self {
        Self {
            state,
            block: [0; BLOCK_LEN],
            length,
        }
    }

    /// Bytes in the block that is not full.
    #[expect(clippy::cast_possible_truncation, reason = "less than a block")]
    const fn used(&self) -> usize {
        (self.length % BLOCK_LEN as u64) as usize
    }

    /// Takes more bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let used = self.used();
        self.length += bytes.len() as u64;
        if used > 0 {
            let room = &mut self.block[used..];
            let Some((head, tail)) = bytes.split_at_checked(room.len()) else {
                room[..bytes.len()].copy_from_slice(bytes);
                return;
            };
            room.copy_from_slice(head);
            compress256(&mut self.state, std::slice::from_ref(&self.block));
            bytes = tail;
        }
        let (blocks, rest) = bytes.as_chunks();
        if !blocks.is_empty() {
            compress256(&mut self.state, blocks);
        }
        self.block[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of all bytes taken. What was taken last stays in `self`.
    fn pad(&mut self) -> [u8; DIGEST_LEN] {
        let used = self.used();
        self.block[used] = 0x80;
        self.block[used + 1..].fill(0);
        if used >= LENGTH_AT {
            compress256(&mut self.state, std::slice::from_ref(&self.block));
            self.block.fill(0);
        }
        self.block[LENGTH_AT..].copy_from_slice(&(self.length * 8).to_be_bytes());
        compress256(&mut self.state, std::slice::from_ref(&self.block));
        let mut digest = [0; DIGEST_LEN];
        let (words, _) = digest.as_chunks_mut();
        for (bytes, word) in words.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// The digest of all bytes taken.
    pub(super) fn finish(mut self) -> [u8; DIGEST_LEN] {
        self.pad()
    }
}

/// A key for HMAC-SHA-256, prepared. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct HmacSha256 {
    /// After the block of the inner hash, and of the outer one, that the key makes.
    inner: State,
    outer: State,
}

impl HmacSha256 {
    /// Prepares `key`, of any length.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_LEN]);
        match block.get_mut(..key.len()) {
            Some(start) => start.copy_from_slice(key),
            None => {
                let mut hash = Sha256::new();
                hash.update(key);
                block[..DIGEST_LEN].copy_from_slice(Zeroizing::new(hash.pad()).as_slice());
                hash.block.zeroize();
                hash.state.zeroize();
            }
        }
        let mut this = Self {
            inner: INITIAL,
            outer: INITIAL,
        };
        block.iter_mut().for_each(|byte| *byte ^= 0x36);
        compress256(&mut this.inner, std::slice::from_ref(&*block));
        block.iter_mut().for_each(|byte| *byte ^= 0x36 ^ 0x5c);
        compress256(&mut this.outer, std::slice::from_ref(&*block));
        this
    }

    /// The MAC of `parts`, one behind the other.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
        let mut inner = Sha256::after(self.inner, BLOCK_LEN as u64);
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = Sha256::after(self.outer, BLOCK_LEN as u64);
        outer.update(&inner.pad());
        let mac = outer.pad();
        // All of it came of the key.
        for hash in [&mut inner, &mut outer] {
            hash.state.zeroize();
            hash.block.zeroize();
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::{Hash, digest};
    use super::*;
    use crate::random::{Random, SeededRandom};

    #[test]
    fn the_digest_is_the_librarys_whatever_the_pieces() {
        let mut random = SeededRandom::new(1);
        for length in (0..260).chain([1000, 4096, 5003]) {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            let mut hash = Sha256::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let piece = 1 + usize::try_from(random.below(150)).unwrap();
                let (head, tail) = rest.split_at(piece.min(rest.len()));
                hash.update(head);
                hash.update(&[]);
                rest = tail;
            }
            assert_eq!(hash.clone().finish(), hash.finish());
            let mut whole = Sha256::new();
            whole.update(&bytes);
            assert_eq!(whole.finish(), digest(Hash::Sha256, &bytes).as_ref());
        }
    }

    #[test]
    fn the_mac_is_the_librarys_whatever_the_key() {
        use aws_lc_rs::hmac;
        let mut random = SeededRandom::new(2);
        for key_len in 0..200 {
            let mut key = vec![0; key_len];
            let mut text = vec![0; usize::try_from(random.below(300)).unwrap()];
            random.fill(&mut key);
            random.fill(&mut text);
            let theirs = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &text);
            let (head, tail) = text.split_at(text.len() / 3);
            let key = HmacSha256::new(&key);
            assert_eq!(key.mac(&[head, &[], tail]), theirs.as_ref());
            assert_eq!(key.clone().mac(&[&text]), theirs.as_ref());
        }
    }

    /// RFC 4231 sections 4.3 and 4.7.
    #[test]
    fn known_macs() {
        use super::super::fingerprint::to_hex;
        let mac = HmacSha256::new(b"Jefe").mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            to_hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            to_hex(&HmacSha256::new(&[0xaa; 131]).mac(&[text])),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
