//! Checksums of packages, as ThingsBoard announces them (TB section 7.10).
//!
//! ThingsBoard takes CRC32 and Murmur3 from Guava, which prints the bytes of a number from the
//! lowest on; devices compare texts, so that is the form here.

use crate::crypto::fingerprint::to_hex;
use crate::crypto::hash::{Hash, HashContext};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// RFC 1321; finds damage, no forgery.
    #[serde(rename = "MD5")]
    Md5,
    /// FIPS 180.
    #[default]
    #[serde(rename = "SHA256")]
    Sha256,
    /// FIPS 180.
    #[serde(rename = "SHA384")]
    Sha384,
    /// FIPS 180.
    #[serde(rename = "SHA512")]
    Sha512,
    /// That of zip and Ethernet.
    #[serde(rename = "CRC32")]
    Crc32,
    /// MurmurHash3, x86, 32 bits, seed 0.
    #[serde(rename = "MURMUR3_32")]
    Murmur3Of32,
    /// MurmurHash3, x64, 128 bits, seed 0.
    #[serde(rename = "MURMUR3_128")]
    Murmur3Of128,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Md5,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Crc32,
        Self::Murmur3Of32,
        Self::Murmur3Of128,
    ];

    /// ThingsBoard's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Crc32 => "CRC32",
            Self::Murmur3Of32 => "MURMUR3_32",
            Self::Murmur3Of128 => "MURMUR3_128",
        }
    }
}

/// A checksum of bytes that come in pieces.
pub(super) enum Checksum {
    Md5(Md5),
    Sha(HashContext),
    Crc32(u32),
    Murmur3Of32(Blocks<4, Murmur32>),
    Murmur3Of128(Blocks<16, Murmur128>),
}

impl Checksum {
    pub(super) fn new(algorithm: ChecksumAlgorithm) -> Self {
        let sha = |hash| Self::Sha(HashContext::new(hash));
        match algorithm {
            ChecksumAlgorithm::Md5 => Self::Md5(Md5::new()),
            ChecksumAlgorithm::Sha256 => sha(Hash::Sha256),
            ChecksumAlgorithm::Sha384 => sha(Hash::Sha384),
            ChecksumAlgorithm::Sha512 => sha(Hash::Sha512),
            ChecksumAlgorithm::Crc32 => Self::Crc32(u32::MAX),
            ChecksumAlgorithm::Murmur3Of32 => Self::Murmur3Of32(Blocks::default()),
            ChecksumAlgorithm::Murmur3Of128 => Self::Murmur3Of128(Blocks::default()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(state) => state.update(bytes),
            Self::Sha(state) => state.update(bytes),
            Self::Crc32(state) => *state = crc32(*state, bytes),
            Self::Murmur3Of32(state) => state.update(bytes),
            Self::Murmur3Of128(state) => state.update(bytes),
        }
    }

    /// Lower-case hexadecimal.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Md5(state) => to_hex(&state.finalize()),
            Self::Sha(state) => to_hex(state.finish().as_ref()),
            Self::Crc32(state) => to_hex(&(!state).to_le_bytes()),
            Self::Murmur3Of32(state) => to_hex(&state.finish()),
            Self::Murmur3Of128(state) => to_hex(&state.finish()),
        }
    }
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let reduced = value >> 1;
            value = if value & 1 == 1 {
                reduced ^ 0xedb8_8320
            } else {
                reduced
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

fn crc32(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        let index = (state ^ u32::from(*byte)) & 0xff;
        (state >> 8) ^ CRC_TABLE[index as usize]
    })
}

/// A hash that takes blocks of `N` bytes.
pub(super) trait BlockHash<const N: usize>: Default {
    type Output;

    fn block(&mut self, block: &[u8; N]);
    /// The last bytes, fewer than a block, and the length of all.
    fn finish(self, tail: &[u8], length: u64) -> Self::Output;
}

/// Gathers blocks from pieces of any length.
pub(super) struct Blocks<const N: usize, H> {
    hash: H,
    tail: [u8; N],
    filled: usize,
    length: u64,
}

impl<const N: usize, H: BlockHash<N>> Default for Blocks<N, H> {
    fn default() -> Self {
        Self {
            hash: H::default(),
            tail: [0; N],
            filled: 0,
            length: 0,
        }
    }
}

impl<const N: usize, H: BlockHash<N>> Blocks<N, H> {
    fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for &byte in bytes {
            self.tail[self.filled] = byte;
            self.filled += 1;
            if self.filled == N {
                self.hash.block(&self.tail);
                self.filled = 0;
            }
        }
    }

    fn finish(self) -> H::Output {
        self.hash.finish(&self.tail[..self.filled], self.length)
    }
}

