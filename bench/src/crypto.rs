//! Cryptography: records, key derivation, cookies, key exchange, signatures.

use tidegate::crypto::aead::{AeadAlgorithm, AeadKey};
use tidegate::crypto::certificate::LeafInfo;
use tidegate::crypto::cookie_mac::CookieKey;
use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::hash::Hash;
use tidegate::crypto::key_exchange::{EphemeralKey, NamedGroup};
use tidegate::crypto::prf::prf;
use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::signature::{SigningKey, VerifyingKey};
use tidegate::random::Random;

use crate::measure::Benchmark;

/// Bytes of plaintext per record.
const SIZES: [usize; 2] = [64, 256];
/// Bytes of a DTLS 1.2 record's additional data (RFC 5246 section 6.2.3.3).
const ADDITIONAL_DATA_LEN: usize = 13;

const ALGORITHMS: [AeadAlgorithm; 7] = [
    AeadAlgorithm::Aes128Gcm,
    AeadAlgorithm::Aes256Gcm,
    AeadAlgorithm::ChaCha20Poly1305,
    AeadAlgorithm::Aes128Ccm,
    AeadAlgorithm::Aes128Ccm8,
    AeadAlgorithm::Aes256Ccm,
    AeadAlgorithm::Aes256Ccm8,
];

/// All of this module. Building it makes keys and may fail where the library does.
///
/// # Errors
///
/// The library's words.
pub(crate) fn benchmarks() -> Result<Vec<Benchmark>, String> {
    let mut list = Vec::new();
    for algorithm in ALGORITHMS {
        aead(algorithm, &mut list);
    }
    derivation(&mut list);
    key_exchange(&mut list)?;
    signatures(&mut list)?;
    Ok(list)
}

fn aead(algorithm: AeadAlgorithm, list: &mut Vec<Benchmark>) {
    let secret = vec![7; algorithm.key_len()];
    for size in SIZES {
        let key = AeadKey::new(algorithm, &secret);
        let mut buffer = vec![1; size];
        let mut tag = vec![0; algorithm.tag_len()];
        let mut nonce = [0; 12];
        let aad = [3; ADDITIONAL_DATA_LEN];
        list.push(Benchmark::new(
            "AEAD",
            format!("{algorithm:?} seal {size} B"),
            move || {
                next(&mut nonce);
                key.seal_in_place(&nonce, &aad, &mut buffer, &mut tag);
            },
        ));

        let key = AeadKey::new(algorithm, &secret);
        let nonce = [9; 12];
        let mut sealed = vec![1; size];
        let mut tag = vec![0; algorithm.tag_len()];
        key.seal_in_place(&nonce, &aad, &mut sealed, &mut tag);
        sealed.extend_from_slice(&tag);
        let mut buffer = sealed.clone();
        // Opening changes the bytes in place, so each turn starts with a copy.
        list.push(Benchmark::new(
            "AEAD",
            format!("{algorithm:?} open {size} B"),
            move || {
                buffer.copy_from_slice(&sealed);
                assert!(key.open_in_place(&nonce, &aad, &mut buffer).is_ok());
            },
        ));
    }
    list.push(Benchmark::new(
        "AEAD",
        format!("{algorithm:?} key expansion"),
        move || AeadKey::new(algorithm, &secret),
    ));
}

/// Counts a nonce up, as record sequence numbers do.
fn next(nonce: &mut [u8; 12]) {
    for byte in nonce.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
}

fn derivation(list: &mut Vec<Benchmark>) {
    for hash in [Hash::Sha256, Hash::Sha384] {
        for (what, label, seed, length) in [
            (
                "extended master secret",
                "extended master secret",
                hash.output_len(),
                48,
            ),
            ("key block", "key expansion", 64, 40),
            ("Finished", "client finished", hash.output_len(), 12),
        ] {
            let (secret, seed) = ([5; 48], vec![6; seed]);
            let mut out = vec![0; length];
            list.push(Benchmark::new(
                "PRF",
                format!("{hash:?} {what}"),
                move || {
                    prf(hash, &secret, label.as_bytes(), &seed, &mut out);
                    out[0]
                },
            ));
        }
    }
    let key = CookieKey::new([1; 32]);
    let (address, random) = ([2; 6], [3; 32]);
    list.push(Benchmark::new("cookie", "MAC of 38 B", move || {
        key.mac(&[&address, &random])
    }));
    let mut random = [0; 32];
    list.push(Benchmark::new("random", "32 B", move || {
        SystemRandom.fill(&mut random);
        random[0]
    }));
}

fn key_exchange(list: &mut Vec<Benchmark>) -> Result<(), String> {
    for &group in NamedGroup::ALL {
        let error = |error| format!("{group:?}: {error}");
        let peer = EphemeralKey::generate(group)
            .map_err(error)?
            .public_key()
            .to_vec();
        list.push(Benchmark::new(
            "key exchange",
            format!("{group:?} key, public key and agreement"),
            move || {
                let own = EphemeralKey::generate(group).expect("it worked before");
                own.agree(&peer).expect("the key of a peer is valid")
            },
        ));
    }
    Ok(())
}

fn signatures(list: &mut Vec<Benchmark>) -> Result<(), String> {
    for (name, algorithm) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
    ] {
        let pair = rcgen::KeyPair::generate_for(algorithm).map_err(|error| error.to_string())?;
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&pair)
            .map_err(|error| error.to_string())?;
        let der = certificate.der().to_vec();
        let words = |error| format!("{name}: {error}");
        let key = SigningKey::from_der(&pair.serialize_der()).map_err(words)?;
        let leaf = LeafInfo::parse(&der).map_err(words)?;
        let verifying = VerifyingKey::from_spki(leaf.spki).map_err(words)?;
        let scheme = *key.schemes().first().ok_or("no scheme")?;
        // ServerKeyExchange: randoms and parameters.
        let message = vec![8; 133];
        let signature = key.sign(scheme, &message).map_err(words)?;
        let signed = message.clone();
        list.push(Benchmark::new(
            "signature",
            format!("{name} sign"),
            move || key.sign(scheme, &signed).expect("it worked before"),
        ));
        list.push(Benchmark::new(
            "signature",
            format!("{name} verify"),
            move || {
                assert!(verifying.verify(scheme, &message, &signature).is_ok());
            },
        ));
        list.push(Benchmark::new(
            "certificate",
            format!("{name} parse and read the key, {} B", der.len()),
            {
                let der = der.clone();
                move || {
                    let leaf = LeafInfo::parse(&der).expect("it worked before");
                    leaf.verifying_key().expect("it worked before")
                }
            },
        ));
        list.push(Benchmark::new(
            "certificate",
            format!("{name} device fingerprint"),
            move || device_fingerprint(&der),
        ));
    }
    Ok(())
}
