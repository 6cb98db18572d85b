use super::*;
use crate::store::embedded::{StoreSettings, open};
use tempfile::TempDir;

fn registry(directory: &TempDir) -> Arc<EmbeddedRegistry> {
    open(directory.path(), &StoreSettings::default())
        .unwrap()
        .registry
}

fn device(name: &str, credential: NewCredential) -> NewDevice {
    NewDevice {
        name: name.into(),
        profile: None,
        credential,
    }
}

fn token(token: &str) -> NewCredential {
    NewCredential::AccessToken(token.into())
}

#[test]
fn devices_are_found_by_all_their_keys_and_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let (a, b) = {
        let registry = registry(&directory);
        let a = registry.add(device("a", token("TA"))).unwrap();
        let profiled = NewDevice {
            profile: Some("meter".into()),
            ..device("b", NewCredential::Certificate(vec![1, 2, 3, 4]))
        };
        (a, registry.add(profiled).unwrap())
    };
    let registry = registry(&directory);
    assert_eq!(registry.len(), 2);
    assert_eq!(registry.device_by_token("TA"), Some(Arc::clone(&a)));
    assert_eq!(registry.device_by_name("a"), Some(Arc::clone(&a)));
    assert_eq!(registry.device(a.id), Some(Arc::clone(&a)));
    assert_eq!((&*a.profile, &*b.profile), ("default", "meter"));
    let Credential::X509 { fingerprint } = b.credential else {
        panic!("{b:?}");
    };
    // TB section 4, first vector.
    let id = "dbe6388565b742584479d8062b370d1725f1d0709f2003550b3126a10735cf25";
    assert_eq!(fingerprint_text(&fingerprint), id);
    assert_eq!(registry.device_by_fingerprint(&fingerprint), Some(b));
    assert_eq!(registry.certificate("b"), Ok(Some("AQIDBA==".into())));
    assert_eq!(registry.certificate("a"), Ok(None));
    assert!(registry.certificate("c").is_err());
    // Exactly, case included.
    assert_eq!(registry.device_by_token("ta"), None);
    assert_eq!(registry.device_by_token(""), None);
    assert_eq!(registry.device_by_fingerprint(&[0; 32]), None);
}

#[test]
fn names_tokens_and_certificates_belong_to_one_device() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    let certificate = || NewCredential::Certificate(vec![1]);
    registry.add(device("a", token("T"))).unwrap();
    registry.add(device("b", certificate())).unwrap();
    let refused = |name: &str, credential| registry.add(device(name, credential)).unwrap_err();
    assert_eq!(
        refused("a", token("U")),
        RegistryError::NameTaken("a".into())
    );
    assert_eq!(refused("c", token("T")), RegistryError::TokenTaken);
    assert_eq!(
        refused("c", certificate()),
        RegistryError::CertificateTaken("b".into())
    );
    let changed = |credential| registry.set_credential("a", credential);
    assert_eq!(
        changed(certificate()),
        Err(RegistryError::CertificateTaken("b".into()))
    );
    // Its own is not taken.
    assert!(changed(token("T")).is_ok());
    // Within one call as well, and a bad one does not stop the rest.
    let results = registry.add_many(vec![
        device("x", token("X")),
        device("x", token("Y")),
        device("y", token("X")),
        device("z", NewCredential::Certificate(vec![2])),
        device("w", NewCredential::Certificate(vec![2])),
        device("", token("V")),
        device("v", token("V")),
    ]);
    let errors: Vec<_> = results.iter().map(|r| r.as_ref().err()).collect();
    assert!(matches!(
        errors[..],
        [
            None,
            Some(RegistryError::NameTaken(_)),
            Some(RegistryError::TokenTaken),
            None,
            Some(RegistryError::CertificateTaken(_)),
            Some(RegistryError::Name(..)),
            None,
        ]
    ));
    assert_eq!(registry.len(), 5);
}

