//! Protection of records by an AEAD (RFC 5246 section 6.2.3.3, RFC 6347 section 4.1.2.1).
//!
//! ```text
//! nonce   GCM, CCM:  write_IV[4] | explicit[8]             (RFC 5288, RFC 6655)
//!         ChaCha20:  write_IV[12] xor (0[4] | epoch | sequence)      (RFC 7905)
//! AAD     epoch[2] | sequence[6] | type[1] | version[2] | plaintext length[2]
//! record  header[13] | explicit nonce[8 or 0] | ciphertext | tag[16 or 8]
//! ```
//!
//! With a connection id of n bytes in a direction (RFC 9146 section 4 and 5.3):
//!
//! ```text
//! AAD     ff[8] | 25 | n | 25 | version[2] | epoch[2] | sequence[6] | cid[n] | inner length[2]
//! inner   content | real type[1] | zeros
//! record  header[13 + n] | explicit nonce[8 or 0] | encrypted inner | tag[16 or 8]
//! ```
//!
//! We send `epoch | sequence` as explicit nonce, which never repeats as sequence numbers do not; a
//! random one could. Received explicit nonces are taken as they come.
//!
//! [`Protection`] is plain data (keys, numbers, window) that could be stored, and the expanded keys of
//! one that is used often, which could be thrown away at any time: others expand a key for each record.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::replay::ReplayWindow;
use super::{
    CID_LEN_MAX, CID_OFFSET, ContentType, DTLS_1_2, HEADER_LEN, PLAINTEXT_MAX, RecordHeader,
    SEQUENCE_MAX,
};
use crate::crypto::aead::{AeadAlgorithm, AeadKey};
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::dtls::connection_id::ConnectionIds;
use crate::dtls::routability::ROUTABILITY_LEN;
use crate::wire::DatagramSink;

/// Sequence numbers kept back from application data, so that a last alert can always be sent.
const SEQUENCES_RESERVED: u64 = 16;

/// Padding that a peer may add to a record of the longest plaintext, with the real type.
const PADDING_MAX: usize = 256;
/// Longest additional data.
const CID_AAD_MAX: usize = 23 + CID_LEN_MAX;
/// Most bytes before the plaintext of a record, and behind it.
pub(in crate::dtls) const OVERHEAD_MAX: (usize, usize) = (HEADER_LEN + CID_LEN_MAX + 8, 1 + 16);
/// Longest content of an alert or of a message of the return routability check.
const SMALL_MAX: usize = ROUTABILITY_LEN;

/// A record that was authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Opened {
    /// What it carries; never [`ContentType::ConnectionId`].
    pub(in crate::dtls) content_type: ContentType,
    /// Where the content lies in the record.
    pub(in crate::dtls) range: std::ops::Range<usize>,
}

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
}

/// The nonce of a record with this explicit part.
fn nonce(algorithm: AeadAlgorithm, iv: [u8; 12], explicit: [u8; 8]) -> [u8; 12] {
    let mut nonce = iv;
    let tail = nonce.iter_mut().skip(4).zip(explicit);
    if algorithm.explicit_nonce_len() == 0 {
        tail.for_each(|(byte, other)| *byte ^= other);
    } else {
        tail.for_each(|(byte, other)| *byte = other);
    }
    nonce
}

/// Of whom records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read = 0,
    Write = 1,
}

/// Keys and IVs of both directions, as small as their algorithm allows.
struct TrafficKeys {
    /// Key and IV of an algorithm with 16 and 4 bytes of them, or their first bytes.
    short: [ShortKey; 2],
    /// What is left of others.
    long: Option<Box<[LongKey; 2]>>,
}

/// 16 bytes of a key and 4 of an IV.
type ShortKey = [u8; 20];
/// The other 16 and 8.
type LongKey = [u8; 24];

const _: () = assert!(size_of::<TrafficKeys>() == 48);

impl TrafficKeys {
    fn new(algorithm: AeadAlgorithm, read: &TrafficKey, write: &TrafficKey) -> Self {
        let keys = [read, write];
        let short = keys.map(|key| {
            let mut short = [0; 20];
            short[..16].copy_from_slice(&key.key[..16]);
            short[16..].copy_from_slice(&key.iv[..4]);
            short
        });
        let is_short = algorithm.key_len() <= 16 && algorithm.fixed_iv_len() <= 4;
        let long = (!is_short).then(|| {
            let mut long = Box::new([[0; 24]; 2]);
            for (long, key) in long.iter_mut().zip(keys) {
                long[..16].copy_from_slice(&key.key[16..]);
                long[16..].copy_from_slice(&key.iv[4..]);
            }
            long
        });
        Self { short, long }
    }

