//! PEM files.

use tidegate::credentials::{self, CredentialError, CredentialSettings, CredentialsType};
use tidegate::crypto::signature::KeyType;

use super::tools::{Bench, common_name, load, refuse, watches};

const RIGHT: &str = "right-password";

/// What is not encrypted loads, whatever the password setting says.
#[test]
fn plain_keys() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name prime256v1 -genkey -out params.pem");
    assert!(String::from_utf8_lossy(&bench.read("params.pem")).contains("EC PARAMETERS"));
    bench.openssl("pkcs8 -topk8 -nocrypt -in key.pem -out pkcs8.pem");
    bench.openssl("ecparam -name secp384r1 -genkey -noout -out p384.pem");
    bench.openssl("genrsa -out rsa8.pem 2048");
    bench.openssl("rsa -in rsa8.pem -traditional -out rsa1.pem");
    assert!(String::from_utf8_lossy(&bench.read("rsa1.pem")).contains("BEGIN RSA PRIVATE KEY"));
    for (key, key_type) in [
        ("key.pem", KeyType::EcdsaP256),
        ("params.pem", KeyType::EcdsaP256),
        ("pkcs8.pem", KeyType::EcdsaP256),
        ("p384.pem", KeyType::EcdsaP384),
        ("rsa8.pem", KeyType::Rsa),
        ("rsa1.pem", KeyType::Rsa),
    ] {
        bench.certify(key, "its_cert.pem");
        for password in ["", "server_key_password"] {
            let loaded = load(&bench.pem("its_cert.pem", key, password));
            assert_eq!(loaded.credentials.key.key_type(), key_type, "{key}");
            assert!(watches(&loaded, &bench.path(key)));
            assert!(watches(&loaded, &bench.path("its_cert.pem")));
        }
    }
}

