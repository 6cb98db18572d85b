//! `tidegate profile`, and `tidegate device set`: fields by their names.

use crate::admin::operations::ErrorKind;
use crate::admin::operations::profiles::ProfileView;
use crate::admin::patched;
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::Place;
use crate::cli::{Failure, output};
use crate::registry::DEFAULT_PROFILE;
use crate::registry::profile::ProfileSettings;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{Read as _, Write};
use std::path::Path;

/// Longest file that a field is read from, bytes.
const FILE_MAX: u64 = 1 << 20;
/// Fields that are numbers; all others are texts.
const NUMBERS: &[&str] = &[
    "firmware",
    "software",
    "powerSaving.psmActivityTimer",
    "powerSaving.edrxCycle",
    "powerSaving.pagingTransmissionWindow",
];
/// Fields that are true or false.
const BOOLEANS: &[&str] = &[
    "provisioned",
    "provisioning.allowCreateNewDevicesByX509Certificate",
];

const FIELDS_HELP: &str = "\
Fields:
  description                                a note
  payloadType                                JSON or PROTOBUF
  protoSchemas.telemetry .attributes         proto3 texts (@FILE reads one); the last message counts
  protoSchemas.rpcRequest .rpcResponse
  deviceType                                 DEFAULT or EFENTO
  powerSaving.mode                           PSM, DRX or E_DRX
  powerSaving.psmActivityTimer               milliseconds
  powerSaving.edrxCycle
  powerSaving.pagingTransmissionWindow
  rateLimits.messages                        COUNT:SECONDS[,COUNT:SECONDS...], for each device
  rateLimits.telemetryMessages
  rateLimits.telemetryDataPoints
  provisioning.strategy                      DISABLED, ALLOW_CREATE_NEW_DEVICES,
                                             CHECK_PRE_PROVISIONED_DEVICES or X509_CERTIFICATE_CHAIN
  with a key and secret:
  provisioning.key .secret                   what devices send to register themselves
  with a certificate chain, which the device sends from its leaf up to the authority:
  provisioning.certificate                   the authority's, in PEM (@FILE reads it)
  provisioning.certificateRegExPattern       its first group, in the leaf's CN, is the device's name
  provisioning.allowCreateNewDevicesByX509Certificate   true or false
A field that is set to nothing (FIELD=) gets its default back.";

/// Define, show and change device profiles.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate profile add meter payloadType=PROTOBUF protoSchemas.telemetry=@reading.proto protoSchemas.attributes=@state.proto
  tidegate profile set meter rateLimits.telemetryMessages=10:1,300:60
  tidegate profile set default powerSaving.mode=PSM powerSaving.psmActivityTimer=8000
  tidegate profile show meter