    fn of(&self, direction: Direction) -> TrafficKey {
        let mut key = TrafficKey::default();
        let short = &self.short[direction as usize];
        key.key[..16].copy_from_slice(&short[..16]);
        if let Some(long) = &self.long {
            key.key[16..].copy_from_slice(&long[direction as usize][..16]);
        }
        key.iv = self.iv(direction);
        key
    }

    fn iv(&self, direction: Direction) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[..4].copy_from_slice(&self.short[direction as usize][16..]);
        if let Some(long) = &self.long {
            iv[4..].copy_from_slice(&long[direction as usize][16..]);
        }
        iv
    }
}

impl Drop for TrafficKeys {
    fn drop(&mut self) {
        self.short.zeroize();
        if let Some(long) = &mut self.long {
            long.iter_mut().for_each(Zeroize::zeroize);
        }
    }
}

/// Several hundred bytes of key schedules behind it.
struct ExpandedKeys {
    read: AeadKey,
    write: AeadKey,
}

impl ExpandedKeys {
    const fn of(&self, direction: Direction) -> &AeadKey {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

/// The record state of one epoch with keys, in both directions.
pub(in crate::dtls) struct Protection {
    keys: TrafficKeys,
    expanded: Option<Box<ExpandedKeys>>,
    next_write_sequence: u64,
    window: ReplayWindow,
    /// Records that did not verify since the keys are in use.
    forged: u32,
    connection_ids: ConnectionIds,
    suite: CipherSuite,
    epoch: u16,
}

impl Protection {
    /// The state at the start of `epoch`.
    pub(in crate::dtls) fn new(
        suite: CipherSuite,
        epoch: u16,
        read_key: &TrafficKey,
        write_key: &TrafficKey,
    ) -> Self {
        Self {
            keys: TrafficKeys::new(suite.aead(), read_key, write_key),
            expanded: None,
            next_write_sequence: 0,
            window: ReplayWindow::default(),
            forged: 0,
            connection_ids: ConnectionIds::default(),
            suite,
            epoch,
        }
    }

    /// The same with connection ids in the directions in which they are not empty. To be called
    /// before the first record.
    #[must_use]
    pub(in crate::dtls) fn with_connection_ids(mut self, ids: ConnectionIds) -> Self {
        self.connection_ids = ids;
        self
    }

    /// The connection id in records to us; empty when they have none.
    pub(in crate::dtls) fn local_connection_id(&self) -> &[u8] {
        self.connection_ids.local()
    }

    /// The connection id in records to the peer; empty when they have none.
    #[cfg(any(test, feature = "client"))]
    pub(in crate::dtls) fn peer_connection_id(&self) -> &[u8] {
        self.connection_ids.peer()
    }

    /// The highest sequence number of an authentic record so far.
    pub(in crate::dtls) const fn highest_read_sequence(&self) -> u64 {
        self.window.highest()
    }

    /// The cipher suite.
    pub(in crate::dtls) const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// The epoch of the keys.
    pub(in crate::dtls) const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Bytes before the plaintext of a record to the peer, header included, and behind it.
    pub(in crate::dtls) fn overhead(&self) -> (usize, usize) {
        self.overhead_with(self.connection_ids.peer().len())
    }

    /// The same with a connection id of `cid_len` bytes: header and real type grow by it.
    const fn overhead_with(&self, cid_len: usize) -> (usize, usize) {
        let aead = self.suite.aead();
        let real_type = if cid_len > 0 { 1 } else { 0 };
        (
            HEADER_LEN + cid_len + aead.explicit_nonce_len(),
            real_type + aead.tag_len(),
        )
    }

    /// Looks at the first and the last of it in memory; what comes out means nothing.
    pub(in crate::dtls) fn touch(&self) -> u64 {
        let [first, second] = &self.keys.short;
        let keys = u64::from(first[0]) ^ u64::from(second[19]);
        keys ^ self.next_write_sequence ^ self.window.highest() ^ u64::from(self.epoch)
    }

    /// Looks at the cache. The key schedules behind it are out of reach.
    pub(in crate::dtls) fn touch_keys(&self) -> u64 {
        let expanded = self.expanded.as_ref();
        expanded.map_or(0, |keys| {
            (keys.read.tag_len() ^ keys.write.tag_len()) as u64
        })
    }

    /// Whether the keys stay expanded.
    #[cfg(test)]
    pub(in crate::dtls) const fn has_expanded_keys(&self) -> bool {
        self.expanded.is_some()
    }

    /// Keeps the keys expanded from now on, as they will be used again soon.
    pub(in crate::dtls) fn keep_expanded_keys(&mut self) {
        let algorithm = self.suite.aead();
        self.expanded.get_or_insert_with(|| {
            Box::new(ExpandedKeys {
                read: self.keys.of(Direction::Read).expand(algorithm),
                write: self.keys.of(Direction::Write).expand(algorithm),
            })
        });
    }

    /// Expands a key for each record from now on.
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

    /// Seals and sends an alert or a message of the return routability check; without a sequence
    /// number it stays unsaid.
    pub(in crate::dtls) fn send_small(
        &mut self,
        content_type: ContentType,
        content: &[u8],
        out: &mut dyn DatagramSink,
    ) {
        let mut buffer = [0; OVERHEAD_MAX.0 + SMALL_MAX + OVERHEAD_MAX.1];
        let (prefix, suffix) = self.overhead();
        let end = prefix + content.len();
        let record = &mut buffer[..end + suffix];
        record[prefix..end].copy_from_slice(content);
        if self.seal(content_type, record).is_ok() {
            out.push_datagram(record);
        }
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
        let mut header = RecordHeader {
            content_type,
            version: DTLS_1_2,
            epoch: self.epoch,
            sequence,
        };
        let aead = self.suite.aead();
        let cid_len = self.connection_ids.peer().len();
        let (prefix, suffix) = self.overhead_with(cid_len);
        let plaintext_len = record.len() - prefix - suffix;
        assert!(
            plaintext_len <= PLAINTEXT_MAX,
            "a record holds 2^14 bytes of plaintext"
        );
        let (head, rest) = record.split_at_mut(prefix);
        let explicit = header.epoch_and_sequence();
        let nonce = nonce(aead, self.keys.iv(Direction::Write), explicit);
        let (fixed, nonce_part) = head.split_at_mut(HEADER_LEN + cid_len);
        nonce_part.copy_from_slice(&explicit[..aead.explicit_nonce_len()]);
        let fragment_len = nonce_part.len() + rest.len();
        if cid_len == 0 {
            fixed.copy_from_slice(&header.encode(fragment_len));
            let (plaintext, tag) = rest.split_at_mut(plaintext_len);
            let aad = additional_data(header, plaintext_len);
            self.with_key(Direction::Write, |key| {
                key.seal_in_place(&nonce, &aad, plaintext, tag);
            });
            return Ok(());
        }
        // RFC 9146 section 4: the real type is the last byte that is not zero; we do not pad.
        rest[plaintext_len] = content_type as u8;
        header.content_type = ContentType::ConnectionId;
        let encoded = header.encode(fragment_len);
        let cid = self.connection_ids.peer();
        fixed[..CID_OFFSET].copy_from_slice(&encoded[..CID_OFFSET]);
        fixed[CID_OFFSET..CID_OFFSET + cid_len].copy_from_slice(cid);
        fixed[CID_OFFSET + cid_len..].copy_from_slice(&encoded[CID_OFFSET..]);
        let mut aad = [0; CID_AAD_MAX];
        let aad_len = cid_additional_data(&mut aad, header, cid, plaintext_len + 1);
        let (inner, tag) = rest.split_at_mut(plaintext_len + 1);
        self.with_key(Direction::Write, |key| {
            key.seal_in_place(&nonce, &aad[..aad_len], inner, tag);
        });
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
    ) -> Result<Opened, DropReason> {
        debug_assert_eq!(header.epoch, self.epoch);
        if header.version != DTLS_1_2 {
            return Err(DropReason::RecordVersion);
        }
        let has_cid = header.content_type == ContentType::ConnectionId;
        let cid_len = self.connection_ids.local().len();
        // RFC 9146 section 3: with an id every record has it, without one none has.
        if has_cid != (cid_len > 0) {
            return Err(DropReason::ConnectionIdMissing);
        }
        if !self.window.is_new(header.sequence) {
            return Err(DropReason::RecordReplayed);
        }
        let aead = self.suite.aead();
        let malformed = DropReason::RecordMalformed;
        let prefix = HEADER_LEN + cid_len + aead.explicit_nonce_len();
        let (head, sealed) = record.split_at_mut_checked(prefix).ok_or(malformed)?;
        let sealed_len = sealed.len();
        let inner_len = sealed_len.checked_sub(aead.tag_len()).ok_or(malformed)?;
        let padding_max = if has_cid { PADDING_MAX } else { 0 };
        if inner_len > PLAINTEXT_MAX + padding_max {
            return Err(malformed);
        }
        let explicit = match head
            .get(HEADER_LEN + cid_len..)
            .and_then(<[u8]>::first_chunk)
        {
            Some(explicit) => *explicit,
            None => header.epoch_and_sequence(),
        };
        let nonce = nonce(aead, self.keys.iv(Direction::Read), explicit);
        let opened = if has_cid {
            self.check_connection_id(head, aead.explicit_nonce_len() + sealed_len)?;
            let mut aad = [0; CID_AAD_MAX];
            let cid = self.connection_ids.local();
            let aad_len = cid_additional_data(&mut aad, header, cid, inner_len);
            self.with_key(Direction::Read, |key| {
                key.open_in_place(&nonce, &aad[..aad_len], sealed).is_ok()
            })
        } else {
            let aad = additional_data(header, inner_len);
            self.with_key(Direction::Read, |key| {
                key.open_in_place(&nonce, &aad, sealed).is_ok()
            })
        };
        if !opened {
            self.forged = self.forged.saturating_add(1);
            return Err(DropReason::RecordForged);
        }
        self.window.mark(header.sequence);
        if !has_cid {
            return Ok(Opened {
                content_type: header.content_type,
                range: prefix..prefix + inner_len,
            });
        }
        let inner = sealed.get(..inner_len).unwrap_or_default();
        let (content_type, length) = inner_content(inner)?;
        Ok(Opened {
            content_type,
            range: prefix..prefix + length,
        })
    }

    /// Whether the record at whose start `head` lies has our connection id, and behind it the length
    /// that it was cut by.
    fn check_connection_id(&self, head: &[u8], fragment_len: usize) -> Result<(), DropReason> {
        let cid = self.connection_ids.local();
        let rest = head.get(CID_OFFSET..).unwrap_or_default();
        let length = rest.strip_prefix(cid).and_then(<[u8]>::first_chunk);
        let length = length.ok_or(DropReason::ConnectionIdUnknown)?;
        if usize::from(u16::from_be_bytes(*length)) == fragment_len {
            Ok(())
        } else {
            Err(DropReason::RecordMalformed)
        }
    }

    /// Lets `work` use the expanded key of a direction.
    fn with_key<T>(&self, direction: Direction, work: impl FnOnce(&AeadKey) -> T) -> T {
        match &self.expanded {
            Some(keys) => work(keys.of(direction)),
            None => work(&self.keys.of(direction).expand(self.suite.aead())),
        }
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

/// RFC 9146 section 5.3; returns the length. `inner_len` counts content, real type and padding.
fn cid_additional_data(
    out: &mut [u8; CID_AAD_MAX],
    header: RecordHeader,
    cid: &[u8],
    inner_len: usize,
) -> usize {
    const CID_TYPE: u8 = ContentType::ConnectionId as u8;
    let [_, v0, v1, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1] = header.encode(inner_len);
    let cid_len = u8::try_from(cid.len()).unwrap_or(u8::MAX);
    let (fixed, rest) = out.split_at_mut(21);
    fixed[..8].fill(0xff);
    fixed[8..].copy_from_slice(&[
        CID_TYPE, cid_len, CID_TYPE, v0, v1, e0, e1, s0, s1, s2, s3, s4, s5,
    ]);
    rest[..cid.len()].copy_from_slice(cid);
    rest[cid.len()..cid.len() + 2].copy_from_slice(&[l0, l1]);
    23 + cid.len()
}

/// The real type and the length of the content before it (RFC 9146 section 4): the type is the last
/// byte that is not zero; where all are zero the record is dropped.
fn inner_content(inner: &[u8]) -> Result<(ContentType, usize), DropReason> {
    let at = inner.iter().rposition(|&byte| byte != 0);
    let at = at.ok_or(DropReason::RecordMalformed)?;
    let code = inner.get(at).copied().unwrap_or_default();
    match ContentType::from_code(code) {
        None | Some(ContentType::ConnectionId) => Err(DropReason::RecordType),
        Some(_) if at > PLAINTEXT_MAX => Err(DropReason::RecordMalformed),
        Some(content_type) => Ok((content_type, at)),
    }
}

#[cfg(test)]
mod cid_tests;
#[cfg(test)]
mod tests;
