//! Protection of records by an AEAD (RFC 5246 section 6.2.3.3, RFC 6347 section 4.1.2.1).
//!
//! ```text
//! nonce   GCM, CCM:  write_IV[4] | explicit[8]             (RFC 5288, RFC 6655)
//!         ChaCha20:  write_IV[12] xor (0[4] | epoch | sequence)      (RFC 7905)
//! AAD     epoch[2] | sequence[6] | type[1] | version[2] | plaintext length[2]
//! record  header[13] | explicit nonce[8 or 0] | ciphertext | tag[16 or 8]
//! ```
//!
//! We send `epoch | sequence` as explicit nonce, which never repeats as sequence numbers do not; a
//! random one could. Received explicit nonces are taken as they come.
//!
//! [`Protection`] is plain data (keys, numbers, window) that could be stored, and a cache of the
//! expanded keys that could be thrown away at any time.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::replay::ReplayWindow;
use super::{ContentType, DTLS_1_2, HEADER_LEN, PLAINTEXT_MAX, RecordHeader, SEQUENCE_MAX};
use crate::crypto::aead::{AeadAlgorithm, AeadKey};
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;

/// Sequence numbers kept back from application data, so that a last alert can always be sent.
const SEQUENCES_RESERVED: u64 = 16;

/// No sequence number is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Exhausted;

/// Key and IV of one direction; the unused tail is zero.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub(in crate::dtls) struct TrafficKey {
    key: [u8; 32],
    iv: [u8; 12],
}

impl TrafficKey {
    /// Takes key and IV of the lengths that `algorithm` needs from the key block; both must be at
    /// least that long.
    pub(in crate::dtls) fn new(algorithm: AeadAlgorithm, key: &[u8], iv: &[u8]) -> Self {
        let mut this = Self::default();
        let (key_len, iv_len) = (algorithm.key_len(), algorithm.fixed_iv_len());
        this.key[..key_len].copy_from_slice(&key[..key_len]);
        this.iv[..iv_len].copy_from_slice(&iv[..iv_len]);
        this
    }

    fn expand(&self, algorithm: AeadAlgorithm) -> AeadKey {
        AeadKey::new(algorithm, &self.key[..algorithm.key_len()])
    }

    /// The nonce of a record with this explicit part.
    fn nonce(&self, algorithm: AeadAlgorithm, explicit: [u8; 8]) -> [u8; 12] {
        let mut nonce = self.iv;
        let tail = nonce.iter_mut().skip(4).zip(explicit);
        if algorithm.explicit_nonce_len() == 0 {
            tail.for_each(|(byte, other)| *byte ^= other);
        } else {
            tail.for_each(|(byte, other)| *byte = other);
        }
        nonce
    }
}

/// The cache: several hundred bytes of key schedules behind it.
struct ExpandedKeys {
    read: AeadKey,
    write: AeadKey,
}

/// The record state of one epoch with keys, in both directions.
pub(in crate::dtls) struct Protection {
    read_key: TrafficKey,
    write_key: TrafficKey,
    expanded: Option<Box<ExpandedKeys>>,
    next_write_sequence: u64,
    window: ReplayWindow,
    /// Records that did not verify since the keys are in use.
    forged: u32,
    suite: CipherSuite,
    epoch: u16,
}

impl Protection {
    /// The state at the start of `epoch`.
    pub(in crate::dtls) fn new(
        suite: CipherSuite,
        epoch: u16,
        read_key: TrafficKey,
        write_key: TrafficKey,
    ) -> Self {
        Self {
            read_key,
            write_key,
            expanded: None,
            next_write_sequence: 0,
            window: ReplayWindow::default(),
            forged: 0,
            suite,
            epoch,
        }
    }

    /// The cipher suite.
    pub(in crate::dtls) const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// The epoch of the keys.
    pub(in crate::dtls) const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The highest sequence number of an authentic record so far.
    pub(in crate::dtls) const fn highest_read_sequence(&self) -> u64 {
        self.window.highest()
    }

    /// Bytes before the plaintext, header included, and behind it.
    pub(in crate::dtls) const fn overhead(&self) -> (usize, usize) {
        let aead = self.suite.aead();
        (HEADER_LEN + aead.explicit_nonce_len(), aead.tag_len())
    }

    /// Throws the cache away.
    pub(in crate::dtls) fn forget_expanded_keys(&mut self) {
        self.expanded = None;
    }

    /// Whether more forgeries were tried than the algorithm can bear, so that the keys must not be
    /// used on.
    ///
    /// The limits are those of RFC 9147 section 4.5.3 for GCM, ChaCha20-Poly1305 (2^36, beyond
    /// what is counted here) and CCM (2^23.5). That section has none for CCM_8, whose 64-bit tag
    /// a forger hits with 2^-64 per try: 2^16 tries keep the chance at 2^-48, and cost an attacker
    /// who only wants to break the connection 65536 datagrams from the peer's very address.
    pub(in crate::dtls) const fn is_worn(&self) -> bool {
        let forgeries_max = match self.suite.aead() {
            AeadAlgorithm::Aes128Gcm
            | AeadAlgorithm::Aes256Gcm
            | AeadAlgorithm::ChaCha20Poly1305 => u32::MAX,
            AeadAlgorithm::Aes128Ccm | AeadAlgorithm::Aes256Ccm => 1 << 23,
            AeadAlgorithm::Aes128Ccm8 | AeadAlgorithm::Aes256Ccm8 => 1 << 16,
        };
        self.forged >= forgeries_max
    }

