use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;

use super::super::hash;
use super::super::tests::from_hex;
use super::*;

/// Made with `openssl ecparam -name prime256v1 -param_enc explicit -genkey`, as SEC 1.
const EXPLICIT_SEC1: &str = "308201680201010420fbaf2a672d562dc53886197fb79f8fb302d76306b3321ab0a985e21c5e43d357a081fa3081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000000000000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000fffffffffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101a144034200049573353bed557c26c5797b070ad17224a3347b66bf9430d8d1d42c8ba9431d0a9db7f6f1e77f3e4e0e2115b1084efc844dac74616d250dab50f88d7590e4f9ca";
/// The same as PKCS#8.
const EXPLICIT_PKCS8: &str = "308201790201003082010306072a8648ce3d02013081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000000000000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000fffffffffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101046d306b0201010420fbaf2a672d562dc53886197fb79f8fb302d76306b3321ab0a985e21c5e43d357a144034200049573353bed557c26c5797b070ad17224a3347b66bf9430d8d1d42c8ba9431d0a9db7f6f1e77f3e4e0e2115b1084efc844dac74616d250dab50f88d7590e4f9ca";
/// Its public key as SubjectPublicKeyInfo.
const EXPLICIT_SPKI: &str = "3082014b3082010306072a8648ce3d02013081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000000000000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000fffffffffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101034200049573353bed557c26c5797b070ad17224a3347b66bf9430d8d1d42c8ba9431d0a9db7f6f1e77f3e4e0e2115b1084efc844dac74616d250dab50f88d7590e4f9ca";
/// A P-256 key on the named curve as SEC 1, its public key, and that with a compressed point.
const NAMED_SEC1: &str = "30770201010420e1dd583eedfa27acde29a793a7d3d51563a4522c0811c862c919d7e1ca97e0fba00a06082a8648ce3d030107a14403420004598292b45f3fae8e652306d70d645adf0511ffe5f67b55a572ef3f574ce58e8a4e4f8936c632c9cb715fafaa81577b4fdf6bbca50db03fdd801ba03a432c60ac";
const NAMED_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004598292b45f3fae8e652306d70d645adf0511ffe5f67b55a572ef3f574ce58e8a4e4f8936c632c9cb715fafaa81577b4fdf6bbca50db03fdd801ba03a432c60ac";
const COMPRESSED_SPKI: &str = "3039301306072a8648ce3d020106082a8648ce3d03010703220002598292b45f3fae8e652306d70d645adf0511ffe5f67b55a572ef3f574ce58e8a";
const P521_SEC1: &str = "3081dc02010104420115452b480af1be61bbe933815de61d010c8f26d0d642b0daf651bfaf7ea1ff1085092a3fdec97fe9490604bd73c3abc807de9ff1a10f98ad6fef054d58860fe3e7a00706052b81040023a1818903818600040144a8ff60a978c68aad45c1065f25d9a033adcb853d513329b6fe84fbc2abd36aa057a0819c1fb4faab55694192ca788bff9d23f9d24c343dfe725ff9a981205ca100248cbd7350d1ce47be9620ce95660af000d9e699aac9533facb3e63806fb432d934cfddebb03b46bcc41ddbfca85d36c2bb1ebc8a921b9209cb67561e178a4005a";

/// A key of each kind, with its SubjectPublicKeyInfo.
fn keys() -> Vec<(SigningKey, Vec<u8>)> {
    let mut keys = Vec::new();
    for algorithm in [
        &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
    ] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let key = SigningKey::from_der(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let sec1 = SigningKey::from_der(pair.private_key().as_der().unwrap().as_ref()).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        assert!(sec1.public_key_matches(&spki));
        keys.push((key, spki));
    }
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    keys.push((
        SigningKey::from_der(pkcs8.as_ref()).unwrap(),
        spki.as_ref().to_vec(),
    ));
    keys
}

