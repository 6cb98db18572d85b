//! Files altered at random: each ends in credentials or an error, soon, and never in a panic.

use std::time::{Duration, Instant};

use tidegate::credentials::inspect::inspect;
use tidegate::credentials::{self, CredentialSettings};
use tidegate::random::{Random, SeededRandom};

use super::tools::Bench;

const STORE: &str = "store-password";

/// How many altered copies of each file.
const COPIES: u64 = 400;

/// Changes some bytes, or cuts, repeats or removes a piece.
fn mutate(content: &[u8], random: &mut SeededRandom) -> Vec<u8> {
    const TELLING: [u8; 10] = [0, 1, 2, 4, 0x30, 0x7f, 0x80, 0x84, 0xa0, 0xff];
    let mut copy = content.to_vec();
    for _ in 0..=random.below(3) {
        let length = copy.len().max(1) as u64;
        let at = usize::try_from(random.below(length)).unwrap();
        let size = usize::try_from(random.below(24)).unwrap();
        let end = (at + size).min(copy.len());
        match random.below(8) {
            0 => copy.truncate(at),
            1 => drop(copy.drain(at..end)),
            2 => {
                let piece = copy[at..end].to_vec();
                copy.splice(at..at, piece);
            }
            3 | 4 => {
                if let Some(byte) = copy.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                if let Some(byte) = copy.get_mut(at) {
                    *byte = TELLING[usize::try_from(random.below(10)).unwrap()];
                }
            }
        }
    }
    copy
}

/// Loads altered copies of `file`; `settings` must name it.
#[expect(
    clippy::disallowed_methods,
    reason = "the time it takes is what is tested"
)]
fn check(bench: &Bench, file: &str, settings: &CredentialSettings, altered: &str) {
    let content = bench.read(file);
    let mut random = SeededRandom::new(file.len() as u64 + content.len() as u64);
    let mut slowest = Duration::ZERO;
    for copy in 0..COPIES {
        let mutated = mutate(&content, &mut random);
        bench.write(altered, &mutated);
        let start = Instant::now();
        if let Err(error) = credentials::load(settings) {
            assert!(
                error.to_string().contains("COAP_DTLS_"),
                "{file} {copy}: {error}"
            );
        }
        let _ = inspect(&mutated);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(20), "{file}: {slowest:?}");
}

#[test]
fn pem_files() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ec -in key.pem -aes128 -passout pass:x -out legacy.pem");
    bench.openssl("pkcs8 -topk8 -in key.pem -passout pass:x -out pbes2.pem");
    bench.openssl("pkcs8 -topk8 -in key.pem -v1 PBE-SHA1-3DES -passout pass:x -out pbe.pem");
    bench.openssl("pkcs8 -topk8 -nocrypt -in key.pem -out plain.pem");
    for key in ["legacy.pem", "pbes2.pem", "pbe.pem", "plain.pem", "key.pem"] {
        check(
            &bench,
            key,
            &bench.pem("cert.pem", "altered", "x"),
            "altered",
        );
    }
    check(
        &bench,
        "cert.pem",
        &bench.pem("altered", "key.pem", "x"),
        "altered",
    );
    bench.concatenate(&["cert.pem", "legacy.pem"], "both.pem");
    check(
        &bench,
        "both.pem",
        &bench.pem("altered", "key.pem", "x"),
        "altered",
    );
}

/// A store without MAC lets alterations reach the readers behind it.
#[test]
fn keystores() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("req -x509 -key key.pem -out other.pem -days 9 -subj /CN=other");
    for (file, options) in [
        ("modern.p12", ""),
        ("no_mac.p12", "-nomac"),
        ("open.p12", "-nomac -keypbe NONE -certpbe NONE"),
        ("legacy.p12", "-nomac -legacy"),
    ] {
        bench.openssl(&format!(
            "pkcs12 -export -in cert.pem -inkey key.pem -certfile other.pem -name a -out {file} \
             -passout pass:{STORE} {options}"
        ));
    }
    bench.keytool(&format!(
        "-importkeystore -srckeystore modern.p12 -srcstorepass {STORE} -destkeystore store.jks \
         -deststoretype JKS -deststorepass {STORE} -noprompt"
    ));
    for file in [
        "modern.p12",
        "no_mac.p12",
        "open.p12",
        "legacy.p12",
        "store.jks",
    ] {
        for alias in ["a", ""] {
            check(
                &bench,
                file,
                &bench.key_store("altered", STORE, alias, STORE),
                "altered",
            );
        }
    }
}

/// The same for JKS with its checksum made right again, so that the readers behind it are reached.
#[test]
fn jks_with_a_right_checksum() {
    let bench = Bench::new();
    bench.keytool(&format!(
        "-genkeypair -alias a -keyalg EC -groupname secp256r1 -dname CN=x -keystore store.jks \
         -storetype JKS -storepass {STORE} -keypass {STORE}"
    ));
    let content = bench.read("store.jks");
    let body = &content[..content.len() - 20];
    let settings = bench.key_store("altered", STORE, "", STORE);
    let mut random = SeededRandom::new(11);
    let mut loaded = 0;
    for _ in 0..COPIES {
        let mut altered = mutate(body, &mut random);
        let checksum = jks_checksum(&altered);
        altered.extend_from_slice(&checksum);
        bench.write("altered", &altered);
        loaded += u32::from(credentials::load(&settings).is_ok());
    }
    // A changed date or alias does no harm, so some copies load: the checksum was right.
    assert!(loaded > 0);
    let whole = [body, &jks_checksum(body)].concat();
    assert_eq!(whole, content);
}

fn jks_checksum(body: &[u8]) -> [u8; 20] {
    use aws_lc_rs::digest;
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in STORE.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(b"Mighty Aphrodite");
    context.update(body);
    context.finish().as_ref().try_into().unwrap()
}
