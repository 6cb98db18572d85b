//! Java keystores.

use tidegate::credentials::{CredentialError, CredentialSettings};
use tidegate::crypto::signature::KeyType;

use super::tools::{Bench, common_name, load, refuse};

const STORE: &str = "store-password";
const KEY: &str = "key-password";

/// ThingsBoard's documented way to a keystore, in each format that keytool writes.
#[test]
fn keystores_of_keytool() {
    let bench = Bench::new();
    for (file, options, key_password) in [
        ("jks.jks", "-storetype JKS", KEY),
        ("modern.p12", "-storetype PKCS12", STORE),
        ("default.jks", "", STORE),
        (
            "legacy.p12",
            "-storetype PKCS12 -J-Dkeystore.pkcs12.legacy",
            STORE,
        ),
    ] {
        bench.keytool(&format!(
            "-genkeypair -alias ServerAlias -keyalg EC -groupname secp256r1 -dname CN=localhost \
             -validity 30 -keystore {file} -storepass {STORE} -keypass {key_password} {options}"
        ));
        for alias in ["serveralias", "ServerAlias", "SERVERALIAS", ""] {
            // The type says nothing, the first bytes do.
            for key_store_type in ["JKS", "PKCS12", "pkcs12"] {
                let settings = CredentialSettings {
                    key_store_type: key_store_type.to_owned(),
                    ..bench.key_store(file, STORE, alias, key_password)
                };
                let loaded = load(&settings);
                assert_eq!(loaded.files, [bench.path(file)]);
                assert_eq!(loaded.credentials.chain.len(), 1);
                assert_eq!(loaded.credentials.key.key_type(), KeyType::EcdsaP256);
            }
        }
        check_faults(&bench, file, key_password);
    }
}

/// ThingsBoard's key generation script as it stands: two passwords that differ, of which a keytool
/// that writes PKCS12 heeds the store's alone.
#[test]
fn the_passwords_of_thingsboards_script() {
    let bench = Bench::new();
    bench.keytool(
        "-genkeypair -v -alias serveralias -keystore coapserver.jks -keypass server_key_password \
         -storepass server_ks_password -keyalg EC -groupname secp256r1 -validity 9999 \
         -dname CN=localhost,OU=Thingsboard,O=Thingsboard,L=SF,ST=CA,C=US",
    );
    let settings = CredentialSettings {
        search_path: vec![bench.path("")],
        ..CredentialSettings::default()
    };
    // All settings are ThingsBoard's defaults, so there is no PEM file and the keystore serves.
    let loaded = load(&settings);
    assert_eq!(loaded.files, [bench.path("coapserver.jks")]);
    assert_eq!(loaded.credentials.chain.len(), 1);
}

/// Wrong passwords, a wrong alias, and a file cut off are told apart, and each names its setting.
fn check_faults(bench: &Bench, file: &str, key_password: &str) {
    let wrong = "wrong-password";
    let error = refuse(
        &bench.key_store(file, wrong, "serveralias", key_password),
        &["COAP_DTLS_KEY_STORE_PASSWORD", file, "wrong password"],
    );
    assert!(
        matches!(error, CredentialError::WrongPassword { .. }),
        "{error}"
    );
    for alias in ["serveralias", ""] {
        let settings = bench.key_store(file, STORE, alias, wrong);
        let told = if key_password == STORE {
            // keytool gave the key the store's password, whatever it was told.
            load(&settings).warnings.concat()
        } else {
            let error = refuse(&settings, &[]);
            assert!(
                matches!(error, CredentialError::WrongPassword { .. }),
                "{error}"
            );
            error.to_string()
        };
        for part in [
            "COAP_DTLS_KEY_PASSWORD",
            file,
            "'serveralias': wrong password",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let same = told.contains("COAP_DTLS_KEY_STORE_PASSWORD");
        assert_eq!(same, key_password == STORE, "{told}");
    }
    let error = refuse(
        &bench.key_store(file, STORE, "other", key_password),
        &["COAP_DTLS_KEY_ALIAS", file, "'other'", "serveralias"],
    );
    assert!(
        matches!(error, CredentialError::UnknownAlias { .. }),
        "{error}"
    );
    let whole = bench.read(file);
    for end in [
        0,
        1,
        4,
        12,
        whole.len() / 2,
        whole.len() - 21,
        whole.len() - 1,
    ] {
        bench.write("cut", &whole[..end]);
        let error = refuse(
            &bench.key_store("cut", STORE, "serveralias", key_password),
            &["COAP_DTLS_KEY_STORE", "cut"],
        );
        assert!(
            matches!(error, CredentialError::BrokenStore { .. }),
            "{file} {end}: {error}"
        );
    }
    bench.write("tail", [&whole[..], b"x"].concat());
    refuse(
        &bench.key_store("tail", STORE, "serveralias", key_password),
        &["tail"],
    );
}

#[test]
fn an_empty_key_password_is_that_of_the_store() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl(&format!(
        "pkcs12 -export -in cert.pem -inkey key.pem -name a -out store.p12 -passout pass:{STORE}"
    ));
    load(&bench.key_store("store.p12", STORE, "a", ""));
}

