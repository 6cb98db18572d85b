//! What the command line's parser cannot say about combinations.

use std::path::{Path, PathBuf};

use tidegate::crypto::suite;
use tidegate::time::Duration;

use super::{
    ADMIN_DEFAULT, Arguments, Authentication, CredentialSource, DEVICES_MAX, NOWHERE,
    PAYLOAD_BYTES_MAX, Scenario, SocketSharing, UPDATE_DEFAULT, credential_source,
};
use crate::sockets;

/// Most often that an attribute can be set: each time is remembered.
const UPDATE_MIN: Duration = Duration::from_millis(10);

/// Whether the arguments go together.
pub(super) fn check(arguments: &Arguments) -> Result<(), String> {
    let telemetry = arguments.scenario.sends_requests();
    check_scenario(arguments)?;
    check_sockets(arguments)?;
    check_outputs(arguments)?;
    if arguments.resume_by.is_some() && arguments.scenario != Scenario::Resume {
        return Err("--resume-by goes with --scenario resume".into());
    }
    if !arguments.target.secure {
        if arguments.scenario != Scenario::Telemetry {
            return Err(format!(
                "--scenario {} needs a coaps:// target: plain CoAP has no handshake",
                arguments.scenario.name()
            ));
        }
        if arguments.auth == Authentication::X509 {
            return Err(
                "--auth x509 needs a coaps:// target: certificates are shown in the handshake"
                    .into(),
            );
        }
        if arguments.auth == Authentication::Psk {
            return Err("--auth psk needs a coaps:// target: the handshake proves the key".into());
        }
        if arguments.suite.is_some() {
            return Err("--suite needs a coaps:// target".into());
        }
        if arguments.verify_one_in.is_some() {
            return Err("--verify-one-in needs a coaps:// target: it is about handshakes".into());
        }
        if arguments.cid.is_some() {
            return Err("--cid needs a coaps:// target: connection ids are part of DTLS".into());
        }
    }
    if let Some(suite) = arguments.suite {
        let needs_key = suite.authentication() == suite::Authentication::PreSharedKey;
        if needs_key != (arguments.auth == Authentication::Psk) {
            return Err(
                "--auth psk goes with suites with PSK in their names, and they with it".into(),
            );
        }
    }
    if arguments.verify_one_in.is_some() && arguments.auth == Authentication::Psk {
        return Err("--verify-one-in has no meaning with --auth psk: servers sign nothing".into());
    }
    let path = arguments.path.as_ref().or(arguments.target.path.as_ref());
    if arguments.auth == Authentication::None && telemetry && path.is_none() {
        return Err(
            "--auth none needs --path: without credentials there is no telemetry path".into(),
        );
    }
    if arguments.auth != Authentication::Token {
        if arguments.token.is_some() {
            return Err("--token goes with --auth token".into());
        }
        if path.is_some_and(|path| path.contains("{token}")) {
            return Err("{token} in the path goes with --auth token".into());
        }
    }
    if arguments.auth == Authentication::None {
        if arguments.devices_file.is_some() {
            return Err("--devices-file goes with --auth token, x509 or psk".into());
        }
        if arguments.admin.is_some() {
            return Err("--admin goes with --auth token, x509 or psk".into());
        }
    }
    if let Some(admin) = &arguments.admin
        && !admin.starts_with("http://")
        && (admin != NOWHERE || arguments.auth != Authentication::X509)
    {
        return Err(format!(
            "--admin {admin}: must start with http://, or be none with --auth x509"
        ));
    }
    if arguments
        .payload
        .as_ref()
        .is_some_and(|payload| payload.len() > PAYLOAD_BYTES_MAX)
    {
        return Err(format!(
            "--payload is longer than {PAYLOAD_BYTES_MAX} bytes"
        ));
    }
    if arguments
        .devices
        .is_some_and(|devices| devices == 0 || devices > DEVICES_MAX)
    {
        return Err(format!("--devices must be from 1 to {DEVICES_MAX}"));
    }
    if arguments.duration.is_zero() || arguments.timeout.is_zero() {
        return Err("--duration and --timeout must be above 0".into());
    }
    if credential_source(arguments) == CredentialSource::Admin(ADMIN_DEFAULT.into())
        && arguments.admin.is_none()
        && !arguments.target.address.ip().is_loopback()
    {
        let own = if arguments.auth == Authentication::Token {
            "--token T, "
        } else {
            ""
        };
        return Err(format!(
            "the server must know the devices: give {own}--devices-file F.csv, or --admin URL to register them"
        ));
    }
    Ok(())
}