/// Loads `encrypted` with the right password, and tells a wrong one and a damaged file apart.
fn check_encrypted(bench: &Bench, name: &str) {
    load(&bench.pem("cert.pem", name, RIGHT));
    for wrong in ["wrong-password", "", "right-passwor", "server_key_password"] {
        let error = refuse(
            &bench.pem("cert.pem", name, wrong),
            &[
                "COAP_DTLS_PEM_KEY_PASSWORD",
                "COAP_DTLS_PEM_KEY ",
                name,
                "wrong password",
            ],
        );
        assert!(
            matches!(error, CredentialError::WrongPassword { .. }),
            "{name}: {error}"
        );
    }
    let text = String::from_utf8(bench.read(name)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Without the last line but one, the ciphertext is cut off.
    let cut = [&lines[..lines.len() - 2], &lines[lines.len() - 1..]].concat();
    bench.write("cut.pem", cut.join("\n"));
    let error = refuse(
        &bench.pem("cert.pem", "cut.pem", RIGHT),
        &["COAP_DTLS_PEM_KEY "],
    );
    assert!(
        !matches!(error, CredentialError::Unsupported { .. }),
        "{name}: {error}"
    );
    bench.write("cut.pem", lines[..lines.len() - 1].join("\n"));
    let error = refuse(&bench.pem("cert.pem", "cut.pem", RIGHT), &["no END line"]);
    assert!(matches!(error, CredentialError::BrokenPem { .. }));
}

#[test]
fn legacy_encrypted_keys() {
    let bench = Bench::new();
    bench.make_pair();
    for cipher in ["aes128", "aes192", "aes256", "des3"] {
        let name = format!("{cipher}.pem");
        bench.openssl(&format!(
            "ec -in key.pem -{cipher} -passout pass:{RIGHT} -out {name}"
        ));
        let text = String::from_utf8(bench.read(&name)).unwrap();
        assert!(text.contains("Proc-Type: 4,ENCRYPTED"));
        check_encrypted(&bench, &name);
    }
    bench.openssl(&format!(
        "ec -in key.pem -des -passout pass:{RIGHT} -out des.pem -provider legacy -provider default"
    ));
    check_encrypted(&bench, "des.pem");
    // RSA as PKCS#1.
    bench.openssl("genrsa -out rsa.pem 2048");
    bench.certify("rsa.pem", "cert.pem");
    bench.openssl(&format!(
        "rsa -in rsa.pem -traditional -aes256 -passout pass:{RIGHT} -out rsa_aes256.pem"
    ));
    check_encrypted(&bench, "rsa_aes256.pem");
}

#[test]
fn pkcs8_encrypted_keys_of_pbes2() {
    let bench = Bench::new();
    bench.make_pair();
    let mut options = vec!["-scrypt".to_owned()];
    for prf in [
        "hmacWithSHA1",
        "hmacWithSHA224",
        "hmacWithSHA256",
        "hmacWithSHA384",
        "hmacWithSHA512",
    ] {
        options.push(format!("-v2 aes-256-cbc -v2prf {prf}"));
    }
    for cipher in ["aes-128-cbc", "aes-192-cbc", "des3"] {
        options.push(format!("-v2 {cipher} -iter 5000"));
    }
    for option in options {
        bench.openssl(&format!(
            "pkcs8 -topk8 -in key.pem {option} -passout pass:{RIGHT} -out encrypted.pem"
        ));
        check_encrypted(&bench, "encrypted.pem");
    }
}

#[test]
fn pkcs8_encrypted_keys_of_pbes1_and_pkcs12() {
    let bench = Bench::new();
    bench.make_pair();
    for scheme in [
        "PBE-MD5-DES",
        "PBE-SHA1-DES",
        "PBE-MD5-RC2-64",
        "PBE-SHA1-RC2-64",
        "PBE-SHA1-3DES",
        "PBE-SHA1-2DES",
        "PBE-SHA1-RC2-128",
        "PBE-SHA1-RC2-40",
    ] {
        bench.openssl(&format!(
            "pkcs8 -topk8 -in key.pem -v1 {scheme} -passout pass:{RIGHT} -out encrypted.pem \
             -provider legacy -provider default"
        ));
        check_encrypted(&bench, "encrypted.pem");
    }
    bench.openssl(&format!(
        "pkcs8 -topk8 -in key.pem -v1 PBE-SHA1-RC4-128 -passout pass:{RIGHT} -out encrypted.pem \
         -provider legacy -provider default"
    ));
    let error = refuse(
        &bench.pem("cert.pem", "encrypted.pem", RIGHT),
        &["RC4", "openssl pkcs8 -topk8"],
    );
    assert!(matches!(error, CredentialError::Unsupported { .. }));
}

/// A password beyond ASCII is UTF-8, as OpenSSL takes it from a terminal of today.
#[test]
fn passwords_beyond_ascii() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("pkcs8 -topk8 -in key.pem -passout pass:sch\u{fc}ssel\u{20ac} -out new.pem");
    bench.openssl("ec -in key.pem -aes256 -passout pass:sch\u{fc}ssel\u{20ac} -out old.pem");
    for name in ["new.pem", "old.pem"] {
        load(&bench.pem("cert.pem", name, "sch\u{fc}ssel\u{20ac}"));
    }
}

/// TB section 2.3: the certificate file is scanned object by object; a key in it counts, the last
/// one wins, and the key file is not looked at then.
#[test]
fn key_inside_the_certificate_file() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name prime256v1 -genkey -out other.pem");
    bench.openssl(&format!(
        "ec -in key.pem -aes128 -passout pass:{RIGHT} -out locked.pem"
    ));
    for (parts, fits) in [
        (&["cert.pem", "key.pem"][..], true),
        (&["key.pem", "cert.pem"], true),
        (&["other.pem", "cert.pem", "key.pem"], true),
        (&["key.pem", "cert.pem", "other.pem"], false),
        (&["other.pem", "locked.pem", "cert.pem"], true),
    ] {
        bench.concatenate(parts, "both.pem");
        let settings = bench.pem("both.pem", "absent.pem", RIGHT);
        if fits {
            assert_eq!(load(&settings).files, [bench.path("both.pem")]);
        } else {
            let error = refuse(&settings, &["both.pem", "does not belong"]);
            assert!(matches!(error, CredentialError::KeyMismatch { .. }));
        }
    }
}