#[test]
fn what_keytool_writes_and_we_do_not_read() {
    let bench = Bench::new();
    bench.keytool(&format!(
        "-genkeypair -alias a -keyalg EC -groupname secp256r1 -dname CN=x -keystore store.jceks \
         -storetype JCEKS -storepass {STORE} -keypass {KEY}"
    ));
    let error = refuse(
        &bench.key_store("store.jceks", STORE, "a", KEY),
        &["JCEKS", "keytool -importkeystore", "store.jceks"],
    );
    assert!(matches!(error, CredentialError::Unsupported { .. }));
    let settings = CredentialSettings {
        key_store_type: "BKS".to_owned(),
        ..bench.key_store("store.jceks", STORE, "a", KEY)
    };
    refuse(
        &settings,
        &["COAP_DTLS_KEY_STORE_TYPE='BKS'", "JKS or PKCS12"],
    );
    bench.make_pair();
    refuse(
        &bench.key_store("cert.pem", STORE, "a", KEY),
        &["COAP_DTLS_CREDENTIALS_TYPE=PEM", "cert.pem"],
    );
    bench.write("garbage", "garbage");
    refuse(
        &bench.key_store("garbage", STORE, "a", KEY),
        &["garbage", "neither as JKS"],
    );
    bench.openssl("x509 -in cert.pem -outform DER -out cert.der");
    refuse(
        &bench.key_store("cert.der", STORE, "a", KEY),
        &["cert.der", "not a sound keystore"],
    );
}

/// Several keys, each with its password, and a trusted certificate among them.
#[test]
fn several_entries() {
    let bench = Bench::new();
    for (file, store_type) in [("many.jks", "JKS"), ("many.p12", "PKCS12")] {
        let own_password = store_type == "JKS";
        for (alias, password) in [("first", "first-password"), ("second", "second-password")] {
            let password = if own_password { password } else { STORE };
            bench.keytool(&format!(
                "-genkeypair -alias {alias} -keyalg EC -groupname secp384r1 -dname CN={alias} \
                 -keystore {file} -storetype {store_type} -storepass {STORE} -keypass {password}"
            ));
        }
        bench.make_pair();
        bench.keytool(&format!(
            "-importcert -noprompt -alias trusted -file cert.pem -keystore {file} -storepass {STORE}"
        ));
        for alias in ["first", "second"] {
            let password = if own_password {
                format!("{alias}-password")
            } else {
                STORE.to_owned()
            };
            let loaded = load(&bench.key_store(file, STORE, alias, &password));
            assert_eq!(
                common_name(&loaded.credentials.chain[0]),
                format!("CN={alias}")
            );
            assert_eq!(loaded.credentials.key.key_type(), KeyType::EcdsaP384);
        }
        // TB section 1.2: without alias, the first private key that can be used.
        if own_password {
            let loaded = load(&bench.key_store(file, STORE, "", "second-password"));
            assert_eq!(common_name(&loaded.credentials.chain[0]), "CN=second");
        }
        refuse(
            &bench.key_store(file, STORE, "trusted", STORE),
            &["'trusted'", "certificate alone", "first", "second"],
        );
    }
    bench.keytool(&format!(
        "-importcert -noprompt -alias trusted -file cert.pem -keystore only.jks -storetype JKS \
         -storepass {STORE}"
    ));
    let error = refuse(
        &bench.key_store("only.jks", STORE, "", STORE),
        &["no private key"],
    );
    assert!(matches!(error, CredentialError::NoPrivateKey { .. }));
}

