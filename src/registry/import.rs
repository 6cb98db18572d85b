//! Bulk import of devices from CSV: `name,token`, `name,certificate path` or `name,PSK identity,key
//! in hexadecimal`, a line each.
//!
//! Fields may be quoted as in RFC 4180 (`"a,b"`, `""` for a quote), but a record is one line. Empty
//! lines and lines that begin with `#` are skipped, and so is a first line `name,token`,
//! `name,certificate`, `name,credential` or `name,identity,key`. Of two fields the second field is a certificate's path when it ends in
//! `.pem`, `.crt`, `.cer` or `.der` (case does not matter), else a token; empty or missing, a token
//! is made at random.

use super::{NewCredential, NewDevice, pre_shared_key_of_hex, validate};
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Lines made durable together.
const GROUP: usize = 1000;

/// Longest line; a longer one is refused and skipped.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// A line that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// Devices added.
    pub added: u64,
    /// Lines refused.
    pub refused: u64,
}

/// Adds devices, each for itself, made durable together: one result per device, in order, with the
/// reason of a refusal. An error ends the import.
pub type Add<'a> = dyn FnMut(Vec<NewDevice>) -> io::Result<Vec<Result<(), String>>> + 'a;

/// Imports devices from `csv` through `add`; relative certificate paths start at `base`, and without
/// it no file is read: whoever sends the lines is not on this host.
///
/// `progress` is called after each group of lines made durable, and once at the end; `refused` for
/// each bad line. A bad line does not stop the rest.
///
/// # Errors
///
/// `csv` could not be read, or `add` failed; what was added until then stays.
pub fn import(
    add: &mut Add<'_>,
    csv: &mut dyn BufRead,
    base: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
    refused: &mut dyn FnMut(Refused),
) -> io::Result<Progress> {
    let mut done = Progress::default();
    let mut group: Vec<(u64, NewDevice)> = Vec::with_capacity(GROUP);
    let mut line = Vec::new();
    while read_line(csv, &mut line, &mut done)? {
        match device(&line, base, done.lines == 1) {
            Ok(None) => {}
            Ok(Some(device)) => group.push((done.lines, device)),
            Err(reason) => {
                done.refused += 1;
                refused(Refused {
                    line: done.lines,
                    reason,
                });
            }
        }
        if group.len() == GROUP {
            add_group(add, &mut group, &mut done, refused)?;
            progress(done);
        }
    }
    add_group(add, &mut group, &mut done, refused)?;
    progress(done);
    Ok(done)
}

fn add_group(
    add: &mut Add<'_>,
    group: &mut Vec<(u64, NewDevice)>,
    done: &mut Progress,
    refused: &mut dyn FnMut(Refused),
) -> io::Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    let (lines, devices): (Vec<_>, Vec<_>) = group.drain(..).unzip();
    for (line, result) in lines.into_iter().zip(add(devices)?) {
        match result {
            Ok(()) => done.added += 1,
            Err(reason) => {
                done.refused += 1;
                refused(Refused { line, reason });
            }
        }
    }
    Ok(())
}

/// Reads a line without its end into `line`; `false` at the end of the file. Of a line that is too
/// long, one byte more than allowed is kept, so that it is seen to be.
fn read_line(csv: &mut dyn BufRead, line: &mut Vec<u8>, done: &mut Progress) -> io::Result<bool> {
    line.clear();
    let mut limited = Read::take(&mut *csv, LINE_BYTES_MAX + 1);
    let mut length = limited.read_until(b'\n', line)?;
    if length == 0 {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') {
        length += csv.skip_until(b'\n')?;
    }
    done.bytes += length as u64;
    done.lines += 1;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(true)
}

/// The device on a line; `None` when the line is to be skipped.
fn device(line: &[u8], base: Option<&Path>, is_first: bool) -> Result<Option<NewDevice>, String> {
    if line.len() as u64 >= LINE_BYTES_MAX {
        return Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let line = if is_first {
        line.trim_start_matches('\u{feff}')
    } else {
        line
    };
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let fields = fields(line)?;
    let (name, credential, key) = match &fields[..] {
        [name] => (name, "", None),
        [name, credential] => (name, credential.as_str(), None),
        [name, identity, key] => (name, identity.as_str(), Some(key)),
        _ => {
            return Err(format!(
                "2 fields expected (name,credential) or 3 (name,PSK identity,key), {} found",
                fields.len()
            ));
        }
    };
    let is_header = is_first
        && name.eq_ignore_ascii_case("name")
        && ["token", "certificate", "credential", "identity"]
            .iter()
            .any(|title| credential.eq_ignore_ascii_case(title));
    if is_header {
        return Ok(None);
    }
    let credential = match key {
        None => new_credential(credential, base)?,
        Some(key) => NewCredential::PreSharedKey {
            identity: credential.to_owned(),
            key: Some(pre_shared_key_of_hex(key).map_err(|error| error.to_string())?),
        },
    };
    Ok(Some(NewDevice {
        name: name.clone(),
        profile: None,
        credential,
    }))
}

fn new_credential(field: &str, base: Option<&Path>) -> Result<NewCredential, String> {
    if field.is_empty() {
        return Ok(NewCredential::RandomToken);
    }
    let is_path = Path::new(field)
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            ["pem", "crt", "cer", "der"]
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        });
    if is_path {
        let base = base.ok_or(
            "files of certificates are read by `tidegate device import`; here a certificate comes in \
             JSON",
        )?;
        let path = base.join(field);
        certificate(&path).map_err(|problem| format!("{}: {problem}", path.display()))
    } else {
        Ok(NewCredential::AccessToken(field.to_owned()))
    }
}

/// The first certificate of a file, PEM or DER.
fn certificate(path: &Path) -> Result<NewCredential, String> {
    // PEM is a third longer than DER, and a file may hold a chain.
    const FILE_BYTES_MAX: u64 = 256 << 10;
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|error| error.to_string())?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err("the file is too large for a certificate".into());
    }
    let pem = rustls_pemfile::certs(&mut &content[..]).next();
    let der = match pem {
        Some(Ok(certificate)) => certificate.to_vec(),
        Some(Err(error)) => return Err(error.to_string()),
        None => content,
    };
    if der.len() > validate::CERTIFICATE_BYTES_MAX {
        return Err("the certificate is longer than 8192 bytes".into());
    }
    match x509_parser::parse_x509_certificate(&der) {
        Ok(([], _)) => Ok(NewCredential::Certificate(der)),
        Ok(_) => Err("there is something after the certificate".into()),
        Err(_) => Err("there is no certificate in it".into()),
    }
}

/// The fields of a line, without the white space around them.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => match rest.split_once(',') {
                Some((field, after)) => (field.trim().to_owned(), Some(after)),
                None => (rest.trim().to_owned(), None),
            },
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field whose opening quote was taken, and what follows its comma.
fn quoted_field(mut rest: &str) -> Result<(String, Option<&str>), String> {
    let mut field = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(part);
        rest = match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                after
            }
            None => {
                let after = after.trim_start();
                return match after.strip_prefix(',') {
                    Some(after) => Ok((field, Some(after))),
                    None if after.is_empty() => Ok((field, None)),
                    None => Err("there is text after a closing quote".into()),
                };
            }
        };
    }
}

#[cfg(test)]
mod tests;
