use std::sync::Arc;

use super::*;
use crate::dtls::client::ClientConfig;
use crate::dtls::config::Credentials;
use crate::dtls::message::emit_client_hello;

fn server(algorithm: &'static rcgen::SignatureAlgorithm) -> ServerConfig {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let key = SigningKey::from_der(&key.serialize_der()).unwrap();
    ServerConfig::new(Arc::new(Credentials { chain: vec![], key }))
}

fn choose(client: &ClientConfig, server: &ServerConfig) -> Result<Negotiated, Error> {
    let mut body = vec![];
    emit_client_hello(&mut body, client, &[0; 32], &[]);
    Negotiated::choose(&ClientHello::decode(&body).unwrap(), server)
}

/// The suite must fit the kind of the server's key, and the curve of its leaf must be offered (RFC
/// 8422 section 5.1), whatever group is used for the exchange.
#[test]
fn the_servers_key_decides_what_fits() {
    let both = ClientConfig {
        cipher_suites: vec![
            CipherSuite::EcdheRsaAes256Gcm,
            CipherSuite::EcdheEcdsaAes128Ccm8,
            CipherSuite::EcdheEcdsaAes128Gcm,
        ],
        groups: vec![NamedGroup::X25519, NamedGroup::Secp256r1],
        ..ClientConfig::default()
    };
    let p256 = server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let chosen = choose(&both, &p256).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheEcdsaAes128Ccm8);
    assert_eq!(chosen.group, NamedGroup::X25519);
    assert_eq!(chosen.scheme, SignatureScheme::EcdsaSha256);
    let rsa = server(&rcgen::PKCS_RSA_SHA256);
    let chosen = choose(&both, &rsa).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheRsaAes256Gcm);
    assert_eq!(chosen.scheme, SignatureScheme::RsaPkcs1Sha256);
    let p384 = server(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(choose(&both, &p384), Err(Error::NoCommonParameters));
    let chosen = choose(&ClientConfig::default(), &p384).unwrap();
    assert_eq!(chosen.scheme, SignatureScheme::EcdsaSha384);
    // An RSA leaf has no curve, so one group is enough.
    let x25519 = ClientConfig {
        groups: vec![NamedGroup::X25519],
        ..both
    };
    assert_eq!(choose(&x25519, &p256), Err(Error::NoCommonParameters));
    assert_eq!(choose(&x25519, &rsa).unwrap().group, NamedGroup::X25519);
}

#[test]
fn what_is_not_configured_is_not_chosen() {
    let mut config = server(&rcgen::PKCS_ECDSA_P256_SHA256);
    config.groups = vec![NamedGroup::Secp384r1];
    config.cipher_suites = vec![CipherSuite::EcdheEcdsaAes256Ccm8];
    let chosen = choose(&ClientConfig::default(), &config).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheEcdsaAes256Ccm8);
    assert_eq!(chosen.group, NamedGroup::Secp384r1);
    let p256_only = ClientConfig {
        groups: vec![NamedGroup::Secp256r1],
        ..ClientConfig::default()
    };
    assert_eq!(choose(&p256_only, &config), Err(Error::NoCommonParameters));
    config.cipher_suites = vec![CipherSuite::EcdheRsaAes128Gcm];
    assert_eq!(
        choose(&ClientConfig::default(), &config),
        Err(Error::NoCommonParameters)
    );
}