/// TB section 2.3: every certificate joins the chain in the order of the file, first is the leaf.
#[test]
fn chains() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name secp384r1 -genkey -noout -out ca_key.pem");
    bench.openssl("req -x509 -key ca_key.pem -out ca.pem -days 30 -subj /CN=authority");
    bench.openssl("req -new -key key.pem -out request.pem -subj /CN=leaf");
    bench.openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca_key.pem -days 9 -out leaf.pem");
    bench.concatenate(&["leaf.pem", "ca.pem"], "chain.pem");
    let loaded = load(&bench.pem("chain.pem", "key.pem", ""));
    let names: Vec<String> = loaded
        .credentials
        .chain
        .iter()
        .map(|der| common_name(der))
        .collect();
    assert_eq!(names, ["CN=leaf", "CN=authority"]);
    assert!(!loaded.warnings.iter().any(|text| text.contains("issue")));

    bench.concatenate(&["leaf.pem", "cert.pem"], "chain.pem");
    let loaded = load(&bench.pem("chain.pem", "key.pem", ""));
    assert_eq!(loaded.credentials.chain.len(), 2);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|text| text.contains("did not issue certificate 1"))
    );

    bench.concatenate(&["ca.pem", "leaf.pem"], "chain.pem");
    let error = refuse(
        &bench.pem("chain.pem", "key.pem", ""),
        &["leaf certificate first"],
    );
    assert!(matches!(error, CredentialError::KeyMismatch { .. }));
}