    /// Seals `record`, which is `prefix | plaintext | suffix` with the lengths of
    /// [`Self::overhead`], in place and uses up one sequence number.
    ///
    /// `Err` when the sequence numbers are used up; those of the last records are kept for alerts.
    /// Panics when `record` is shorter than the overhead or the plaintext is too long.
    pub(in crate::dtls) fn seal(
        &mut self,
        content_type: ContentType,
        record: &mut [u8],
    ) -> Result<(), Exhausted> {
        let sequence = self.next_write_sequence;
        let reserved = if content_type == ContentType::Alert {
            0
        } else {
            SEQUENCES_RESERVED
        };
        if sequence > SEQUENCE_MAX - reserved {
            return Err(Exhausted);
        }
        self.next_write_sequence = sequence + 1;
        let header = RecordHeader {
            content_type,
            version: DTLS_1_2,
            epoch: self.epoch,
            sequence,
        };
        let aead = self.suite.aead();
        let (prefix, suffix) = self.overhead();
        let plaintext_len = record.len() - prefix - suffix;
        assert!(
            plaintext_len <= PLAINTEXT_MAX,
            "a record holds 2^14 bytes of plaintext"
        );
        let (head, rest) = record.split_at_mut(prefix);
        let (plaintext, tag) = rest.split_at_mut(plaintext_len);
        let explicit = header.epoch_and_sequence();
        let fragment_len = prefix - HEADER_LEN + plaintext_len + suffix;
        head[..HEADER_LEN].copy_from_slice(&header.encode(fragment_len));
        head[HEADER_LEN..].copy_from_slice(&explicit[..aead.explicit_nonce_len()]);
        let nonce = self.write_key.nonce(aead, explicit);
        let aad = additional_data(header, plaintext_len);
        self.expanded()
            .write
            .seal_in_place(&nonce, &aad, plaintext, tag);
        Ok(())
    }

    /// Opens `record`, header to tag, in place; `header` is what was read from it. Returns where
    /// in `record` the plaintext lies.
    ///
    /// The window is asked first and marked only after the tag verified (RFC 6347 section
    /// 4.1.2.6); the epoch is the caller's to check. On failure nothing of the record can be used.
    pub(in crate::dtls) fn open(
        &mut self,
        header: RecordHeader,
        record: &mut [u8],
    ) -> Result<std::ops::Range<usize>, DropReason> {
        debug_assert_eq!(header.epoch, self.epoch);
        if header.version != DTLS_1_2 {
            return Err(DropReason::RecordVersion);
        }
        if !self.window.is_new(header.sequence) {
            return Err(DropReason::RecordReplayed);
        }
        let aead = self.suite.aead();
        let (prefix, suffix) = self.overhead();
        let malformed = DropReason::RecordMalformed;
        let plaintext_len = record.len().checked_sub(prefix + suffix).ok_or(malformed)?;
        if plaintext_len > PLAINTEXT_MAX {
            return Err(malformed);
        }
        let (head, sealed) = record.split_at_mut_checked(prefix).ok_or(malformed)?;
        let explicit = match head.get(HEADER_LEN..).and_then(<[u8]>::first_chunk) {
            Some(explicit) => *explicit,
            None => header.epoch_and_sequence(),
        };
        let nonce = self.read_key.nonce(aead, explicit);
        let aad = additional_data(header, plaintext_len);
        if self
            .expanded()
            .read
            .open_in_place(&nonce, &aad, sealed)
            .is_err()
        {
            self.forged = self.forged.saturating_add(1);
            return Err(DropReason::RecordForged);
        }
        self.window.mark(header.sequence);
        Ok(prefix..prefix + plaintext_len)
    }

    fn expanded(&mut self) -> &ExpandedKeys {
        let algorithm = self.suite.aead();
        self.expanded.get_or_insert_with(|| {
            Box::new(ExpandedKeys {
                read: self.read_key.expand(algorithm),
                write: self.write_key.expand(algorithm),
            })
        })
    }
}

impl std::fmt::Debug for Protection {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection")
            .field("suite", &self.suite)
            .field("epoch", &self.epoch)
            .field("next_write_sequence", &self.next_write_sequence)
            .field("window", &self.window)
            .field("forged", &self.forged)
            .finish_non_exhaustive()
    }
}

/// RFC 5246 section 6.2.3.3 with the sequence number of RFC 6347 section 4.1.2.1.
fn additional_data(header: RecordHeader, plaintext_len: usize) -> [u8; HEADER_LEN] {
    let [content_type, v0, v1, rest @ .., l0, l1] = header.encode(plaintext_len);
    let [e0, e1, s0, s1, s2, s3, s4, s5] = rest;
    [e0, e1, s0, s1, s2, s3, s4, s5, content_type, v0, v1, l0, l1]
}

#[cfg(test)]
mod tests;