/// A key certified by an authority: the chain comes with it, leaf first.
#[test]
fn chains() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name prime256v1 -genkey -noout -out ca_key.pem");
    bench.openssl("req -x509 -key ca_key.pem -out ca.pem -days 30 -subj /CN=authority");
    bench.openssl("req -new -key key.pem -out request.pem -subj /CN=leaf");
    bench.openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca_key.pem -days 9 -out leaf.pem");
    bench.openssl(&format!(
        "pkcs12 -export -in leaf.pem -inkey key.pem -certfile ca.pem -name a -out chain.p12 \
         -passout pass:{STORE}"
    ));
    for store_type in ["JKS", "PKCS12"] {
        bench.keytool(&format!(
            "-importkeystore -srckeystore chain.p12 -srcstorepass {STORE} -destkeystore \
             {store_type} -deststoretype {store_type} -deststorepass {STORE} -noprompt"
        ));
    }
    for file in ["chain.p12", "JKS", "PKCS12"] {
        let loaded = load(&bench.key_store(file, STORE, "a", STORE));
        let chain = &loaded.credentials.chain;
        let names: Vec<String> = chain.iter().map(|der| common_name(der)).collect();
        assert_eq!(names, ["CN=leaf", "CN=authority"], "{file}");
    }
}

#[test]
fn pkcs12_files_of_openssl() {
    let bench = Bench::new();
    bench.make_pair();
    let make = |options: &str| {
        bench.openssl(&format!(
            "pkcs12 -export -in cert.pem -inkey key.pem -out store.p12 -passout pass:{STORE} {options}"
        ));
    };
    for options in [
        "-name a",
        "-name a -legacy",
        "-name a -macalg sha1 -maciter",
        "-name a -macalg sha224",
        "-name a -macalg sha384",
        "-name a -macalg sha512",
        "-name a -iter 1 -maciter",
        "-name a -iter 50000",
        "-name a -keypbe NONE -certpbe NONE",
        "-name a -certpbe NONE",
        "-name a -keypbe AES-128-CBC -certpbe AES-192-CBC",
        "-name a -keypbe DES-EDE3-CBC -certpbe DES-EDE3-CBC",
        "-name a -legacy -keypbe PBE-SHA1-RC2-40 -certpbe PBE-SHA1-RC2-128",
        "-name a -legacy -keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-3DES",
    ] {
        make(options);
        load(&bench.key_store("store.p12", STORE, "a", STORE));
        if !options.contains("NONE") {
            let error = refuse(
                &bench.key_store("store.p12", "wrong-password", "a", STORE),
                &["COAP_DTLS_KEY_STORE_PASSWORD", "wrong password"],
            );
            assert!(
                matches!(error, CredentialError::WrongPassword { .. }),
                "{options}"
            );
        }
    }
    // Without a MAC OpenSSL leaves the certificates open, so only the key's password counts.
    make("-name a -nomac");
    load(&bench.key_store("store.p12", "", "a", STORE));
    refuse(
        &bench.key_store("store.p12", "wrong-password", "a", "wrong-password"),
        &["COAP_DTLS_KEY_PASSWORD"],
    );
    // Without a name the keys have numbers, as in Java.
    make("");
    load(&bench.key_store("store.p12", STORE, "1", STORE));
    load(&bench.key_store("store.p12", STORE, "", STORE));
    make("-name a -legacy -keypbe PBE-SHA1-RC4-128");
    refuse(
        &bench.key_store("store.p12", STORE, "a", STORE),
        &["RC4", "keytool -importkeystore"],
    );
}

#[test]
fn pkcs12_with_an_empty_password() {
    let bench = Bench::new();
    bench.make_pair();
    for options in ["", "-legacy"] {
        bench.openssl(&format!(
            "pkcs12 -export -in cert.pem -inkey key.pem -name a -out empty.p12 -passout pass: \
             {options}"
        ));
        load(&bench.key_store("empty.p12", "", "a", ""));
    }
}