#[test]
fn text_around_blocks_and_line_ends_of_windows() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("x509 -in cert.pem -text -out text.pem");
    load(&bench.pem("text.pem", "key.pem", ""));
    for name in ["cert.pem", "key.pem"] {
        let text = String::from_utf8(bench.read(name)).unwrap();
        bench.write(&format!("crlf_{name}"), text.replace('\n', "\r\n"));
    }
    load(&bench.pem("crlf_cert.pem", "crlf_key.pem", ""));
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let bench = Bench::new();
    bench.make_pair();
    bench.write("empty", "");
    bench.write("garbage", [0x80, 0xff, 0, 1, 2, 0xfe]);
    bench.openssl("x509 -in cert.pem -outform DER -out cert.der");
    std::fs::create_dir(bench.path("directory")).unwrap();
    bench.write("large", vec![b'x'; (1 << 20) + 1]);
    bench.write("jks", [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
    let cert = "COAP_DTLS_PEM_CERT";
    for (file, mentioned) in [
        ("empty", &[cert, "no certificate", "BEGIN CERTIFICATE"][..]),
        ("garbage", &[cert, "no certificate"]),
        ("key.pem", &[cert, "no certificate"]),
        ("cert.der", &[cert, "openssl x509 -inform DER"]),
        ("jks", &[cert, "COAP_DTLS_CREDENTIALS_TYPE=KEYSTORE"]),
        ("directory", &[cert, "regular file"]),
        ("large", &[cert, "1048576"]),
    ] {
        let file_name = bench.name(file);
        let mentioned = [mentioned, &[file_name.as_str()]].concat();
        refuse(&bench.pem(file, "key.pem", ""), &mentioned);
    }
    for (file, mentioned) in [
        ("empty", "ENCRYPTED PRIVATE KEY"),
        ("garbage", "no private key"),
        ("cert.pem", "no private key"),
        ("directory", "regular file"),
        ("absent.pem", "no file"),
    ] {
        refuse(
            &bench.pem("cert.pem", file, ""),
            &["COAP_DTLS_PEM_KEY", file, mentioned],
        );
    }
    let certificate = String::from_utf8(bench.read("cert.pem")).unwrap();
    bench.write("damaged.pem", certificate.replacen("\nM", "\n!", 1));
    let error = refuse(
        &bench.pem("damaged.pem", "key.pem", ""),
        &["line 2", "base64"],
    );
    assert!(matches!(error, CredentialError::BrokenPem { line: 2, .. }));
    bench.write("damaged.pem", certificate.replacen("\nM", "\nA", 1));
    let error = refuse(&bench.pem("damaged.pem", "key.pem", ""), &["certificate 1"]);
    assert!(matches!(
        error,
        CredentialError::BadCertificate { position: 1, .. }
    ));
}

#[test]
fn a_file_without_permission_is_reported() {
    let bench = Bench::new();
    bench.make_pair();
    let settings = bench.pem("cert.pem", "key.pem", "");
    // As root everything can be read, so a name that leads nowhere stands in for it.
    let looped = bench.path("loop.pem");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let settings = CredentialSettings {
        pem_key: bench.name("loop.pem"),
        ..settings
    };
    let error = refuse(
        &settings,
        &["COAP_DTLS_PEM_KEY", "loop.pem", "cannot be read"],
    );
    assert!(matches!(error, CredentialError::Unreadable { .. }));
}

#[test]
fn keys_that_cannot_serve() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name secp521r1 -genkey -noout -out p521.pem");
    bench.openssl("ecparam -name brainpoolP256r1 -genkey -noout -out brainpool.pem");
    bench.openssl("genpkey -algorithm ED25519 -out ed25519.pem");
    bench.openssl("ecparam -name prime256v1 -param_enc explicit -genkey -noout -out explicit.pem");
    bench.openssl("genrsa -out rsa1024.pem 1024");
    bench.run(
        "ssh-keygen",
        "openssh-client",
        &["-q", "-t", "ecdsa", "-N", "", "-f", "ssh.pem"],
    );
    for (key, mentioned) in [
        ("p521.pem", "P-256"),
        ("brainpool.pem", "P-256"),
        ("ed25519.pem", "unsupported"),
        ("explicit.pem", "named_curve"),
        ("rsa1024.pem", "invalid private key"),
        ("ssh.pem", "ssh-keygen"),
    ] {
        refuse(
            &bench.pem("cert.pem", key, ""),
            &["COAP_DTLS_PEM_KEY", key, mentioned],
        );
    }
    // The certificate is looked at as well.
    bench.certify("p521.pem", "p521_cert.pem");
    let error = refuse(
        &bench.pem("p521_cert.pem", "key.pem", ""),
        &["P-256", "certificate 1"],
    );
    assert!(matches!(error, CredentialError::BadCertificate { .. }));
    bench.openssl("ecparam -name prime256v1 -genkey -noout -out other.pem");
    let error = refuse(
        &bench.pem("cert.pem", "other.pem", ""),
        &[
            "COAP_DTLS_PEM_CERT",
            "cert.pem",
            "COAP_DTLS_PEM_KEY",
            "other.pem",
        ],
    );
    assert!(matches!(error, CredentialError::KeyMismatch { .. }));
}

/// As Scandium does: a leaf whose extensions forbid it to be a server's is refused.
#[test]
fn purposes() {
    let bench = Bench::new();
    bench.make_pair();
    for (extension, allowed) in [
        ("keyUsage=digitalSignature", true),
        ("keyUsage=critical,digitalSignature,keyCertSign", true),
        ("keyUsage=keyCertSign", false),
        ("keyUsage=keyAgreement", false),
        ("extendedKeyUsage=serverAuth", true),
        ("extendedKeyUsage=clientAuth,serverAuth", true),
        ("extendedKeyUsage=anyExtendedKeyUsage", true),
        ("extendedKeyUsage=clientAuth", false),
    ] {
        bench.openssl(&format!(
            "req -x509 -key key.pem -out its_cert.pem -days 30 -subj /CN=x -addext {extension}"
        ));
        let settings = bench.pem("its_cert.pem", "key.pem", "");
        if allowed {
            load(&settings);
        } else {
            let (name, _) = extension.split_once('=').unwrap();
            let error = refuse(&settings, &["COAP_DTLS_PEM_CERT", name, "serverAuth"]);
            assert!(
                matches!(error, CredentialError::NotForServers { .. }),
                "{extension}"
            );
        }
    }
}