#[test]
fn a_new_credential_ends_the_old_one_and_is_counted() {
    let directory = TempDir::new().unwrap();
    let before = {
        let registry = registry(&directory);
        let before = registry.add(device("a", token("T"))).unwrap();
        assert_eq!(before.credential_generation, 0);
        let after = registry
            .set_credential("a", NewCredential::Certificate(vec![7]))
            .unwrap();
        assert_eq!((after.id, after.credential_generation), (before.id, 1));
        assert_eq!(registry.device_by_token("T"), None);
        assert_eq!(registry.device_by_name("a"), Some(Arc::clone(&after)));
        assert_eq!(registry.device(after.id), Some(after));
        // The token is free again.
        registry.add(device("b", token("T"))).unwrap();
        before
    };
    let registry = registry(&directory);
    let after = registry.device_by_name("a").unwrap();
    assert_eq!((after.id, after.credential_generation), (before.id, 1));
    assert_eq!(&*registry.device_by_token("T").unwrap().name, "b");
    let unknown = registry.set_credential("nobody", NewCredential::RandomToken);
    assert_eq!(unknown, Err(RegistryError::Unknown("nobody".into())));
}

#[test]
fn numbers_are_never_given_again() {
    let directory = TempDir::new().unwrap();
    let first = {
        let registry = registry(&directory);
        let first = registry.add(device("a", token("T"))).unwrap();
        assert_eq!(registry.remove("a"), Ok(Arc::clone(&first)));
        assert_eq!(
            registry.remove("a"),
            Err(RegistryError::Unknown("a".into()))
        );
        assert!(registry.device_by_token("T").is_none() && registry.device(first.id).is_none());
        assert!(registry.is_empty());
        first
    };
    let registry = registry(&directory);
    assert!(registry.is_empty());
    assert!(registry.add(device("a", token("T"))).unwrap().id > first.id);
}

#[test]
fn random_tokens_are_alphanumeric_and_differ() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    let mut seen = std::collections::HashSet::new();
    for result in registry.add_many(
        (0..500)
            .map(|i| device(&i.to_string(), NewCredential::RandomToken))
            .collect(),
    ) {
        let Credential::AccessToken(token) = &result.unwrap().credential else {
            panic!("a token was asked for");
        };
        assert!(token.len() == 20 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(seen.insert(token.clone()));
    }
}

#[test]
fn unusable_names_and_tokens_are_refused() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    let long = "n".repeat(256);
    for name in [
        "",
        " ",
        " a",
        "a ",
        "a\nb",
        "\u{0}",
        &long,
        ".",
        "..",
        "a\u{202e}b",
        "\u{200b}",
        "a\u{2066}",
    ] {
        let refused = registry.add(device(name, token("T"))).unwrap_err();
        assert!(matches!(refused, RegistryError::Name(..)), "{name:?}");
    }
    for text in ["", "a b", "a/b", "a\t", &long] {
        let refused = registry.add(device("a", token(text))).unwrap_err();
        assert!(matches!(refused, RegistryError::Token(_)), "{text:?}");
        let secret = text.is_empty() || !refused.to_string().contains(text);
        assert!(secret, "a token is not for messages");
    }
    for der in [vec![], vec![0; validate::CERTIFICATE_BYTES_MAX + 1]] {
        let refused = registry
            .add(device("a", NewCredential::Certificate(der)))
            .unwrap_err();
        assert!(matches!(refused, RegistryError::Certificate(_)));
    }
    let profile = NewDevice {
        profile: Some(String::new()),
        ..device("a", token("T"))
    };
    assert!(matches!(
        registry.add(profile),
        Err(RegistryError::Profile(..))
    ));
    assert!(registry.is_empty());
    registry
        .add(device(&"ä".repeat(255), token(&"t".repeat(255))))
        .unwrap();
}

