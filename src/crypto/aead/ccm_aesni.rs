//! AES-CCM by AES-NI (RFC 3610; NIST SP 800-38C), for records of a few hundred bytes.
//!
//! CCM encrypts two blocks for each block of text: one chains the MAC, where each encryption waits
//! for the one before, the other makes the key stream, where none waits. Done side by side the second
//! is free, as the processor works on several blocks at a time:
//!
//! ```text
//! lane 1 (MAC)         E(B0)   E(. ^ AAD)   E(. ^ P1)   E(. ^ P2) ...
//! lane 2 (key stream)  E(A0)       E(A1)       E(A2)       E(A3)  ...
//!                      |           |           |
//!                      masks tag   masks P1    masks P2
//!
//! B0  flags | nonce[12] | length[3]        A(i)  2 | nonce[12] | i[3]
//! ```

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si64,
    _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_unpackhi_epi64,
    _mm_xor_si128,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A block as two little-endian halves: plain data that can be wiped.
type Block = [u64; 2];

/// Longest text: its length is a number of three bytes.
const TEXT_MAX: usize = (1 << 24) - 1;
/// Longest additional data whose length is a number of two bytes (RFC 3610 section 2.2).
const AAD_MAX: usize = 0xfeff;

/// An expanded key: 11 round keys for AES-128, 15 for AES-256. That there is one proves that the
/// processor has AES-NI.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct AesNiCcm<const ROUND_KEYS: usize> {
    round_keys: [Block; ROUND_KEYS],
    tag_len: usize,
}

impl AesNiCcm<11> {
    /// Expands a key for tags of 8 or 16 bytes; `None` for others, and without AES-NI.
    pub(super) fn aes_128(key: &[u8; 16], tag_len: usize) -> Option<Self> {
        if !is_available(tag_len) {
            return None;
        }
        // SAFETY: the processor was asked for AES-NI just now.
        let round_keys = unsafe { expand_128(key) };
        Some(Self {
            round_keys,
            tag_len,
        })
    }
}

impl AesNiCcm<15> {
    /// The same for a key of 32 bytes.
    pub(super) fn aes_256(key: &[u8; 32], tag_len: usize) -> Option<Self> {
        if !is_available(tag_len) {
            return None;
        }
        // SAFETY: the processor was asked for AES-NI just now.
        let round_keys = unsafe { expand_256(key) };
        Some(Self {
            round_keys,
            tag_len,
        })
    }
}

fn is_available(tag_len: usize) -> bool {
    matches!(tag_len, 8 | 16) && std::arch::is_x86_feature_detected!("aes")
}

impl<const ROUND_KEYS: usize> AesNiCcm<ROUND_KEYS> {
    /// Encrypts `in_out` and writes the tag; `None` when a length cannot be.
    pub(super) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        if tag.len() != self.tag_len {
            return None;
        }
        self.check(aad, in_out)?;
        // SAFETY: a key of this type exists only where there is AES-NI.
        let full = unsafe { self.transform::<true>(nonce, aad, in_out) };
        tag.copy_from_slice(full.get(..self.tag_len)?);
        Some(())
    }

    /// Decrypts `in_out`; `None` when `tag` is not right.
    pub(super) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        self.check(aad, in_out)?;
        // SAFETY: a key of this type exists only where there is AES-NI.
        let full = unsafe { self.transform::<false>(nonce, aad, in_out) };
        verify_slices_are_equal(full.get(..self.tag_len)?, tag).ok()
    }

    fn check(&self, aad: &[u8], text: &[u8]) -> Option<()> {
        (aad.len() <= AAD_MAX && text.len() <= TEXT_MAX).then_some(())
    }

    /// Encrypts or decrypts `in_out` and returns the whole tag of the plaintext.
    #[target_feature(enable = "aes")]
    fn transform<const SEAL: bool>(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
    ) -> [u8; 16] {
        let keys = self.round_keys.map(|key| load(key));
        let (first, counter) = first_blocks(nonce, aad, in_out.len(), self.tag_len);
        let (mut mac, tag_mask) = encrypt_two(&keys, load(first), load(counter));
        let mut next_counter = 1;
        // Of several blocks of additional data only the last has a block of key stream beside it.
        let mut blocks = AadBlocks::new(aad);
        let mut block = blocks.next();
        let mut mask = _mm_setzero_si128();
        while let Some(current) = block {
            block = blocks.next();
            mac = _mm_xor_si128(mac, load(current));
            if block.is_some() {
                mac = encrypt_one(&keys, mac);
            } else {
                (mac, mask) = encrypt_two(&keys, mac, load(count(counter, next_counter)));
                next_counter += 1;
            }
        }
        if next_counter == 1 {
            mask = encrypt_one(&keys, load(count(counter, 1)));
            next_counter = 2;
        }
        let mut chunks = in_out.chunks_exact_mut(16);
        for chunk in &mut chunks {
            let Ok(whole) = <&mut [u8; 16]>::try_from(chunk) else {
                break;
            };
            let text = load(to_block(*whole));
            let masked = _mm_xor_si128(text, mask);
            *whole = store(masked);
            mac = _mm_xor_si128(mac, if SEAL { text } else { masked });
            (mac, mask) = encrypt_two(&keys, mac, load(count(counter, next_counter)));
            next_counter += 1;
        }
        let last = chunks.into_remainder();
        if !last.is_empty() {
            let mut bytes = [0; 16];
            bytes[..last.len()].copy_from_slice(last);
            let mut masked = store(_mm_xor_si128(load(to_block(bytes)), mask));
            last.copy_from_slice(&masked[..last.len()]);
            // The mask reaches beyond the text's end; the MAC is over zeros there.
            masked[last.len()..].fill(0);
            let plain = if SEAL { bytes } else { masked };
            mac = encrypt_one(&keys, _mm_xor_si128(mac, load(to_block(plain))));
        }
        store(_mm_xor_si128(mac, tag_mask))
    }
}

