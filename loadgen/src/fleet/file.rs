//! Devices from a file: `name,token`, or `name,certificate.pem,key.pem`, or `name,identity,key` (a
//! pre-shared key in hexadecimal, as `tidegate device import` takes it), a line each.
//!
//! Empty lines and lines that begin with `#` are skipped. Paths start at the file's directory. The
//! key may be in the certificate's file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls_pemfile::Item;
use tidegate::crypto::certificate::LeafInfo;
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::Credentials;

use super::Identity;
use crate::arguments::Authentication;

/// Reads the devices of a file: all, or the first `wanted`.
///
/// # Errors
///
/// What is wrong, and in which line.
pub(super) fn read(
    path: &Path,
    authentication: Authentication,
    wanted: Option<usize>,
) -> Result<Vec<Identity>, String> {
    let shown = path.display();
    let content =
        fs::read_to_string(path).map_err(|error| format!("--devices-file {shown}: {error}"))?;
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let mut identities = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if wanted == Some(identities.len()) {
            break;
        }
        let identity = match authentication {
            Authentication::X509 => read_certificate_line(line, base),
            Authentication::Psk => read_psk_line(line),
            Authentication::Token | Authentication::None => read_token_line(line),
        };
        let number = index + 1;
        identities.push(identity.map_err(|error| format!("{shown}, line {number}: {error}"))?);
    }
    match wanted {
        _ if identities.is_empty() => Err(format!("{shown}: has no devices")),
        Some(wanted) if identities.len() < wanted => Err(format!(
            "{shown}: has {} devices, and --devices asks for {wanted}",
            identities.len()
        )),
        _ => Ok(identities),
    }
}

fn read_token_line(line: &str) -> Result<Identity, String> {
    match line.split(',').map(str::trim).collect::<Vec<_>>()[..] {
        [name, token] if !name.is_empty() && !token.is_empty() => Ok(Identity {
            token: Some(token.to_owned()),
            ..Identity::default()
        }),
        _ => Err("is not `name,token`".into()),
    }
}

fn read_psk_line(line: &str) -> Result<Identity, String> {
    const FORM: &str = "is not `name,identity,key in hexadecimal`";
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, identity, key] = fields[..] else {
        return Err(FORM.into());
    };
    let is_hex = key.is_ascii() && key.len().is_multiple_of(2);
    let bytes: Option<Vec<u8>> = (0..key.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(key.get(at..at + 2)?, 16).ok())
        .collect();
    let key = bytes
        .filter(|_| is_hex)
        .and_then(|bytes| PreSharedKey::new(&bytes));
    match key {
        Some(key) if !name.is_empty() && !identity.is_empty() => {
            Ok(Identity::with_key(identity, key))
        }
        _ => Err(FORM.into()),
    }
}

fn read_certificate_line(line: &str, base: &Path) -> Result<Identity, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let (certificate, key) = match fields[..] {
        [name, certificate, key] if !name.is_empty() => (certificate, key),
        [name, both] if !name.is_empty() => (both, both),
        _ => return Err("is not `name,certificate.pem,key.pem`".into()),
    };
    let mut items = read_pem(&base.join(certificate))?;
    if key != certificate {
        items.extend(read_pem(&base.join(key))?);
    }
    let mut chain = Vec::new();
    let mut signing = None;
    for item in items {
        let key = match &item {
            Item::X509Certificate(der) => {
                chain.push(der.to_vec());
                continue;
            }
            Item::Pkcs8Key(key) => key.secret_pkcs8_der(),
            Item::Sec1Key(key) => key.secret_sec1_der(),
            Item::Pkcs1Key(key) => key.secret_pkcs1_der(),
            _ => continue,
        };
        let read =
            SigningKey::from_der(key).map_err(|error| format!("the private key: {error}"))?;
        signing.get_or_insert(read);
    }
    let leaf = chain
        .first()
        .ok_or_else(|| format!("{certificate}: holds no certificate"))?;
    let key = signing.ok_or_else(|| format!("{key}: holds no private key without password"))?;
    let leaf = LeafInfo::parse(leaf).map_err(|error| format!("{certificate}: {error}"))?;
    if !key.public_key_matches(leaf.spki) {
        return Err(format!(
            "{certificate}: the private key belongs to another certificate"
        ));
    }
    Ok(Identity {
        credentials: Some(Arc::new(Credentials { chain, key })),
        ..Identity::default()
    })
}

fn read_pem(path: &Path) -> Result<Vec<Item>, String> {
    let shown = path.display();
    let content = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    rustls_pemfile::read_all(&mut content.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, content: &str) -> std::path::PathBuf {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn token_lines_are_read_and_bad_ones_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(
            directory.path(),
            "f.csv",
            "# fleet\na,T1\n\n b , T2 \nc,T3\n",
        );
        let read_tokens = |wanted| -> Result<Vec<String>, String> {
            let read = read(&path, Authentication::Token, wanted)?;
            Ok(read
                .into_iter()
                .filter_map(|identity| identity.token)
                .collect())
        };
        assert_eq!(read_tokens(None).unwrap(), ["T1", "T2", "T3"]);
        assert_eq!(read_tokens(Some(2)).unwrap(), ["T1", "T2"]);
        assert!(read_tokens(Some(4)).unwrap_err().contains("has 3 devices"));
        let bad = write(directory.path(), "bad.csv", "a,T1\nb\n");
        assert!(
            read(&bad, Authentication::Token, None)
                .unwrap_err()
                .contains("line 2")
        );
        let missing = directory.path().join("none.csv");
        assert!(
            read(&missing, Authentication::Token, None)
                .unwrap_err()
                .contains("none.csv")
        );
    }

    #[test]
    fn psk_lines_are_read_and_bad_ones_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(
            directory.path(),
            "f.csv",
            "a, meter a ,00112233445566778899aabbccddeeff\n",
        );
        let identities = read(&path, Authentication::Psk, None).unwrap();
        let own = identities[0].pre_shared_key.as_ref().unwrap();
        assert_eq!(own.identity, b"meter a");
        assert_eq!(own.key.as_bytes()[..3], [0, 0x11, 0x22]);
        for line in ["a,T1", "a,b,0", "a,b,xx", "a,b,", "a,,00", ",b,00"] {
            let bad = write(directory.path(), "bad.csv", line);
            let error = read(&bad, Authentication::Psk, None).unwrap_err();
            assert!(error.contains("name,identity,key"), "{error}");
        }
    }

    #[test]
    fn certificate_lines_are_read_and_the_key_must_belong_to_the_certificate() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::default()
                .self_signed(&key)
                .unwrap();
            write(directory.path(), &format!("{name}.pem"), &certificate.pem());
            write(
                directory.path(),
                &format!("{name}.key"),
                &key.serialize_pem(),
            );
        }
        let good = write(
            directory.path(),
            "good.csv",
            "a,a.pem,a.key\nb,b.pem,b.key\n",
        );
        let identities = read(&good, Authentication::X509, None).unwrap();
        assert!(
            identities
                .iter()
                .all(|identity| identity.credentials.is_some())
        );
        for (line, reason) in [
            ("a,a.pem,b.key", "belongs to another"),
            ("a,a.pem", "no private key"),
            ("a,a.key,a.key", "no certificate"),
            ("a", "is not"),
            ("a,c.pem,a.key", "c.pem"),
        ] {
            let bad = write(directory.path(), "bad.csv", line);
            let error = read(&bad, Authentication::X509, None).unwrap_err();
            assert!(
                error.contains(reason) && error.contains("line 1"),
                "{error}"
            );
        }
    }
}