#[test]
fn lists_page_in_the_order_of_names() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    for name in ["d", "b", "ä", "a", "c"] {
        registry
            .add(device(name, NewCredential::RandomToken))
            .unwrap();
    }
    let names = |after, limit| -> Vec<String> {
        registry
            .list(after, limit)
            .iter()
            .map(|device| device.name.to_string())
            .collect()
    };
    assert_eq!(names(None, 10), ["a", "b", "c", "d", "ä"]);
    assert_eq!(names(None, 2), ["a", "b"]);
    assert_eq!(names(Some("b"), 2), ["c", "d"]);
    assert_eq!(names(Some("bb"), 1), ["c"]);
    assert!(names(Some("ä"), 2).is_empty());
}

#[test]
fn readers_see_whole_changes_only() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    registry.add(device("a", token("0"))).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let found = registry.device_by_name("a").unwrap();
                    let Credential::AccessToken(token) = &found.credential else {
                        panic!("{found:?}");
                    };
                    assert_eq!(**token, found.credential_generation.to_string());
                    if let Some(by_token) = registry.device_by_token(token) {
                        assert_eq!(by_token.id, found.id);
                    }
                }
            });
        }
        for generation in 1..=50 {
            registry
                .set_credential("a", token(&generation.to_string()))
                .unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn the_end_of_a_credential_is_known_at_once_and_after_a_restart() {
    use crate::registry::revocation::SessionIdentity;
    use std::sync::atomic::{AtomicU64, Ordering};

    let directory = TempDir::new().unwrap();
    let started = unix_ms();
    let identity = |device: &Device| device.credential.session_identity().unwrap();
    let (removed, changed, kept): (SessionIdentity, SessionIdentity, SessionIdentity);
    {
        let registry = registry(&directory);
        let told = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&told);
        let observer = move |unix_ms| last.store(unix_ms, Ordering::SeqCst);
        registry.revocations().set_observer(observer);
        let certificate = |bytes: &[u8]| NewCredential::Certificate(bytes.to_vec());
        let added = registry.add(device("removed", certificate(b"1"))).unwrap();
        removed = identity(&added);
        changed = identity(&registry.add(device("changed", certificate(b"2"))).unwrap());
        kept = identity(&registry.add(device("kept", certificate(b"3"))).unwrap());
        registry.add(device("token", token("T"))).unwrap();
        registry.remove("token").unwrap();
        assert_eq!(
            told.swap(0, Ordering::SeqCst),
            0,
            "a token is asked for each time"
        );
        registry.remove("removed").unwrap();
        assert!(told.swap(0, Ordering::SeqCst) >= started);
        let after = registry.set_credential("changed", token("U")).unwrap();
        assert_eq!(after.credential.session_identity(), None);
        assert!(told.swap(0, Ordering::SeqCst) >= started);
    }
    let registry = registry(&directory);
    let list = registry.revocations();
    assert_eq!(list.len(), 2);
    for identity in [removed, changed] {
        assert!(list.is_revoked(&identity, started));
        assert!(!list.is_revoked(&identity, unix_ms() + 1));
    }
    assert!(!list.is_revoked(&kept, 0));
}

fn psk(identity: &str, key: Option<&[u8]>) -> NewCredential {
    NewCredential::PreSharedKey {
        identity: identity.into(),
        key: key.map(|key| Arc::new(PreSharedKey::new(key).unwrap())),
    }
}

const PSK: &[u8] = b"\x00sixteen bytes \xff";