#[test]
fn what_a_key_signs_its_public_key_verifies() {
    for (key, spki) in keys() {
        let public = VerifyingKey::from_spki(&spki).unwrap();
        assert_eq!(public.key_type(), key.key_type());
        assert!(key.public_key_matches(&spki));
        for &scheme in key.schemes() {
            let signed = key.sign(scheme, b"message").unwrap();
            assert_eq!(public.verify(scheme, b"message", &signed), Ok(()));
            let digest = hash::digest(scheme.hash(), b"message");
            assert_eq!(public.verify_digest(scheme, &digest, &signed), Ok(()));
            let bad = Err(CryptoError::BadSignature);
            assert_eq!(public.verify(scheme, b"massage", &signed), bad);
            let other = hash::digest(scheme.hash(), b"massage");
            assert_eq!(public.verify_digest(scheme, &other, &signed), bad);
            for at in [0, signed.len() / 2, signed.len() - 1] {
                let mut forged = signed.clone();
                forged[at] ^= 1;
                assert_eq!(public.verify(scheme, b"message", &forged), bad);
            }
            assert_eq!(public.verify(scheme, b"message", &[]), bad);
            let mut long = signed.clone();
            long.push(0);
            assert_eq!(public.verify(scheme, b"message", &long), bad);
        }
    }
}

#[test]
fn a_scheme_of_another_kind_of_key_is_refused() {
    let keys = keys();
    for (key, spki) in &keys {
        let public = VerifyingKey::from_spki(spki).unwrap();
        for &scheme in SignatureScheme::ALL {
            let fits = (key.key_type() == KeyType::Rsa) == format!("{scheme:?}").starts_with("Rsa");
            if !fits {
                assert_eq!(key.sign(scheme, b"").err(), Some(CryptoError::Unsupported));
                assert_eq!(
                    public.verify(scheme, b"", &[0; 70]),
                    Err(CryptoError::Unsupported)
                );
            }
            assert_eq!(SignatureScheme::from_id(scheme.id()), Some(scheme));
        }
        for (other, other_spki) in &keys {
            let same = std::ptr::eq(key, other);
            assert_eq!(key.public_key_matches(other_spki), same);
        }
    }
    assert_eq!(SignatureScheme::from_id(0x0203), None);
}

/// RFC 6979 appendix A.2.5: P-256, message "sample".
fn rfc_6979() -> (VerifyingKey, Vec<u8>, Vec<u8>) {
    let spki = from_hex(&format!(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200{}{}{}",
        "04",
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ));
    (
        VerifyingKey::from_spki(&spki).unwrap(),
        from_hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"),
        from_hex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"),
    )
}

/// ECDSA-Sig-Value ::= SEQUENCE { INTEGER r, INTEGER s }.
fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for number in [r, s] {
        let mut bytes: Vec<u8> = number.iter().copied().skip_while(|&b| b == 0).collect();
        if bytes.first().is_none_or(|&first| first >= 0x80) {
            bytes.insert(0, 0);
        }
        body.extend_from_slice(&[2, u8::try_from(bytes.len()).unwrap()]);
        body.extend_from_slice(&bytes);
    }
    let mut out = vec![0x30, u8::try_from(body.len()).unwrap()];
    out.extend_from_slice(&body);
    out
}

#[test]
fn ecdsa_vector() {
    let (key, r, s) = rfc_6979();
    let signature = ecdsa_signature(&r, &s);
    assert_eq!(
        key.verify(SignatureScheme::EcdsaSha256, b"sample", &signature),
        Ok(())
    );
    assert!(
        key.verify(SignatureScheme::EcdsaSha384, b"sample", &signature)
            .is_err()
    );
}