#[test]
fn pkcs12_without_what_is_needed() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl(&format!(
        "pkcs12 -export -inkey key.pem -in key.pem -nocerts -name a -out no_cert.p12 \
         -passout pass:{STORE}"
    ));
    let error = refuse(
        &bench.key_store("no_cert.p12", STORE, "a", STORE),
        &["no certificate"],
    );
    assert!(matches!(error, CredentialError::NoCertificate { .. }));
    bench.openssl(&format!(
        "pkcs12 -export -in cert.pem -nokeys -out no_key.p12 -passout pass:{STORE}"
    ));
    let error = refuse(
        &bench.key_store("no_key.p12", STORE, "", STORE),
        &["no private key"],
    );
    assert!(matches!(error, CredentialError::NoPrivateKey { .. }));
    bench.openssl("ecparam -name secp521r1 -genkey -noout -out key.pem");
    bench.certify("key.pem", "cert.pem");
    bench.openssl(&format!(
        "pkcs12 -export -in cert.pem -inkey key.pem -name a -out p521.p12 -passout pass:{STORE}"
    ));
    let error = refuse(
        &bench.key_store("p521.p12", STORE, "a", STORE),
        &["'a'", "P-256"],
    );
    assert!(matches!(error, CredentialError::BadPrivateKey { .. }));
}

/// What only Java's API makes: passwords of key and store that differ in a PKCS12 file, passwords and
/// aliases beyond ASCII, and a secret key beside the private one.
#[test]
fn keystores_of_javas_api() {
    const PROGRAM: &str = r#"
import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import javax.crypto.spec.SecretKeySpec;

public class Make {
    static PrivateKey key;
    static Certificate[] chain;

    static void store(String file, String type, String alias, String keyPassword,
            String storePassword) throws Exception {
        KeyStore store = KeyStore.getInstance(type);
        store.load(null, null);
        if (file.startsWith("secret")) {
            store.setEntry("secret",
                new KeyStore.SecretKeyEntry(new SecretKeySpec(new byte[16], "AES")),
                new KeyStore.PasswordProtection(storePassword.toCharArray()));
        }
        store.setKeyEntry(alias, key, keyPassword.toCharArray(), chain);
        try (OutputStream out = new FileOutputStream(file)) {
            store.store(out, storePassword.toCharArray());
        }
    }

    public static void main(String[] arguments) throws Exception {
        byte[] der = Files.readAllBytes(Path.of("key.der"));
        key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
        try (InputStream in = new FileInputStream("cert.pem")) {
            chain = new Certificate[] {
                CertificateFactory.getInstance("X.509").generateCertificate(in) };
        }
        store("two.p12", "PKCS12", "server", "key-password", "store-password");
        store("secret.p12", "PKCS12", "server", "store-password", "store-password");
        store("beyond.jks", "JKS", "s\u00e9rver-\u043a\u043b\u044e\u0447",
            "schl\u00fcssel\ud83d\udd11", "p\u00e4ssw\u00f6rd\u20ac");
        System.setProperty("keystore.pkcs12.legacy", "");
        store("two_legacy.p12", "PKCS12", "server", "key-password", "store-password");
    }
}
"#;
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der");
    bench.write("Make.java", PROGRAM);
    bench.run("java", "default-jdk-headless", &["Make.java"]);

    for file in ["two.p12", "two_legacy.p12"] {
        load(&bench.key_store(file, STORE, "server", KEY));
        for password in [STORE, "", "wrong-password"] {
            refuse(
                &bench.key_store(file, STORE, "server", password),
                &["COAP_DTLS_KEY_PASSWORD", "wrong password"],
            );
        }
        refuse(
            &bench.key_store(file, KEY, "server", KEY),
            &["COAP_DTLS_KEY_STORE_PASSWORD"],
        );
    }
    load(&bench.key_store("secret.p12", STORE, "server", STORE));
    let (store, key) = ("p\u{e4}ssw\u{f6}rd\u{20ac}", "schl\u{fc}ssel\u{1f511}");
    let alias = "S\u{c9}RVER-\u{41a}\u{41b}\u{42e}\u{427}";
    load(&bench.key_store("beyond.jks", store, alias, key));
    load(&bench.key_store("beyond.jks", store, "", key));
    refuse(
        &bench.key_store("beyond.jks", "passwort", alias, key),
        &["COAP_DTLS_KEY_STORE_PASSWORD"],
    );
    refuse(
        &bench.key_store("beyond.jks", store, alias, "schlussel"),
        &["COAP_DTLS_KEY_PASSWORD"],
    );
}

