use super::super::fingerprint::to_hex;
use super::super::tests::from_hex;
use super::*;

const ALGORITHMS: [AeadAlgorithm; 7] = [
    AeadAlgorithm::Aes128Gcm,
    AeadAlgorithm::Aes256Gcm,
    AeadAlgorithm::ChaCha20Poly1305,
    AeadAlgorithm::Aes128Ccm,
    AeadAlgorithm::Aes256Ccm,
    AeadAlgorithm::Aes128Ccm8,
    AeadAlgorithm::Aes256Ccm8,
];

fn check(
    algorithm: AeadAlgorithm,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plain: &[u8],
    sealed: &str,
) {
    let key = AeadKey::new(algorithm, key);
    let nonce = nonce.try_into().unwrap();
    let mut record = plain.to_vec();
    let mut tag = vec![0; algorithm.tag_len()];
    key.seal_in_place(nonce, aad, &mut record, &mut tag);
    record.extend_from_slice(&tag);
    assert_eq!(to_hex(&record), sealed, "{algorithm:?}");
    assert_eq!(key.open_in_place(nonce, aad, &mut record).unwrap(), plain);
}

/// Test cases 4 and 16 of the GCM specification (McGrew, Viega).
#[test]
fn gcm_vectors() {
    let key = from_hex("feffe9928665731c6d6a8f9467308308");
    let nonce = from_hex("cafebabefacedbaddecaf888");
    let aad = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = from_hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24\
         49a6b525b16aedf5aa0de657ba637b39",
    );
    check(
        AeadAlgorithm::Aes128Gcm,
        &key,
        &nonce,
        &aad,
        &plain,
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5a\
         ac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47",
    );
    check(
        AeadAlgorithm::Aes256Gcm,
        &key.repeat(2),
        &nonce,
        &aad,
        &plain,
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10\
         56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
    );
}

/// RFC 8439 section 2.8.2.
#[test]
fn chacha20_poly1305_vector() {
    check(
        AeadAlgorithm::ChaCha20Poly1305,
        &(0x80..=0x9f).collect::<Vec<u8>>(),
        &from_hex("070000004041424344454647"),
        &from_hex("50515253c0c1c2c3c4c5c6c7"),
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
          future, sunscreen would be it.",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69\
         da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad67594\
         5585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    );
}

/// Example 3 of NIST SP 800-38C: the nonce and tag lengths of RFC 6655's CCM_8.
#[test]
fn ccm_8_vector_of_nist() {
    check(
        AeadAlgorithm::Aes128Ccm8,
        &(0x40..=0x4f).collect::<Vec<u8>>(),
        &(0x10..=0x1b).collect::<Vec<u8>>(),
        &(0x00..=0x13).collect::<Vec<u8>>(),
        &(0x20..=0x37).collect::<Vec<u8>>(),
        "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951",
    );
}

/// Made with OpenSSL 3.0: keys 40 41 .., nonce 10 .. 1b, associated data 00 .. 0c (the 13 bytes of
/// a record), plaintext 20 21 .. of 0, 1, 16 and 33 bytes.
#[test]
fn ccm_vectors_of_openssl() {
    let rows: [(AeadAlgorithm, [(u8, &str); 4]); 4] = [
        (
            AeadAlgorithm::Aes128Ccm8,
            [
                (0, "b9dbe9858f64bce7"),
                (1, "e3358eb2dcd7e1505b"),
                (16, "e3b201a9f5b71a7a9b1ceaeccd97e70be843ec4e54d5c3b9"),
                (
                    33,
                    "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5541bd1d416fa0ce3ec7db39ccda260b366",
                ),
            ],
        ),
        (
            AeadAlgorithm::Aes128Ccm,
            [
                (0, "6cdc69ebbb1452d152daf7924cd811a9"),
                (1, "e351f4ce5ae48c8e99bc88a8d30d9a5ed2"),
                (
                    16,
                    "e3b201a9f5b71a7a9b1ceaeccd97e70b104c373da9d27289e6a68cf0f7b14b55",
                ),
                (
                    33,
                    "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5541bd1d416fa0ce3ece86785a873c42ca7e83450a9d6e3bf40",
                ),
            ],
        ),
        (
            AeadAlgorithm::Aes256Ccm8,
            [
                (0, "c3a350c2dded8d67"),
                (1, "045882b0d6926059a6"),
                (16, "04f883aeb3bd0730eaf50bb6de4fa221372671b07e51474f"),
                (
                    33,
                    "04f883aeb3bd0730eaf50bb6de4fa2212034e4e41b0e75e577f6bf2422c0f6d2664b7a9b9dd64f670b",
                ),
            ],
        ),
        (
            AeadAlgorithm::Aes256Ccm,
            [
                (0, "c5ffe715bbdad7b7511f5430a1c5508e"),
                (1, "040f576f582238af205713605f9ce2c1ff"),
                (
                    16,
                    "04f883aeb3bd0730eaf50bb6de4fa221c7d8c866538e14e0878e839a782975da",
                ),
                (
                    33,
                    "04f883aeb3bd0730eaf50bb6de4fa2212034e4e41b0e75e577f6bf2422c0f6d26692ae0cc60fc0c31d15b89b321603422b",
                ),
            ],
        ),
    ];
    for (algorithm, cases) in rows {
        let key: Vec<u8> = (0x40..).take(algorithm.key_len()).collect();
        for (length, sealed) in cases {
            check(
                algorithm,
                &key,
                &(0x10..=0x1b).collect::<Vec<u8>>(),
                &(0x00..=0x0c).collect::<Vec<u8>>(),
                &(0x20..0x20 + length).collect::<Vec<u8>>(),
                sealed,
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_and_leaves_no_plaintext() {
    for algorithm in ALGORITHMS {
        let key = AeadKey::new(algorithm, &vec![1; algorithm.key_len()]);
        let plain = *b"thirty-three bytes of plain text.";
        let mut sealed = plain.to_vec();
        let mut tag = vec![0; key.tag_len()];
        key.seal_in_place(&[2; 12], b"aad", &mut sealed, &mut tag);
        sealed.extend_from_slice(&tag);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let opened = key.open_in_place(&[2; 12], b"aad", &mut forged);
            assert_eq!(opened, Err(OpenError), "{algorithm:?} bit {bit}");
            assert!(forged.iter().all(|&byte| byte == 0));
        }
        for (nonce, aad) in [([3; 12], b"aad"), ([2; 12], b"dda")] {
            let mut copy = sealed.clone();
            assert!(key.open_in_place(&nonce, aad, &mut copy).is_err());
        }
        assert!(
            key.open_in_place(&[2; 12], b"aad", &mut sealed[..key.tag_len() - 1])
                .is_err()
        );
        assert!(key.open_in_place(&[2; 12], b"aad", &mut []).is_err());
    }
}

#[test]
fn keys_move_between_threads() {
    fn is_send<T: Send + Sync>() {}
    is_send::<AeadKey>();
}