#[test]
fn a_leaf_out_of_its_validity_is_a_warning() {
    let bench = Bench::new();
    for (from, to, mentioned) in [
        (2001, 2002, Some("expired on")),
        (2901, 2902, Some("not valid before")),
        (2001, 2901, None),
    ] {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        bench.write("cert.pem", parameters.self_signed(&key).unwrap().pem());
        bench.write("key.pem", key.serialize_pem());
        let warnings = load(&bench.pem("cert.pem", "key.pem", "")).warnings;
        let found = warnings.iter().any(|text| {
            mentioned.is_some_and(|part| text.contains(part) && text.contains("COAP_DTLS_PEM_CERT"))
        });
        assert_eq!(found, mentioned.is_some(), "{warnings:?}");
    }
}

#[test]
fn a_key_that_everybody_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.make_pair();
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(bench.path("key.pem"), permissions).unwrap();
        let warnings = load(&bench.pem("cert.pem", "key.pem", "")).warnings;
        assert_eq!(
            warnings.iter().any(|text| text.contains("chmod 600")),
            warned
        );
    }
}

/// TB section 2.1 and 2.2.
#[test]
fn fallback_to_the_keystore_and_the_search_path() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl(
        "pkcs12 -export -in cert.pem -inkey key.pem -name serveralias -out store.p12 \
         -passout pass:store-password",
    );
    let settings = CredentialSettings {
        pem_cert: "absent.pem".to_owned(),
        key_store: bench.name("store.p12"),
        key_store_password: "store-password".into(),
        key_password: "store-password".into(),
        search_path: vec![bench.path("")],
        ..CredentialSettings::default()
    };
    let loaded = load(&settings);
    assert_eq!(loaded.files, [bench.path("store.p12")]);
    assert!(loaded.warnings.iter().any(|text| {
        text.contains("COAP_DTLS_PEM_CERT='absent.pem'") && text.contains("store.p12")
    }));

    // Bare names and classpath: names are found on the search path.
    for (cert, key) in [
        ("cert.pem", "key.pem"),
        ("classpath:cert.pem", "classpath:key.pem"),
    ] {
        let settings = CredentialSettings {
            pem_cert: cert.to_owned(),
            pem_key: key.to_owned(),
            ..settings.clone()
        };
        assert!(watches(&load(&settings), &bench.path("cert.pem")));
    }

    // Type KEYSTORE never falls back to PEM.
    let keystore_only = CredentialSettings {
        credentials_type: CredentialsType::Keystore,
        pem_cert: bench.name("cert.pem"),
        pem_key: bench.name("key.pem"),
        key_store: "absent.jks".to_owned(),
        ..settings.clone()
    };
    refuse(
        &keystore_only,
        &["COAP_DTLS_KEY_STORE='absent.jks'", "no file"],
    );

    // A PEM file that exists and is broken does not fall back.
    bench.write("broken.pem", "nothing");
    let broken = CredentialSettings {
        pem_cert: "broken.pem".to_owned(),
        ..settings.clone()
    };
    refuse(&broken, &["COAP_DTLS_PEM_CERT", "broken.pem"]);

    let nothing = CredentialSettings {
        key_store: "absent.jks".to_owned(),
        search_path: Vec::new(),
        ..settings
    };
    let error = refuse(
        &nothing,
        &[
            "COAP_DTLS_PEM_CERT='absent.pem'",
            "COAP_DTLS_KEY_STORE='absent.jks'",
        ],
    );
    assert!(matches!(error, CredentialError::NothingFound { .. }));
    let empty = CredentialSettings {
        pem_cert: String::new(),
        key_store: String::new(),
        ..nothing
    };
    assert!(credentials::load(&empty).is_err());
}
