//! `tidegate cert`.

use crate::cli::arguments::{CertArguments, CertCommand};
use crate::cli::{Failure, output};
use crate::credentials::generate::{self, Generated, ServerRequest};
use crate::credentials::inspect::{self, CertificateReport, Link};
use std::io::{Read as _, Write as _};
use std::path::Path;

pub(super) fn run(arguments: &CertArguments) -> Result<(), Failure> {
    match &arguments.command {
        CertCommand::SelfSigned {
            out,
            cn,
            san,
            days,
            password,
        } => {
            let request = ServerRequest {
                common_name: cn.clone(),
                alternative_names: alternative_names(cn, san),
                days: *days,
                password: password.as_deref().map(Into::into),
            };
            let made = generate::server(&request).map_err(Failure::new)?;
            write(&made, out, ["server.pem", "server_key.pem"])
        }
        CertCommand::Client { out, cn, days } => {
            let made = generate::client(cn, *days).map_err(Failure::new)?;
            write(&made, out, ["client.pem", "client_key.pem"])
        }
        CertCommand::Inspect { file, json } => show(file, *json),
    }
}

/// The names that were given, and the common name if it can be one: clients no longer look there.
fn alternative_names(common_name: &str, given: &[String]) -> Vec<String> {
    let is_host = !common_name.is_empty()
        && common_name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:*".contains(&byte));
    let mut names: Vec<String> = Vec::new();
    let own = is_host.then(|| common_name.to_owned());
    for name in own.into_iter().chain(given.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn write(made: &Generated, directory: &Path, [cert, key]: [&str; 2]) -> Result<(), Failure> {
    let (cert, key) = generate::write(made, directory, cert, key).map_err(Failure::new)?;
    let mut out = output::stdout();
    let fields = [
        ("certificate", cert.display().to_string()),
        ("key", key.display().to_string()),
    ];
    output::write_fields(&mut out, &fields)?;
    out.flush()?;
    Ok(())
}

fn show(path: &Path, json: bool) -> Result<(), Failure> {
    let failed = |problem: &dyn std::fmt::Display| {
        Failure::new(format_args!("{}: {problem}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut content = Vec::new();
    file.take(inspect::FILE_LENGTH_MAX as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| failed(&error))?;
    let reports = inspect::inspect(&content).map_err(|error| failed(&error))?;
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, &reports)?;
    } else {
        for (position, report) in reports.iter().enumerate() {
            if position > 0 {
                writeln!(out)?;
            }
            output::write_fields(&mut out, &fields(report))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn fields(report: &CertificateReport) -> Vec<(&'static str, String)> {
    let leaf = if report.is_leaf { " (leaf)" } else { "" };
    let mut key = report.key_type.clone();
    if !report.key_is_supported {
        key.push_str(" (not supported)");
    }
    let mut fields = vec![
        ("certificate", format!("{}{leaf}", report.position)),
        ("subject", report.subject.clone()),
        ("issuer", report.issuer.clone()),
        ("valid from", report.not_before.clone()),
        ("valid until", report.not_after.clone()),
        ("key", key),
        ("serial", report.serial.clone()),
    ];
    if !report.alternative_names.is_empty() {
        fields.push(("names", report.alternative_names.join(", ")));
    }
    fields.push(("chain", chain(report.link).to_owned()));
    fields.push(("device fingerprint", report.device_fingerprint.clone()));
    fields
}

const fn chain(link: Link) -> &'static str {
    match link {
        Link::IssuedByNext => "issued by the next certificate",
        Link::NamedByNext => "issued by the next certificate by its name; signature not checked",
        Link::SignatureWrong => "WRONG: named as issued by the next one, whose key did not sign it",
        Link::NotIssuedByNext => "WRONG: not issued by the next one; the order must be leaf first",
        Link::SelfSigned => "self-signed",
        Link::Last => "the issuer is not in the file",
    }
}