/// The first block of the MAC and that of the key stream (RFC 3610 sections 2.2 and 2.3).
fn first_blocks(nonce: &[u8; 12], aad: &[u8], text_len: usize, tag_len: usize) -> (Block, Block) {
    // Three bytes of length, minus one.
    const COUNTER_FLAGS: u8 = 2;
    let with_aad = if aad.is_empty() { 0 } else { 0x40 };
    let tag_flags = if tag_len == 16 { 7 << 3 } else { 3 << 3 };
    let [.., high, middle, low] = text_len.to_be_bytes();
    let mut first = [0; 16];
    first[0] = with_aad | tag_flags | COUNTER_FLAGS;
    first[1..13].copy_from_slice(nonce);
    first[13..].copy_from_slice(&[high, middle, low]);
    let mut counter = [0; 16];
    counter[0] = COUNTER_FLAGS;
    counter[1..13].copy_from_slice(nonce);
    (to_block(first), to_block(counter))
}

/// The counter block with this number in its last three bytes, which are zero in `block`.
fn count(block: Block, number: u64) -> Block {
    [block[0], block[1] | number.swap_bytes()]
}

/// Additional data with its length in front, in blocks filled up with zeros.
struct AadBlocks<'a> {
    aad: &'a [u8],
    at_start: bool,
}

impl<'a> AadBlocks<'a> {
    fn new(aad: &'a [u8]) -> Self {
        Self {
            aad,
            at_start: !aad.is_empty(),
        }
    }
}

impl Iterator for AadBlocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let mut bytes = [0; 16];
        let mut room = &mut bytes[..];
        if self.at_start {
            self.at_start = false;
            let [.., high, low] = self.aad.len().to_be_bytes();
            (room[0], room[1]) = (high, low);
            room = &mut room[2..];
        } else if self.aad.is_empty() {
            return None;
        }
        let (taken, rest) = self.aad.split_at(room.len().min(self.aad.len()));
        room[..taken.len()].copy_from_slice(taken);
        self.aad = rest;
        Some(to_block(bytes))
    }
}

#[inline]
fn to_block(bytes: [u8; 16]) -> Block {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u64::from_le_bytes([i, j, k, l, m, n, o, p]),
    ]
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(block: Block) -> __m128i {
    _mm_set_epi64x(block[1].cast_signed(), block[0].cast_signed())
}

#[target_feature(enable = "sse2")]
#[inline]
fn to_halves(register: __m128i) -> Block {
    let high = _mm_unpackhi_epi64(register, register);
    [
        _mm_cvtsi128_si64(register).cast_unsigned(),
        _mm_cvtsi128_si64(high).cast_unsigned(),
    ]
}