#[test]
fn pre_shared_keys_are_found_by_their_identities_and_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let hash = |identity: &str| psk_identity_hash(identity.as_bytes());
    let random = {
        let registry = registry(&directory);
        assert!(!registry.has_pre_shared_keys());
        registry
            .add(device("a", psk("Zähler 1", Some(PSK))))
            .unwrap();
        let random = registry.add(device("b", psk("b", None))).unwrap();
        let refused = registry.add(device("c", psk("b", Some(PSK))));
        assert_eq!(refused, Err(RegistryError::PskIdentityTaken("b".into())));
        let both = registry.add_many(vec![
            device("d", psk("d", None)),
            device("e", psk("d", None)),
        ]);
        assert!(both[0].is_ok());
        assert_eq!(both[1], Err(RegistryError::PskIdentityTaken("d".into())));
        random.credential.clone()
    };
    let registry = registry(&directory);
    assert!(registry.has_pre_shared_keys());
    let found = registry.pre_shared_key(&hash("Zähler 1")).unwrap();
    assert_eq!(found.as_bytes(), PSK);
    let id = registry.identify_psk_identity(&hash("Zähler 1")).unwrap();
    assert_eq!(&*registry.device(id).unwrap().name, "a");
    assert_eq!(registry.device_by_name("b").unwrap().credential, random);
    assert_eq!(registry.pre_shared_key(&hash("zähler 1")), None);

    // Another key under the same identity, then no key at all.
    let list = Arc::clone(registry.revocations());
    let before = registry.device_by_name("a").unwrap();
    let identity = before.credential.session_identity().unwrap();
    registry.set_credential("a", psk("Zähler 1", None)).unwrap();
    let changed = registry.pre_shared_key(&hash("Zähler 1")).unwrap();
    assert_ne!(changed.as_bytes(), PSK);
    assert!(list.is_revoked(&identity, before.created_unix_ms));
    for name in ["a", "b", "d"] {
        assert!(registry.has_pre_shared_keys());
        registry.remove(name).unwrap();
    }
    assert!(!registry.has_pre_shared_keys());
    assert_eq!(registry.pre_shared_key(&hash("Zähler 1")), None);
    assert_eq!(registry.identify_psk_identity(&hash("b")), None);
}

/// RFC 4279 section 5.4: identities of 128 characters, keys of 64 bytes. Section 7.2: a key that can
/// be guessed is worth nothing.
#[test]
fn weak_keys_and_unusable_identities_are_refused_with_a_reason() {
    let directory = TempDir::new().unwrap();
    let registry = registry(&directory);
    let long = "ü".repeat(128);
    let good: Vec<u8> = (0..64_u8).map(|n| n.wrapping_mul(n)).collect();
    registry
        .add(device("long", psk(&long, Some(&good))))
        .unwrap();
    for identity in ["", "a\nb", &format!("{long}x")] {
        let refused = registry.add(device("x", psk(identity, None))).unwrap_err();
        assert!(
            matches!(refused, RegistryError::PskIdentity(..)),
            "{refused}"
        );
    }
    let ascending: Vec<u8> = (0..16).collect();
    let twos: Vec<u8> = (0..32).map(|n| n * 2).collect();
    for (key, reason) in [
        (&b"fifteen bytes ok"[..15], "shorter than 16 bytes"),
        (&[0; 16], "pattern"),
        (b"aabbaabbaabbaabb", "pattern"),
        (&ascending, "pattern"),
        (&twos, "pattern"),
    ] {
        let refused = registry.add(device("x", psk("x", Some(key)))).unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
    assert_eq!(registry.len(), 1);
}

#[test]
fn keys_are_read_from_hexadecimal_digits_only() {
    use crate::registry::pre_shared_key_of_hex;
    let key = pre_shared_key_of_hex("000102030405060708090a0B0C0D0E10").unwrap();
    assert_eq!(key.as_bytes()[..3], [0, 1, 2]);
    assert_eq!(key.as_bytes()[15], 0x10);
    for (text, reason) in [
        ("", "shorter than 16"),
        ("00112233445566778899aabbccddee0", "even number"),
        ("+0112233445566778899aabbccddeeff", "hexadecimal"),
        ("ü0112233445566778899aabbccddeef", "hexadecimal"),
        (&"5a4b3c2d1e".repeat(13), "longer than 64"),
    ] {
        let refused = pre_shared_key_of_hex(text).unwrap_err().to_string();
        let is_told = refused.contains(reason) || text.is_empty();
        assert!(is_told && !refused.contains("aabb"), "{text}: {refused}");
    }
}