/// Whether devices can share sockets, if that was asked for.
fn check_sockets(arguments: &Arguments) -> Result<(), String> {
    if arguments.sockets != Some(SocketSharing::Shared) {
        return Ok(());
    }
    if arguments.scenario == Scenario::Rebind {
        return Err(
            "--scenario rebind changes source ports, and a device at a shared socket has none of its own: \
             give --sockets each, or leave it away"
                .into(),
        );
    }
    let target = arguments.target.address;
    if !sockets::are_shared(target, true) {
        return Err(format!(
            "--sockets shared needs a target in 127.0.0.0/8, where each device has an address of its own; \
             {} is not: give --sockets each, or leave it away",
            target.ip()
        ));
    }
    Ok(())
}

/// Whether each output has a file of its own.
fn check_outputs(arguments: &Arguments) -> Result<(), String> {
    let outputs = [
        ("--json", &arguments.json),
        ("--hgrm", &arguments.hgrm),
        ("--html", &arguments.html),
    ];
    let given = outputs.iter();
    let given: Vec<(&str, &PathBuf)> = given
        .filter_map(|(option, path)| Some((*option, path.as_ref()?)))
        .collect();
    for (index, (option, path)) in given.iter().enumerate() {
        let same = given[..index]
            .iter()
            .find(|(_, other)| identity(other) == identity(path));
        if let Some((other, _)) = same {
            return Err(format!(
                "{other} and {option} name the same file, {}: one would overwrite the other",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The file that a path means, however it is written; it need not be there.
fn identity(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

fn check_scenario(arguments: &Arguments) -> Result<(), String> {
    if arguments.rebind_every.is_some() && arguments.scenario != Scenario::Rebind {
        return Err("--rebind-every goes with --scenario rebind".into());
    }
    check_observe(arguments)?;
    if arguments.scenario != Scenario::Storm {
        let given = arguments.quiet.is_some()
            || arguments.storm_devices.is_some()
            || arguments.storm_spoofed.is_some();
        return match given {
            true => Err("--quiet and --storm-... go with --scenario storm".into()),
            false => Ok(()),
        };
    }
    if arguments.closed || arguments.in_flight.is_some() || arguments.count.is_some() {
        return Err(
            "--scenario storm is an open loop over a time: neither --closed, --in-flight nor --count"
                .into(),
        );
    }
    if arguments.quiet.is_some_and(|quiet| quiet.is_zero()) {
        return Err("--quiet must be above 0: it is what the storm is compared with".into());
    }
    if arguments
        .storm_devices
        .is_some_and(|devices| devices > DEVICES_MAX)
    {
        return Err(format!("--storm-devices must be from 0 to {DEVICES_MAX}"));
    }
    Ok(())
}

fn check_observe(arguments: &Arguments) -> Result<(), String> {
    if arguments.scenario != Scenario::Observe {
        return match arguments.update_every {
            Some(_) => Err("--update-every goes with --scenario observe".into()),
            None => Ok(()),
        };
    }
    let paced = arguments.closed || arguments.rate.is_some() || arguments.in_flight.is_some();
    if paced || arguments.count.is_some() {
        return Err(
            "--scenario observe has its own pace, --update-every: neither --rate, --closed, --in-flight nor --count"
                .into(),
        );
    }
    if arguments.payload.is_some() || arguments.payload_bytes.is_some() {
        return Err("--scenario observe sends no payload: its devices are told something".into());
    }
    let every = arguments.update_every.unwrap_or(UPDATE_DEFAULT);
    if every < UPDATE_MIN {
        return Err("--update-every must be 10ms or more".into());
    }
    if !matches!(credential_source(arguments), CredentialSource::Admin(_)) {
        return Err(
            "--scenario observe registers its devices, under a profile of their own, and sets their \
             attributes: leave --token and --devices-file away, and give --admin URL unless the server \
             is on this host"
                .into(),
        );
    }
    Ok(())
}
