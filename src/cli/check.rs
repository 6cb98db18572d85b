//! `tidegate check`.

use crate::cli::arguments::CheckArguments;
use crate::cli::{Failure, load_config, output};
use crate::config::table::Setting;
use crate::config::{Config, EffectiveSetting};
use crate::credentials::{self, TicketKeyring, inspect};
use serde_json::{Value, json};
use std::io::Write as _;

pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let config = match load_config(arguments.conf.as_deref(), false) {
        Ok(config) => config,
        Err(error) if arguments.json => {
            let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
            return report_json(&[], &[], None, &problems);
        }
        Err(error) => return Err(error.into()),
    };
    let mut warnings = config.warnings.clone();
    let (identity, problem) = check_credentials(&config, &mut warnings);
    if arguments.json {
        let problems: Vec<_> = problem.into_iter().collect();
        return report_json(config.effective(), &warnings, identity.as_ref(), &problems);
    }
    print(&config, identity.as_ref(), arguments.explain)?;
    for warning in &warnings {
        output::complain(&format!("warning: {warning}"));
    }
    match problem {
        None => Ok(()),
        Some(problem) => Err(Failure::Message(problem)),
    }
}

/// Loads the server's credentials when DTLS would need them: the leaf's description, or what is
/// wrong.
fn check_credentials(
    config: &Config,
    warnings: &mut Vec<String>,
) -> (Option<Value>, Option<String>) {
    if !config.dtls.enabled {
        return (None, None);
    }
    let loaded = match credentials::load(&config.dtls.credentials) {
        Ok(loaded) => loaded,
        Err(error) => return (None, Some(error.to_string())),
    };
    warnings.extend(loaded.warnings);
    // Our own keys are in the data directory, which is the server's alone.
    if let (Some(lifetime), Some(file)) =
        (config.dtls.ticket_lifetime, &config.dtls.ticket_keys_file)
    {
        match TicketKeyring::shared(file, lifetime) {
            Ok(keyring) => warnings.extend(keyring.warning()),
            Err(error) => return (None, Some(error.to_string())),
        }
    }
    let chain = &loaded.credentials.chain;
    let leaf = chain.first().and_then(|der| {
        let mut reports = inspect::inspect(der).ok()?.into_iter();
        reports.next()
    });
    let files: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let identity = json!({
        "subject": leaf.as_ref().map(|leaf| &leaf.subject),
        "key": leaf.as_ref().map(|leaf| &leaf.key_type),
        "notAfter": leaf.as_ref().map(|leaf| &leaf.not_after),
        "certificates": chain.len(),
        "files": files,
    });
    (Some(identity), None)
}

fn print(config: &Config, identity: Option<&Value>, explain: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    let mut group = None;
    for found in config.effective() {
        let setting = Setting::find(found.name);
        let title = setting.map(|setting| setting.group.title());
        if title != group {
            let gap = if group.is_none() { "" } else { "\n" };
            writeln!(out, "{gap}# {}", title.unwrap_or_default())?;
            group = title;
        }
        if let Some(setting) = setting.filter(|_| explain) {
            let unit = if setting.unit.is_empty() {
                String::new()
            } else {
                format!(" [{}]", setting.unit)
            };
            writeln!(out, "\n# {}{unit}", setting.meaning)?;
        }
        let assignment = format!("{}={}", found.name, quoted(&found.value));
        let effect = if found.in_effect {
            ""
        } else {
            "; no effect in this version"
        };
        writeln!(out, "{assignment:<50} # {}{effect}", found.origin)?;
    }
    if let Some(identity) = identity {
        let text = |name: &str| identity[name].as_str().unwrap_or("unknown").to_owned();
        let files: Vec<_> = identity["files"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        writeln!(out, "\n# The server's certificate")?;
        let fields = [
            ("# subject", text("subject")),
            ("# key", text("key")),
            ("# valid until", text("notAfter")),
            ("# certificates", identity["certificates"].to_string()),
            ("# read from", files.join(", ")),
        ];
        output::write_fields(&mut out, &fields)?;
    }
    out.flush()?;
    Ok(())
}

/// A value as the file takes it.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:,@%+*[]".contains(c);
    if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", output::printable(value).replace('\'', "'\\''"))
    }
}

fn report_json(
    settings: &[EffectiveSetting],
    warnings: &[String],
    identity: Option<&Value>,
    problems: &[String],
) -> Result<(), Failure> {
    let settings: Vec<_> = settings
        .iter()
        .map(|found| {
            let setting = Setting::find(found.name);
            json!({
                "name": found.name,
                "value": found.value,
                "origin": found.origin.to_string(),
                "inEffect": found.in_effect,
                "default": setting.map(|setting| setting.default),
                "unit": setting.map(|setting| setting.unit),
                "meaning": setting.map(|setting| setting.meaning),
            })
        })
        .collect();
    let ok = problems.is_empty();
    let report = json!({
        "ok": ok,
        "settings": settings,
        "certificate": identity,
        "warnings": warnings,
        "errors": problems,
    });
    let mut out = output::stdout();
    output::write_json(&mut out, &report)?;
    out.flush()?;
    if ok { Ok(()) } else { Err(Failure::Reported) }
}
