//! `tidegate device`.

use crate::admin::operations::{CredentialsType, DeviceView, KeyText, NewCredentials, NewDevice};
use crate::admin::{Operations, timestamp};
use crate::auth::downlink::ActivityView;
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::{DeviceArguments, DeviceCommand};
use crate::cli::{Failure, import, output, profile};
use crate::registry::DeviceOptions;
use std::io::{Read as _, Write};
use std::path::Path;

/// Devices asked for at a time.
const PAGE: usize = 1000;
/// Longest certificate file, bytes.
const CERTIFICATE_FILE_MAX: u64 = 64 << 10;

pub(super) fn run(arguments: &DeviceArguments) -> Result<(), Failure> {
    let open = |missing| Access::open(&arguments.place, missing);
    let json = arguments.json;
    match &arguments.command {
        DeviceCommand::Add {
            name,
            token,
            x509,
            psk_identity,
            psk,
            profile,
        } => {
            let device = NewDevice {
                name: name.clone(),
                token: token.clone(),
                certificate: x509.as_deref().map(read_certificate).transpose()?,
                psk_identity: psk_identity.clone(),
                psk: psk.clone().map(KeyText),
                profile: profile.clone(),
            };
            let access = open(Missing::Create)?;
            print(&access.add(&device)?, json)?;
            match profile {
                None => Ok(()),
                Some(profile) => profile::note_undefined(&access, profile),
            }
        }
        DeviceCommand::List => list(&*open(Missing::Refuse)?, json),
        DeviceCommand::Show { name } => {
            let access = open(Missing::Refuse)?;
            let device = access.device(name)?;
            let set = access.options(name)?;
            write(&device, Some(&set), json)
        }
        DeviceCommand::SetCredentials {
            name,
            token,
            x509,
            psk_identity,
            psk,
        } => {
            let credentials = NewCredentials {
                token: token.clone(),
                certificate: x509.as_deref().map(read_certificate).transpose()?,
                psk_identity: psk_identity.clone(),
                psk: psk.clone().map(KeyText),
            };
            let access = open(Missing::Refuse)?;
            print(&access.set_credentials(name, &credentials)?, json)
        }
        DeviceCommand::Set { name, fields } => profile::set_device(&arguments.place, name, fields),
        DeviceCommand::Remove { name } => {
            open(Missing::Refuse)?.remove(name)?;
            let mut out = output::stdout();
            if json {
                output::write_json(&mut out, &serde_json::json!({ "removed": name }))?;
            } else {
                writeln!(out, "removed {}", output::printable(name))?;
            }
            out.flush()?;
            Ok(())
        }
        DeviceCommand::Import { file } => {
            let source = import::Source::open(file)?;
            source.import(&*open(Missing::Create)?, json)
        }
    }
}

/// The text of a certificate file: PEM as it is, DER as base64.
fn read_certificate(path: &Path) -> Result<String, Failure> {
    let failed = |problem: &dyn std::fmt::Display| {
        Failure::new(format_args!("--x509 {}: {problem}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(CERTIFICATE_FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > CERTIFICATE_FILE_MAX {
        return Err(failed(&"larger than 64 KiB, so this is no certificate"));
    }
    if bytes.first() == Some(&0x30) {
        return Ok(import::base64(&bytes));
    }
    String::from_utf8(bytes).map_err(|_| failed(&"neither PEM nor DER"))
}

fn print(device: &DeviceView, json: bool) -> Result<(), Failure> {
    write(device, None, json)
}

/// Shows a device, for people also what is set for it alone.
fn write(device: &DeviceView, set: Option<&DeviceOptions>, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, device)?;
    } else {
        let credential = match device.credentials_type {
            CredentialsType::AccessToken => "token",
            CredentialsType::X509Certificate => "fingerprint",
            CredentialsType::PreSharedKey => "identity",
            CredentialsType::MqttBasic => "client|user",
        };
        let mut fields = vec![
            ("name", device.name.clone()),
            ("profile", device.profile.clone()),
            ("added", added(device)),
            ("credentials", type_name(device).to_owned()),
            (
                credential,
                device.credentials_id.clone().unwrap_or_default(),
            ),
        ];
        if let Some(activity) = &device.activity {
            fields.extend(activity_fields(activity));
        }
        fields.extend(set.map(set_fields).into_iter().flatten());
        if let Some(KeyText(key)) = &device.psk {
            fields.push(("key", key.clone()));
        }
        output::write_fields(&mut out, &fields)?;
    }
    out.flush()?;
    Ok(())
}

