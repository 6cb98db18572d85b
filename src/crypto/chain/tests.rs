//! Chains as they should be, and as attackers make them.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// 2026.
const NOW: u64 = 1_780_000_000_000;

/// Somebody with a key who signs certificates, entitled or not.
pub(crate) struct Maker {
    parameters: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([]).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2100, 1, 1);
    parameters
}

fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut parameters = parameters(name);
    parameters.is_ca = IsCa::Ca(constraints);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

impl Maker {
    pub(crate) fn root(name: &str) -> Self {
        Self::signed_by_itself(authority(name, BasicConstraints::Unconstrained))
    }

    fn signed_by_itself(parameters: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        Self {
            parameters,
            key,
            der,
        }
    }

    fn make(&self, parameters: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let der = parameters.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self {
            parameters,
            key,
            der,
        }
    }

    fn below(&self, name: &str) -> Self {
        self.make(authority(name, BasicConstraints::Unconstrained))
    }

    fn leaf(&self, name: &str) -> Vec<u8> {
        self.make(parameters(name)).der
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::read(&self.der).unwrap()
    }
}

/// The chain of a device of this name, whom the maker has certified, with the maker at its end.
pub(crate) fn chain_of(maker: &Maker, name: &str) -> Vec<Vec<u8>> {
    vec![maker.leaf(name), maker.der.clone()]
}

#[test]
fn chains_lead_to_their_authority() {
    let root = Maker::root("CA");
    let (one, authority) = (root.below("one"), root.authority());
    let two = one.below("two");
    for chain in [
        vec![root.leaf("d")],
        chain_of(&root, "d"),
        vec![one.leaf("d"), one.der.clone()],
        vec![two.leaf("d"), two.der.clone(), one.der.clone()],
        vec![
            two.leaf("d"),
            two.der.clone(),
            one.der.clone(),
            root.der.clone(),
        ],
    ] {
        assert_eq!(authority.verify(&chain, NOW), Ok(()));
    }
    // An authority in the middle can be the one that is trusted.
    assert_eq!(one.authority().verify(&chain_of(&one, "d"), NOW), Ok(()));
    assert_eq!(common_name(&root.leaf("d-1")).as_deref(), Some("d-1"));
    // An authority and a device of the other curve.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let issuer = Issuer::from_params(&root.parameters, &root.key);
    let leaf = parameters("d").signed_by(&key, &issuer).unwrap();
    assert_eq!(authority.verify(&[leaf.der().to_vec()], NOW), Ok(()));
}

#[test]
fn authorities_sign_with_rsa_too() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384] {
        let parameters = authority("CA", BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        let root = Maker {
            parameters,
            key,
            der,
        };
        let one = root.below("one");
        let chain = vec![one.leaf("d"), one.der.clone()];
        assert_eq!(root.authority().verify(&chain, NOW), Ok(()));
        let other = Maker::root("CA").below("one");
        let forged = vec![other.leaf("d"), other.der.clone()];
        // An ECDSA signature is none of an RSA key.
        let unsupported = Err(ChainError::Certificate(CryptoError::Unsupported));
        assert_eq!(root.authority().verify(&forged, NOW), unsupported);
    }
}

#[test]
fn a_chain_of_another_authority_proves_nothing() {
    let (root, other) = (Maker::root("CA"), Maker::root("other"));
    let authority = root.authority();
    let unknown = Err(ChainError::UnknownIssuer);
    assert_eq!(authority.verify(&chain_of(&other, "d"), NOW), unknown);
    assert_eq!(authority.verify(&[other.leaf("d")], NOW), unknown);
    // The authority's certificate at the end of a chain that it did not sign.
    assert_eq!(
        authority.verify(&[other.leaf("d"), root.der.clone()], NOW),
        unknown
    );
    // Certificates in the wrong order.
    let one = root.below("one");
    let swapped = [one.der.clone(), one.leaf("d")];
    assert_eq!(authority.verify(&swapped, NOW), Err(ChainError::Usage));
    assert_eq!(authority.verify(&[], NOW), Err(ChainError::Length));
    let long = vec![other.leaf("d"); CHAIN_LENGTH_MAX + 1];
    assert_eq!(authority.verify(&long, NOW), Err(ChainError::Length));
}

