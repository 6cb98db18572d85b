//! What both ends hash of the handshake (RFC 5246 section 7.4.9, RFC 6347 section 4.2.6).
//!
//! Every message counts as if it had come in one piece, header included. A first ClientHello and
//! the HelloVerifyRequest are left out, so the transcript starts with the ClientHello whose cookie
//! was valid.

use crate::crypto::hash::{Digest, Hash, HashContext};
use crate::dtls::message::{FragmentHeader, HandshakeMessage};

/// The running hash of a handshake, and its bytes as long as a CertificateVerify may need another
/// hash than the suite's.
pub(in crate::dtls) struct Transcript {
    hash: Hash,
    context: HashContext,
    bytes: Option<Vec<u8>>,
}

/// Bytes of a usual handshake with a client certificate.
const USUAL_LEN: usize = 2048;

impl Transcript {
    /// An empty transcript for a suite whose PRF uses `hash`.
    pub(in crate::dtls) fn new(hash: Hash) -> Self {
        Self {
            bytes: Some(Vec::with_capacity(USUAL_LEN)),
            ..Self::without_signatures(hash)
        }
    }

    /// The same for a handshake in which no CertificateVerify can come.
    pub(in crate::dtls) fn without_signatures(hash: Hash) -> Self {
        Self {
            hash,
            context: HashContext::new(hash),
            bytes: None,
        }
    }

    /// Adds a message of the peer.
    pub(in crate::dtls) fn add(&mut self, message: &HandshakeMessage<'_>) {
        let HandshakeMessage {
            message_type,
            message_seq,
            body,
        } = *message;
        self.add_bytes(&FragmentHeader::whole(message_type, message_seq, body.len()).encode());
        self.add_bytes(body);
    }

    /// Adds messages that have their header of one piece already.
    pub(in crate::dtls) fn add_bytes(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        if let Some(kept) = &mut self.bytes {
            kept.extend_from_slice(bytes);
        }
    }

    /// Bytes of memory behind it.
    pub(in crate::dtls) const fn memory(&self) -> usize {
        match &self.bytes {
            Some(bytes) => bytes.capacity(),
            None => 0,
        }
    }

    /// The hash of all messages so far.
    pub(in crate::dtls) fn digest(&self) -> Digest {
        self.context.clone().finish()
    }

    /// The same by another hash, for a signature; `None` where there are none.
    pub(in crate::dtls) fn digest_with(&self, hash: Hash) -> Option<Digest> {
        if hash == self.hash {
            return Some(self.digest());
        }
        let bytes = self.bytes.as_ref()?;
        Some(crate::crypto::hash::digest(hash, bytes))
    }

    /// All messages so far, for a signature that hashes them itself.
    #[cfg(any(test, feature = "client"))]
    pub(in crate::dtls) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transcript({:?})", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::message::HandshakeType;

    #[test]
    fn messages_count_with_the_header_of_one_piece() {
        let mut transcript = Transcript::new(Hash::Sha256);
        transcript.add(&HandshakeMessage {
            message_type: HandshakeType::ClientHello,
            message_seq: 1,
            body: b"abc",
        });
        let bytes = [1, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c'];
        assert_eq!(transcript.bytes(), bytes);
        for hash in [Hash::Sha256, Hash::Sha384] {
            assert_eq!(
                transcript.digest_with(hash),
                Some(crate::crypto::hash::digest(hash, &bytes))
            );
        }
        let mut without = Transcript::without_signatures(Hash::Sha256);
        without.add_bytes(&bytes);
        assert_eq!(without.digest(), transcript.digest());
        assert_eq!(without.digest_with(Hash::Sha384), None);
        assert_eq!(without.memory(), 0);
    }
}