const fn state_name(is_active: bool) -> &'static str {
    if is_active { "active" } else { "inactive" }
}

/// When the device was heard of, as far as it ever was.
fn activity_fields(activity: &ActivityView) -> Vec<(&'static str, String)> {
    let mut fields = vec![("state", state_name(activity.active).to_owned())];
    if !activity.observes.is_empty() {
        let names: Vec<_> = activity.observes.iter().map(|topic| topic.name()).collect();
        fields.push(("observes", names.join(", ")));
    }
    for (name, time) in [
        ("last heard of", activity.last_activity_time),
        ("subscribed", activity.last_connect_time),
        ("unsubscribed", activity.last_disconnect_time),
        ("found inactive", activity.inactivity_alarm_time),
    ] {
        let time = time.and_then(|ms| i64::try_from(ms).ok());
        fields.extend(time.map(|ms| (name, timestamp::format(ms))));
    }
    fields
}

/// What is set for a device alone, as far as something is.
fn set_fields(set: &DeviceOptions) -> Vec<(&'static str, String)> {
    let package = |id: u64| format!("package {id}, its own");
    [
        ("customer", set.customer.clone()),
        ("firmware", set.firmware.map(package)),
        ("software", set.software.map(package)),
        (
            "power saving",
            set.power_saving
                .mode
                .map(|mode| format!("{}, its own", mode.name())),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn added(device: &DeviceView) -> String {
    i64::try_from(device.created_ms).map_or_else(|_| "unknown".to_owned(), timestamp::format)
}

const fn type_name(device: &DeviceView) -> &'static str {
    match device.credentials_type {
        CredentialsType::AccessToken => "ACCESS_TOKEN",
        CredentialsType::X509Certificate => "X509_CERTIFICATE",
        CredentialsType::PreSharedKey => "PRE_SHARED_KEY",
        CredentialsType::MqttBasic => "MQTT_BASIC",
    }
}

/// Lists page by page: a table whose columns fit the page, or a JSON array with a device a line.
fn list(operations: &dyn Operations, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    let (mut after, mut first) = (None::<String>, true);
    loop {
        let page = operations.devices(after.as_deref(), PAGE)?;
        if json {
            for device in &page.devices {
                out.write_all(if first { b"[" } else { b",\n" })?;
                output::json(&mut out, device)?;
                first = false;
            }
        } else {
            write_table(&mut out, &page.devices, first)?;
            first = first && page.devices.is_empty();
        }
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    if json {
        out.write_all(if first { b"[]\n" } else { b"]\n" })?;
    } else if first {
        writeln!(out, "no devices; `tidegate device add NAME` adds one")?;
    }
    out.flush()?;
    Ok(())
}

fn write_table(out: &mut impl Write, devices: &[DeviceView], heading: bool) -> std::io::Result<()> {
    let rows: Vec<_> = devices
        .iter()
        .map(|device| {
            let name = output::printable(&device.name);
            (name, output::printable(&device.profile), device)
        })
        .collect();
    let width = |column: &dyn Fn(&(String, String, &DeviceView)) -> usize, least: usize| {
        rows.iter().map(column).max().unwrap_or(0).max(least)
    };
    let name_width = width(&|row| row.0.chars().count(), "NAME".len());
    let profile_width = width(&|row| row.1.chars().count(), "PROFILE".len());
    // Without a server nobody knows who is active.
    let state_width = if devices.iter().any(|device| device.active.is_some()) {
        "inactive  ".len()
    } else {
        0
    };
    let mut line = |name: &str, profile: &str, kind: &str, state: &str, added: &str| {
        writeln!(
            out,
            "{name:<name_width$}  {profile:<profile_width$}  {kind:<16}  {state:<state_width$}{added}"
        )
    };
    if heading && !rows.is_empty() {
        let state = if state_width > 0 { "STATE" } else { "" };
        line("NAME", "PROFILE", "CREDENTIALS", state, "ADDED")?;
    }
    for (name, profile, device) in &rows {
        let state = device.active.map_or("", state_name);
        line(name, profile, type_name(device), state, &added(device))?;
    }
    Ok(())
}