#[test]
fn the_authority_s_name_without_its_key_proves_nothing() {
    let (root, forger) = (Maker::root("CA"), Maker::root("CA"));
    let forged = Err(ChainError::Certificate(CryptoError::BadSignature));
    let authority = root.authority();
    assert_eq!(authority.verify(&chain_of(&forger, "d"), NOW), forged);
    // A device that signs itself in the authority's name.
    let itself = Maker::signed_by_itself(parameters("CA"));
    assert_eq!(authority.verify(&[itself.der], NOW), forged);
}

/// Also in what no signature protects: the algorithm's second place, tags and lengths.
#[test]
fn no_changed_bit_is_taken() {
    let root = Maker::root("CA");
    let (one, authority) = (root.below("one"), root.authority());
    let chain = [one.leaf("d"), one.der.clone()];
    for place in 0..chain.len() {
        for bit in 0..chain[place].len() * 8 {
            let mut changed = chain.to_vec();
            changed[place][bit / 8] ^= 1 << (bit % 8);
            assert!(authority.verify(&changed, NOW).is_err(), "{place} {bit}");
        }
    }
}

/// Other encodings of a certificate would be other fingerprints for it.
#[test]
fn a_certificate_has_one_encoding() {
    let root = Maker::root("CA");
    let leaf = root.leaf("d");
    let (_, certificate) = X509Certificate::from_der(&leaf).unwrap();
    let signed = certificate.tbs_certificate.as_ref();
    let signature = &*certificate.signature_value.data;
    let verify = |algorithm: &[u8], signature: &[u8], after: &[u8]| {
        let signature = der::encode(der::BIT_STRING, &[signature]);
        let whole = der::encode(der::SEQUENCE, &[signed, algorithm, &signature, after]);
        root.authority().verify(&[whole], NOW)
    };
    let same = &leaf[4 + signed.len()..][..12];
    let whole = [&[0], signature].concat();
    assert_eq!(verify(same, &whole, &[]), Ok(()));
    let malformed = Err(ChainError::Certificate(CryptoError::Malformed));
    // Something behind the signature, and behind the certificate.
    assert_eq!(verify(same, &whole, &[5, 0]), malformed);
    let mut longer = leaf.clone();
    longer.push(0);
    assert_eq!(root.authority().verify(&[longer], NOW), malformed);
    // A length with a byte more than it needs.
    let mut long = same.to_vec();
    long.insert(1, 0x81);
    assert_eq!(verify(&long, &whole, &[]), malformed);
    // Another algorithm in the second place (RFC 5280 section 4.1.1.2).
    let mut other = same.to_vec();
    other[11] = 3;
    assert_eq!(verify(&other, &whole, &[]), malformed);
}

#[test]
fn a_leaf_is_no_authority() {
    let root = Maker::root("CA");
    let device = root.make(parameters("device"));
    let refused = Err(ChainError::NotAnAuthority);
    let chain = chain_of(&device, "victim");
    assert_eq!(root.authority().verify(&chain, NOW), refused);
    // An authority by its constraints, whose key is for something else.
    let mut wrong = authority("wrong", BasicConstraints::Unconstrained);
    wrong.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let wrong = root.make(wrong);
    assert_eq!(
        root.authority().verify(&chain_of(&wrong, "victim"), NOW),
        refused
    );
    // Nor can the operator trust one by mistake.
    assert!(matches!(
        Authority::read(&device.der),
        Err(ChainError::NotAnAuthority)
    ));
    assert!(matches!(
        Authority::read(&wrong.der),
        Err(ChainError::NotAnAuthority)
    ));
}

#[test]
fn no_authority_signs_longer_chains_than_it_may() {
    let root = Maker::signed_by_itself(authority("CA", BasicConstraints::Constrained(1)));
    let one = root.make(authority("one", BasicConstraints::Constrained(0)));
    let two = one.below("two");
    let trusted = root.authority();
    assert_eq!(
        trusted.verify(&[one.leaf("d"), one.der.clone()], NOW),
        Ok(())
    );
    let long = [two.leaf("d"), two.der.clone(), one.der.clone()];
    assert_eq!(trusted.verify(&long, NOW), Err(ChainError::PathLength));
    // The limit of the trusted one itself.
    let strict = Maker::signed_by_itself(authority("CA", BasicConstraints::Constrained(0)));
    let below = strict.below("below");
    let chain = [below.leaf("d"), below.der.clone()];
    assert_eq!(
        strict.authority().verify(&chain, NOW),
        Err(ChainError::PathLength)
    );
    assert_eq!(strict.authority().verify(&[strict.leaf("d")], NOW), Ok(()));
}

