//! AES-CCM with the 12-byte nonce of RFC 6655, by AES-NI where the processor has it.

use ::ccm::aead::inout::InOutBuf;
use ::ccm::consts::{U8, U12, U16};
use ::ccm::{AeadInOut, Ccm, KeyInit};
use aes::{Aes128Enc, Aes256Enc};

#[cfg(target_arch = "x86_64")]
use super::ccm_aesni::AesNiCcm;

/// An expanded key with the length of its tags; in place, as most sessions expand one for each record
/// and throw it away, which should cost no allocation.
pub(super) enum CcmKey {
    #[cfg(target_arch = "x86_64")]
    AesNi128(AesNiCcm<11>),
    #[cfg(target_arch = "x86_64")]
    AesNi256(AesNiCcm<15>),
    Portable(Portable),
}

/// The same by the `ccm` crate, which is right on every processor; on the heap, as it has room for every
/// way to expand a key.
pub(super) enum Portable {
    Aes128(Box<Ccm<Aes128Enc, U16, U12>>),
    Aes256(Box<Ccm<Aes256Enc, U16, U12>>),
    Aes128Short(Box<Ccm<Aes128Enc, U8, U12>>),
    Aes256Short(Box<Ccm<Aes256Enc, U8, U12>>),
}

impl CcmKey {
    /// Expands a key of 16 or 32 bytes for tags of 8 or 16; `None` for other lengths.
    pub(super) fn new(key: &[u8], tag_len: usize) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if let Some(expanded) = Self::aes_ni(key, tag_len) {
            return Some(expanded);
        }
        Portable::new(key, tag_len).map(Self::Portable)
    }

    #[cfg(target_arch = "x86_64")]
    fn aes_ni(key: &[u8], tag_len: usize) -> Option<Self> {
        match key.len() {
            16 => AesNiCcm::aes_128(key.try_into().ok()?, tag_len).map(Self::AesNi128),
            32 => AesNiCcm::aes_256(key.try_into().ok()?, tag_len).map(Self::AesNi256),
            _ => None,
        }
    }

    /// Encrypts `in_out` and writes the tag; `None` when it is too long, or `tag` of another length.
    pub(super) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AesNi128(key) => key.seal(nonce, aad, in_out, tag),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi256(key) => key.seal(nonce, aad, in_out, tag),
            Self::Portable(key) => key.seal(nonce, aad, in_out, tag),
        }
    }

    /// Decrypts `in_out`; `None` when `tag` is not right, whatever is in `in_out` then. The comparison
    /// is constant in time.
    pub(super) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AesNi128(key) => key.open(nonce, aad, in_out, tag),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi256(key) => key.open(nonce, aad, in_out, tag),
            Self::Portable(key) => key.open(nonce, aad, in_out, tag),
        }
    }
}

impl Portable {
    pub(super) fn new(key: &[u8], tag_len: usize) -> Option<Self> {
        Some(match (key.len(), tag_len) {
            (16, 16) => Self::Aes128(Box::new(Ccm::new_from_slice(key).ok()?)),
            (32, 16) => Self::Aes256(Box::new(Ccm::new_from_slice(key).ok()?)),
            (16, 8) => Self::Aes128Short(Box::new(Ccm::new_from_slice(key).ok()?)),
            (32, 8) => Self::Aes256Short(Box::new(Ccm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    pub(super) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        match self {
            Self::Aes128(key) => seal(&**key, nonce, aad, in_out, tag),
            Self::Aes256(key) => seal(&**key, nonce, aad, in_out, tag),
            Self::Aes128Short(key) => seal(&**key, nonce, aad, in_out, tag),
            Self::Aes256Short(key) => seal(&**key, nonce, aad, in_out, tag),
        }
    }

    pub(super) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        match self {
            Self::Aes128(key) => open(&**key, nonce, aad, in_out, tag),
            Self::Aes256(key) => open(&**key, nonce, aad, in_out, tag),
            Self::Aes128Short(key) => open(&**key, nonce, aad, in_out, tag),
            Self::Aes256Short(key) => open(&**key, nonce, aad, in_out, tag),
        }
    }
}

fn seal<C: AeadInOut<NonceSize = U12>>(
    key: &C,
    nonce: &[u8; 12],
    aad: &[u8],
    in_out: &mut [u8],
    tag: &mut [u8],
) -> Option<()> {
    let sealed = key
        .encrypt_inout_detached(&(*nonce).into(), aad, InOutBuf::from(in_out))
        .ok()?;
    if tag.len() != sealed.len() {
        return None;
    }
    tag.copy_from_slice(&sealed);
    Some(())
}

fn open<C: AeadInOut<NonceSize = U12>>(
    key: &C,
    nonce: &[u8; 12],
    aad: &[u8],
    in_out: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    // The comparison of tags inside is constant in time.
    let tag = tag.try_into().ok()?;
    key.decrypt_inout_detached(&(*nonce).into(), aad, InOutBuf::from(in_out), tag)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the processor offers gives the bytes of the portable implementation, and opens
        /// what that sealed.
        #[test]
        fn both_implementations_agree(
            key in prop::collection::vec(any::<u8>(), 32),
            long_key in any::<bool>(),
            tag_len in prop::sample::select(vec![8_usize, 16]),
            nonce in any::<[u8; 12]>(),
            aad in prop::collection::vec(any::<u8>(), 0..320),
            plain in prop::collection::vec(any::<u8>(), 0..320),
            flipped in any::<prop::sample::Index>(),
        ) {
            let key = if long_key { &key[..] } else { &key[..16] };
            let ours = CcmKey::new(key, tag_len).unwrap();
            let portable = Portable::new(key, tag_len).unwrap();
            let (mut sealed, mut expected) = (plain.clone(), plain.clone());
            let (mut tag, mut expected_tag) = (vec![0; tag_len], vec![0; tag_len]);
            ours.seal(&nonce, &aad, &mut sealed, &mut tag).unwrap();
            portable.seal(&nonce, &aad, &mut expected, &mut expected_tag).unwrap();
            prop_assert_eq!(&sealed, &expected);
            prop_assert_eq!(&tag, &expected_tag);

            let mut opened = sealed.clone();
            prop_assert!(ours.open(&nonce, &aad, &mut opened, &tag).is_some());
            prop_assert_eq!(&opened, &plain);

            // One bit anywhere in ciphertext, tag or additional data.
            let at = flipped.index(sealed.len() + tag.len() + aad.len());
            let (mut sealed, mut tag, mut aad) = (sealed, tag, aad);
            let mut all = sealed.iter_mut().chain(&mut tag).chain(&mut aad);
            *all.nth(at).unwrap() ^= 1;
            prop_assert!(ours.open(&nonce, &aad, &mut sealed, &tag).is_none());
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for (key_len, tag_len) in [(15, 8), (24, 16), (16, 4), (32, 0), (0, 16)] {
            assert!(CcmKey::new(&vec![0; key_len], tag_len).is_none());
        }
        let key = CcmKey::new(&[7; 16], 8).unwrap();
        assert!(key.seal(&[0; 12], b"", &mut [0; 4], &mut [0; 16]).is_none());
        assert!(key.open(&[0; 12], b"", &mut [0; 4], &[0; 4]).is_none());
        let mut long = vec![0; 1 << 24];
        assert!(key.seal(&[0; 12], b"", &mut long, &mut [0; 8]).is_none());
    }
}