#[target_feature(enable = "sse2")]
#[inline]
fn store(register: __m128i) -> [u8; 16] {
    let [low, high] = to_halves(register);
    (u128::from(low) | (u128::from(high) << 64)).to_le_bytes()
}

/// Encrypts two blocks side by side.
#[target_feature(enable = "aes")]
#[inline]
fn encrypt_two<const ROUND_KEYS: usize>(
    keys: &[__m128i; ROUND_KEYS],
    mut a: __m128i,
    mut b: __m128i,
) -> (__m128i, __m128i) {
    a = _mm_xor_si128(a, keys[0]);
    b = _mm_xor_si128(b, keys[0]);
    for key in &keys[1..ROUND_KEYS - 1] {
        a = _mm_aesenc_si128(a, *key);
        b = _mm_aesenc_si128(b, *key);
    }
    let last = keys[ROUND_KEYS - 1];
    (_mm_aesenclast_si128(a, last), _mm_aesenclast_si128(b, last))
}

#[target_feature(enable = "aes")]
#[inline]
fn encrypt_one<const ROUND_KEYS: usize>(
    keys: &[__m128i; ROUND_KEYS],
    mut block: __m128i,
) -> __m128i {
    block = _mm_xor_si128(block, keys[0]);
    for key in &keys[1..ROUND_KEYS - 1] {
        block = _mm_aesenc_si128(block, *key);
    }
    _mm_aesenclast_si128(block, keys[ROUND_KEYS - 1])
}

/// A word of a round key is the sum of all words before it in the round key that it comes from.
#[target_feature(enable = "sse2")]
fn running_sum(mut key: __m128i) -> __m128i {
    key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
    _mm_xor_si128(key, _mm_slli_si128::<8>(key))
}

/// FIPS 197 section 5.2 for a key of 16 bytes.
#[target_feature(enable = "aes")]
fn expand_128(key: &[u8; 16]) -> [Block; 11] {
    let mut keys = [[0; 2]; 11];
    let mut current = load(to_block(*key));
    keys[0] = to_halves(current);
    macro_rules! round {
        ($index:literal, $constant:literal) => {
            let assist = _mm_aeskeygenassist_si128::<$constant>(current);
            let word = _mm_shuffle_epi32::<0xff>(assist);
            current = _mm_xor_si128(running_sum(current), word);
            keys[$index] = to_halves(current);
        };
    }
    round!(1, 0x01);
    round!(2, 0x02);
    round!(3, 0x04);
    round!(4, 0x08);
    round!(5, 0x10);
    round!(6, 0x20);
    round!(7, 0x40);
    round!(8, 0x80);
    round!(9, 0x1b);
    round!(10, 0x36);
    keys
}

/// FIPS 197 section 5.2 for a key of 32 bytes: round keys come in pairs.
#[target_feature(enable = "aes")]
fn expand_256(key: &[u8; 32]) -> [Block; 15] {
    let (first, second) = key.split_at(16);
    let half = |bytes: &[u8]| to_block(bytes.try_into().unwrap_or_default());
    let mut keys = [[0; 2]; 15];
    let (mut even, mut odd) = (load(half(first)), load(half(second)));
    keys[0] = to_halves(even);
    keys[1] = to_halves(odd);
    macro_rules! even {
        ($index:literal, $constant:literal) => {
            let assist = _mm_aeskeygenassist_si128::<$constant>(odd);
            even = _mm_xor_si128(running_sum(even), _mm_shuffle_epi32::<0xff>(assist));
            keys[$index] = to_halves(even);
        };
    }
    macro_rules! odd {
        ($index:literal) => {
            let assist = _mm_aeskeygenassist_si128::<0>(even);
            odd = _mm_xor_si128(running_sum(odd), _mm_shuffle_epi32::<0xaa>(assist));
            keys[$index] = to_halves(odd);
        };
    }
    even!(2, 0x01);
    odd!(3);
    even!(4, 0x02);
    odd!(5);
    even!(6, 0x04);
    odd!(7);
    even!(8, 0x08);
    odd!(9);
    even!(10, 0x10);
    odd!(11);
    even!(12, 0x20);
    odd!(13);
    even!(14, 0x40);
    keys
}