#[test]
fn dates_of_each_certificate_count() {
    let root = Maker::root("CA");
    let expired = |mut parameters: CertificateParams| {
        parameters.not_after = date_time_ymd(2021, 1, 1);
        parameters
    };
    let dates = Err(ChainError::Dates);
    let leaf = root.make(expired(parameters("d")));
    assert_eq!(root.authority().verify(&[leaf.der], NOW), dates);
    let one = root.make(expired(authority("one", BasicConstraints::Unconstrained)));
    assert_eq!(root.authority().verify(&chain_of(&one, "d"), NOW), dates);
    let old = Maker::signed_by_itself(expired(authority("CA", BasicConstraints::Unconstrained)));
    assert_eq!(old.authority().verify(&chain_of(&old, "d"), NOW), dates);
    // Not yet.
    assert_eq!(root.authority().verify(&[root.leaf("d")], 0), dates);
}

#[test]
fn a_leaf_has_to_be_for_clients() {
    let root = Maker::root("CA");
    let verify = |change: &dyn Fn(&mut CertificateParams)| {
        let mut parameters = parameters("d");
        change(&mut parameters);
        root.authority().verify(&[root.make(parameters).der], NOW)
    };
    let usage = Err(ChainError::Usage);
    assert_eq!(
        verify(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        usage
    );
    assert_eq!(
        verify(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        Ok(())
    );
    assert_eq!(
        verify(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        usage
    );
    assert_eq!(
        verify(&|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        Ok(())
    );
    // An authority for servers certifies no clients.
    let mut servers = authority("one", BasicConstraints::Unconstrained);
    servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let chain = chain_of(&root.make(servers), "d");
    assert_eq!(root.authority().verify(&chain, NOW), usage);
}

#[test]
fn what_is_critical_has_to_be_understood() {
    let root = Maker::root("CA");
    let verify = |id: &[u64], content: Vec<u8>, critical| {
        let mut own = CustomExtension::from_oid_content(id, content);
        own.set_criticality(critical);
        let mut parameters = parameters("d");
        parameters.custom_extensions.push(own);
        root.authority().verify(&[root.make(parameters).der], NOW)
    };
    let refused = Err(ChainError::Extension);
    let (own, name_constraints) = ([1, 3, 6, 1, 4, 1, 99_999], [2, 5, 29, 30]);
    assert_eq!(verify(&own, vec![5, 0], true), refused);
    assert_eq!(verify(&own, vec![5, 0], false), Ok(()));
    // Whoever wrote this one forgot that it is critical.
    let permitted = vec![0x30, 8, 0xa0, 6, 0x30, 4, 0x82, 2, b'o', b'r'];
    assert_eq!(verify(&name_constraints, permitted, false), refused);
    // One that cannot be read restricts nobody knows what.
    assert_eq!(verify(&name_constraints, vec![4, 0], false), refused);
    let malformed = Err(ChainError::Certificate(CryptoError::Malformed));
    for usage in [[2, 5, 29, 15], [2, 5, 29, 37]] {
        assert_eq!(verify(&usage, vec![4, 0], false), malformed, "{usage:?}");
    }
}

#[test]
fn names_that_are_restricted_are_not_for_anybody_else() {
    let root = Maker::root("CA");
    let mut restricted = authority("one", BasicConstraints::Unconstrained);
    restricted.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".into())],
        excluded_subtrees: Vec::new(),
    });
    let one = root.make(restricted);
    // We do not look at them, so such an authority proves nothing (RFC 5280 section 4.2.1.10).
    let refused = Err(ChainError::Extension);
    assert_eq!(root.authority().verify(&chain_of(&one, "d"), NOW), refused);
}