/// RFC 9579: a MAC by PBKDF2 and HMAC, which OpenSSL writes since 3.4 and Java since 26.
#[test]
fn pkcs12_with_pbmac1() {
    use aws_lc_rs::{hmac, pbkdf2};
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl(&format!(
        "pkcs12 -export -in cert.pem -inkey key.pem -name a -nomac -out open.p12 \
         -passout pass:{STORE}"
    ));
    let pfx = bench.read("open.p12");
    // PFX { 3, { data, [0] { OCTET STRING } } }: four headers before the content under the MAC.
    let body = &contents(&pfx)[3..];
    let safe = contents(contents(&contents(body)[11..]));
    let hmac_sha256 = sequence(&[&[6, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9, 5, 0]]);
    for (length, accepted) in [(Some(32), true), (Some(20), true), (None, false)] {
        let mut key = vec![0; usize::from(length.unwrap_or(32_u8))];
        let iterations = 2048.try_into().unwrap();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            b"saltsalt",
            STORE.as_bytes(),
            &mut key,
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), safe);
        let key_length = length.map_or_else(Vec::new, |length| vec![2, 1, length]);
        let pbkdf2 = sequence(&[
            &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12],
            &sequence(&[
                &[4, 8],
                b"saltsalt",
                &[2, 2, 8, 0],
                &key_length,
                &hmac_sha256,
            ]),
        ]);
        let algorithm = sequence(&[
            &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 14],
            &sequence(&[&pbkdf2, &hmac_sha256]),
        ]);
        let mac_data = sequence(&[
            &sequence(&[&algorithm, &[4, 32], tag.as_ref()]),
            &[4, 8],
            b"NOT USED",
            &[2, 1, 1],
        ]);
        bench.write("mac.p12", sequence(&[&[2, 1, 3], body, &mac_data]));
        let settings = bench.key_store("mac.p12", STORE, "a", STORE);
        if accepted {
            load(&settings);
            let error = refuse(
                &bench.key_store("mac.p12", "wrong-password", "a", STORE),
                &["COAP_DTLS_KEY_STORE_PASSWORD"],
            );
            assert!(matches!(error, CredentialError::WrongPassword { .. }));
        } else {
            // RFC 9579 section 5: the key length must be there.
            refuse(&settings, &["PBMAC1 key length"]);
        }
    }
}

/// The content of the element that `der` begins with; its length is in two bytes.
fn contents(der: &[u8]) -> &[u8] {
    assert_eq!(der[1], 0x82);
    &der[4..]
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82, length[0], length[1]], body.as_slice()].concat()
}

/// Bouncy Castle and others write BER: indefinite lengths, and strings in pieces.
#[test]
fn pkcs12_in_ber() {
    let bench = Bench::new();
    bench.make_pair();
    for options in ["", "-legacy", "-nomac", "-keypbe NONE -certpbe NONE"] {
        bench.openssl(&format!(
            "pkcs12 -export -in cert.pem -inkey key.pem -name a -out der.p12 -passout pass:{STORE} \
             {options}"
        ));
        let der = bench.read("der.p12");
        let mut ber = Vec::new();
        let rest = to_ber(&der, &mut ber);
        assert!(rest.is_empty() && ber != der);
        bench.write("ber.p12", &ber);
        load(&bench.key_store("ber.p12", STORE, "a", STORE));
        refuse(
            &bench.key_store("ber.p12", "wrong-password", "a", "wrong-password"),
            &["COAP_DTLS_KEY"],
        );
    }
}

/// Rewrites one element of DER with indefinite lengths and long strings in two pieces; returns what
/// follows it.
fn to_ber<'a>(der: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (tag, first) = (der[0], usize::from(der[1]));
    let (header, length) = if first < 0x80 {
        (2, first)
    } else {
        let digits = &der[2..2 + first - 0x80];
        (
            2 + digits.len(),
            digits
                .iter()
                .fold(0, |length, &digit| length << 8 | usize::from(digit)),
        )
    };
    let (element, rest) = der.split_at(header + length);
    let body = &element[header..];
    if tag & 0x20 != 0 {
        out.extend_from_slice(&[tag, 0x80]);
        let mut inner = body;
        while !inner.is_empty() {
            inner = to_ber(inner, out);
        }
        out.extend_from_slice(&[0, 0]);
    } else if tag == 4 && length > 200 {
        out.extend_from_slice(&[0x24, 0x80]);
        for piece in body.chunks(length / 2 + 1) {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            out.extend_from_slice(&[4, 0x82, length[0], length[1]]);
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(&[0, 0]);
    } else {
        out.extend_from_slice(element);
    }
    rest
}