/// CVE-2022-21449: numbers out of range must not verify, zero above all.
#[test]
fn ecdsa_numbers_out_of_range_are_refused() {
    let (key, r, s) = rfc_6979();
    let order = from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let zero = vec![0; 32];
    for (r, s) in [
        (&zero, &zero),
        (&zero, &s),
        (&r, &zero),
        (&order, &order),
        (&r, &order),
        (&order, &s),
    ] {
        for scheme in [
            SignatureScheme::EcdsaSha256,
            SignatureScheme::EcdsaSha384,
            SignatureScheme::EcdsaSha512,
        ] {
            let signature = ecdsa_signature(r, s);
            assert_eq!(
                key.verify(scheme, b"sample", &signature),
                Err(CryptoError::BadSignature)
            );
        }
    }
}

/// CVE-2022-0778 and the like: a curve that is spelled out is not even looked at.
#[test]
fn explicit_parameters_are_refused() {
    for der in [EXPLICIT_SEC1, EXPLICIT_PKCS8] {
        assert_eq!(
            SigningKey::from_der(&from_hex(der)).err(),
            Some(CryptoError::ExplicitCurve)
        );
    }
    assert_eq!(
        VerifyingKey::from_spki(&from_hex(EXPLICIT_SPKI)).err(),
        Some(CryptoError::ExplicitCurve)
    );
}

#[test]
fn keys_of_openssl_are_read() {
    let key = SigningKey::from_der(&from_hex(NAMED_SEC1)).unwrap();
    assert_eq!(key.key_type(), KeyType::EcdsaP256);
    assert!(key.public_key_matches(&from_hex(NAMED_SPKI)));
}

#[test]
fn unsupported_and_invalid_keys_are_told_apart() {
    assert_eq!(
        SigningKey::from_der(&from_hex(P521_SEC1)).err(),
        Some(CryptoError::UnsupportedCurve)
    );
    assert_eq!(
        VerifyingKey::from_spki(&from_hex(COMPRESSED_SPKI)).err(),
        Some(CryptoError::InvalidPublicKey)
    );
    let mut off_curve = from_hex(NAMED_SPKI);
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(
        VerifyingKey::from_spki(&off_curve).err(),
        Some(CryptoError::InvalidPublicKey)
    );
    // id-Ed25519
    let ed25519 = from_hex(
        "302a300506032b65700321003b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
    );
    assert_eq!(
        VerifyingKey::from_spki(&ed25519).err(),
        Some(CryptoError::Unsupported)
    );
    assert_eq!(
        SigningKey::from_der(b"not a key").err(),
        Some(CryptoError::Malformed)
    );
    let mut zero = from_hex(NAMED_SEC1);
    zero[7..39].fill(0);
    assert_eq!(
        SigningKey::from_der(&zero).err(),
        Some(CryptoError::InvalidPrivateKey)
    );
    let small = short_rsa_key();
    assert_eq!(
        SigningKey::from_der(&small).err(),
        Some(CryptoError::InvalidPrivateKey)
    );
}

/// A PKCS#1 structure whose modulus is too short to be accepted.
fn short_rsa_key() -> Vec<u8> {
    let mut body = vec![2, 1, 0, 2, 0x81, 0x80];
    body.extend_from_slice(&[0x7f; 128]);
    body.extend_from_slice(&[2, 3, 1, 0, 1]);
    let mut out = vec![0x30, 0x81, u8::try_from(body.len()).unwrap()];
    out.extend_from_slice(&body);
    out
}

#[test]
fn no_truncated_or_changed_key_panics() {
    for der in [
        EXPLICIT_SEC1,
        EXPLICIT_PKCS8,
        NAMED_SEC1,
        NAMED_SPKI,
        P521_SEC1,
    ] {
        let der = from_hex(der);
        for at in 0..der.len() {
            let _ = SigningKey::from_der(&der[..at]);
            let _ = VerifyingKey::from_spki(&der[..at]);
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = value;
                let _ = SigningKey::from_der(&changed);
                let _ = VerifyingKey::from_spki(&changed);
            }
        }
    }
}

#[test]
fn keys_are_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<SigningKey>();
    is_shared::<VerifyingKey>();
}