/// MurmurHash3_x86_32.
#[derive(Default)]
pub(super) struct Murmur32(u32);

impl Murmur32 {
    fn mixed(k: u32) -> u32 {
        k.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    }
}

impl BlockHash<4> for Murmur32 {
    type Output = [u8; 4];

    fn block(&mut self, block: &[u8; 4]) {
        self.0 ^= Self::mixed(u32::from_le_bytes(*block));
        self.0 = self
            .0
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the hash takes the length modulo 2^32"
    )]
    fn finish(mut self, tail: &[u8], length: u64) -> [u8; 4] {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        // Of nothing this is 0.
        self.0 ^= Self::mixed(u32::from_le_bytes(last));
        let mut h = self.0 ^ length as u32;
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        (h ^ (h >> 16)).to_le_bytes()
    }
}

/// MurmurHash3_x64_128.
#[derive(Default)]
pub(super) struct Murmur128(u64, u64);

impl Murmur128 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;

    fn mixed(block: &[u8; 16]) -> (u64, u64) {
        let (low, high) = block.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let k1 = word(low).wrapping_mul(Self::C1).rotate_left(31);
        let k2 = word(high).wrapping_mul(Self::C2).rotate_left(33);
        (k1.wrapping_mul(Self::C2), k2.wrapping_mul(Self::C1))
    }

    fn final_mix(mut k: u64) -> u64 {
        k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        k ^ (k >> 33)
    }
}

impl BlockHash<16> for Murmur128 {
    type Output = [u8; 16];

    fn block(&mut self, block: &[u8; 16]) {
        let (k1, k2) = Self::mixed(block);
        self.0 = (self.0 ^ k1).rotate_left(27).wrapping_add(self.1);
        self.0 = self.0.wrapping_mul(5).wrapping_add(0x52dc_e729);
        self.1 = (self.1 ^ k2).rotate_left(31).wrapping_add(self.0);
        self.1 = self.1.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }

    fn finish(self, tail: &[u8], length: u64) -> [u8; 16] {
        let mut last = [0; 16];
        last[..tail.len()].copy_from_slice(tail);
        let (k1, k2) = Self::mixed(&last);
        let (mut h1, mut h2) = (self.0 ^ k1 ^ length, self.1 ^ k2 ^ length);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (h1, h2) = (Self::final_mix(h1), Self::final_mix(h2));
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        let mut out = [0; 16];
        out[..8].copy_from_slice(&h1.to_le_bytes());
        out[8..].copy_from_slice(&h2.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(algorithm: ChecksumAlgorithm, bytes: &[u8], piece: usize) -> String {
        let mut checksum = Checksum::new(algorithm);
        for piece in bytes.chunks(piece) {
            checksum.update(piece);
        }
        checksum.finish()
    }

    /// Numbers printed from the lowest byte on, as Guava does.
    #[test]
    fn known_values() {
        let fox = b"The quick brown fox jumps over the lazy dog";
        for (algorithm, text, expected) in [
            (
                ChecksumAlgorithm::Md5,
                &b"abc"[..],
                "900150983cd24fb0d6963f7d28e17f72",
            ),
            (
                ChecksumAlgorithm::Sha256,
                b"abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            // 0xcbf43926.
            (ChecksumAlgorithm::Crc32, b"123456789", "2639f4cb"),
            (ChecksumAlgorithm::Crc32, b"", "00000000"),
            // 0x2e4ff723.
            (ChecksumAlgorithm::Murmur3Of32, fox, "23f74f2e"),
            (ChecksumAlgorithm::Murmur3Of32, b"", "00000000"),
            // Guava's own test of murmur3_128 has these.
            (
                ChecksumAlgorithm::Murmur3Of128,
                fox,
                "6c1b07bc7bbc4be347939ac4a93c437a",
            ),
            (
                ChecksumAlgorithm::Murmur3Of128,
                b"",
                "00000000000000000000000000000000",
            ),
        ] {
            for piece in [1, 3, 16, 64] {
                assert_eq!(
                    of(algorithm, text, piece),
                    expected,
                    "{algorithm:?} {piece}"
                );
            }
        }
    }

    #[test]
    fn names_are_those_of_json() {
        for algorithm in ChecksumAlgorithm::ALL {
            let json = serde_json::to_value(algorithm).unwrap();
            assert_eq!(json, algorithm.name());
        }
    }
}