{FIELDS_HELP}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct ProfileArguments {
    #[command(flatten)]
    place: Place,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// Define a profile
    #[command(after_help = format!("\
Example:
  tidegate profile add meter payloadType=PROTOBUF protoSchemas.telemetry=@reading.proto

{FIELDS_HELP}"))]
    Add {
        /// Its name, unique
        name: String,
        /// What differs from the default: FIELD=VALUE, or FIELD=@FILE
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// List the profiles that are defined, and the default one, without their secrets
    #[command(after_help = "Example:\n  tidegate profile list")]
    List,
    /// Show a profile with its secret, as JSON
    #[command(after_help = "Example:\n  tidegate profile show meter")]
    Show {
        /// Its name
        name: String,
    },
    /// Change a profile; it holds for the very next request
    #[command(after_help = format!("\
Examples:
  tidegate profile set meter rateLimits.telemetryMessages=10:1,300:60
  tidegate profile set meter rateLimits.telemetryMessages=

{FIELDS_HELP}"))]
    Set {
        /// Its name
        name: String,
        /// FIELD=VALUE, or FIELD=@FILE, or FIELD= for the default
        #[arg(value_name = "FIELD=VALUE", required = true)]
        fields: Vec<String>,
    },
    /// Remove a profile that no device has; of the default one, what was set in it
    #[command(after_help = "Example:\n  tidegate profile remove meter")]
    Remove {
        /// Its name
        name: String,
    },
}

pub(super) fn run(arguments: &ProfileArguments) -> Result<(), Failure> {
    let open = |missing| Access::open(&arguments.place, missing);
    match &arguments.command {
        ProfileCommand::Add { name, fields } => {
            let patch = Value::Object(patch(fields)?);
            let profile = ProfileView {
                name: name.clone(),
                settings: patched(&ProfileSettings::default(), &patch).map_err(Failure::new)?,
            };
            print(&open(Missing::Create)?.add_profile(&profile)?)
        }
        ProfileCommand::List => list(&open(Missing::Refuse)?.profiles()?, arguments.json),
        ProfileCommand::Show { name } => print(&open(Missing::Refuse)?.profile(name)?),
        ProfileCommand::Set { name, fields } => {
            let patch = Value::Object(patch(fields)?);
            print(&open(Missing::Refuse)?.change_profile(name, &patch)?)
        }
        ProfileCommand::Remove { name } => {
            open(Missing::Refuse)?.remove_profile(name)?;
            removed(name, arguments.json)
        }
    }
}

/// `tidegate device set NAME FIELD=VALUE ...`; without fields it shows what is set.
pub(super) fn set_device(place: &Place, name: &str, fields: &[String]) -> Result<(), Failure> {
    let access = Access::open(place, Missing::Refuse)?;
    let mut patch = patch(fields)?;
    if let Some(profile) = patch.remove("profile") {
        // FIELD= takes a field back: the profile that a device has without one.
        let profile = profile.as_str().unwrap_or(DEFAULT_PROFILE);
        access.set_profile(name, profile)?;
        note_undefined(&access, profile)?;
    }
    if patch.is_empty() {
        return print(&access.options(name)?);
    }
    print(&access.change_options(name, &Value::Object(patch))?)
}

/// Notes on standard error that nothing is known of a profile which a device has now.
pub(super) fn note_undefined(access: &Access, profile: &str) -> Result<(), Failure> {
    match access.profile(profile) {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound => {
            let profile = output::printable(profile);
            output::complain(&format!(
                "note: no profile {profile:?} is defined; until `tidegate profile add` does that, nothing is \
                 set for the device by it"
            ));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Says that something is gone.
pub(super) fn removed(name: &str, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, &serde_json::json!({ "removed": name }))?;
    } else {
        writeln!(out, "removed {}", output::printable(name))?;
    }
    out.flush()?;
    Ok(())
}

fn print(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = output::stdout();
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

fn list(list: &crate::admin::operations::profiles::ProfileList, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, &list.profiles)?;
    } else {
        let rows: Vec<_> = list
            .profiles
            .iter()
            .map(|profile| (output::printable(&profile.name), summary(&profile.settings)))
            .collect();
        let width = rows
            .iter()
            .map(|row| row.0.chars().count())
            .max()
            .unwrap_or(0);
        for (name, summary) in rows {
            writeln!(out, "{name:<width$}  {summary}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// What differs from the default, in a line.
fn summary(settings: &ProfileSettings) -> String {
    let value = |settings: &ProfileSettings| serde_json::to_value(settings).unwrap_or_default();
    let (own, default) = (value(settings), value(&ProfileSettings::default()));
    let names: Vec<_> = own
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| default.get(name.as_str()) != Some(value))
        .map(|(name, value)| match value {
            Value::Object(_) => name.clone(),
            Value::String(text) => format!("{name}={}", output::printable(text)),
            other => format!("{name}={other}"),
        })
        .collect();
    if names.is_empty() {
        "as the default".to_owned()
    } else {
        names.join(" ")
    }
}

/// The fields as a merge patch.
fn patch(fields: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut patch = Map::new();
    for field in fields {
        let (name, text) = field.split_once('=').ok_or_else(|| {
            Failure::new(format_args!("{field:?} is not of the form FIELD=VALUE"))
        })?;
        let value = field_value(name, text)?;
        match name.split_once('.') {
            None => {
                patch.insert(name.to_owned(), value);
            }
            Some((group, member)) => {
                let group = patch
                    .entry(group)
                    .or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(members) = group else {
                    return Err(Failure::new(format_args!("{name} is given twice")));
                };
                members.insert(member.to_owned(), value);
            }
        }
    }
    Ok(patch)
}

fn field_value(name: &str, text: &str) -> Result<Value, Failure> {
    let wrong = |kind: &str| Failure::new(format_args!("{name} is {text:?}, which is not {kind}"));
    if text.is_empty() {
        return Ok(Value::Null);
    }
    if let Some(file) = text.strip_prefix('@') {
        return Ok(Value::String(read_file(Path::new(file))?));
    }
    if NUMBERS.contains(&name) {
        let number: u64 = text.parse().map_err(|_| wrong("a number"))?;
        return Ok(number.into());
    }
    if BOOLEANS.contains(&name) {
        let value: bool = text.parse().map_err(|_| wrong("true or false"))?;
        return Ok(value.into());
    }
    Ok(Value::String(text.to_owned()))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let failed = |problem: &dyn std::fmt::Display| {
        Failure::new(format_args!("{}: {problem}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut text = String::new();
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed(&"it is larger than a mebibyte"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_become_a_patch() {
        let made = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|&field| field.to_owned()).collect();
            patch(&fields).map(Value::Object).ok()
        };
        assert_eq!(
            made(&[
                "payloadType=JSON",
                "powerSaving.mode=PSM",
                "powerSaving.psmActivityTimer=5",
                "provisioning.key=5",
                "provisioning.secret=a=b",
                "description=",
            ]),
            Some(json!({
                "payloadType": "JSON",
                "powerSaving": { "mode": "PSM", "psmActivityTimer": 5 },
                "provisioning": { "key": "5", "secret": "a=b" },
                "description": null,
            }))
        );
        assert_eq!(
            made(&["provisioned=false"]),
            Some(json!({"provisioned": false}))
        );
        for bad in [
            "x",
            "firmware=y",
            "provisioned=perhaps",
            "description=@/nowhere/at/all",
        ] {
            assert_eq!(made(&[bad]), None, "{bad}");
        }
        assert_eq!(made(&["powerSaving=x", "powerSaving.mode=PSM"]), None);
    }
}
