//! `tidegate serve --dev`: everything that a first reading needs, made once, and told on screen.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{Addresses, StartError};
use crate::admin::AdminToken;
use crate::config::Config;
use crate::credentials::generate;
use crate::registry::{Credential, NewCredential, NewDevice, Registry};

/// The device that shows a token.
const TOKEN_DEVICE: &str = "dev-token";
/// The device that shows a certificate.
const CERTIFICATE_DEVICE: &str = "dev-x509";

/// Validity of the certificates made here.
const DAYS: u32 = 365;

/// Makes the data directory, the server's certificate and the client's, unless they are there.
pub(super) fn prepare_files(config: &Config) -> Result<(), StartError> {
    let directory = &config.tidegate.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed(directory, &error))?;
    // Only the certificate of our own making: what the operator configured is theirs.
    let certificate = directory.join("server.pem");
    if Path::new(&config.dtls.credentials.pem_cert) == certificate && !certificate.exists() {
        let request = generate::ServerRequest {
            common_name: "localhost".into(),
            alternative_names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            days: DAYS,
            password: None,
        };
        generate::server(&request)
            .and_then(|made| generate::write(&made, directory, "server.pem", "server_key.pem"))
            .map_err(|error| failed(&certificate, &error))?;
    }
    let client = directory.join(CERTIFICATE_DEVICE);
    if !client.join("client.pem").exists() {
        generate::client(CERTIFICATE_DEVICE, DAYS)
            .and_then(|made| generate::write(&made, &client, "client.pem", "client_key.pem"))
            .map_err(|error| failed(&client, &error))?;
    }
    Ok(())
}

/// Registers both devices, unless they are, and prints how to use them.
pub(super) fn register_devices(
    config: &Config,
    registry: &dyn Registry,
    addresses: &Addresses,
    admin_token: &AdminToken,
) -> Result<(), StartError> {
    let directory = &config.tidegate.data_dir;
    let certificate = directory.join(CERTIFICATE_DEVICE).join("client.pem");
    if registry.device_by_name(CERTIFICATE_DEVICE).is_none() {
        let pem = std::fs::read(&certificate).map_err(|error| failed(&certificate, &error))?;
        let der = rustls_pemfile::certs(&mut &*pem)
            .next()
            .and_then(Result::ok)
            .ok_or_else(|| failed(&certificate, &"there is no certificate in it"))?;
        add(
            registry,
            CERTIFICATE_DEVICE,
            NewCredential::Certificate(der.to_vec()),
            directory,
        )?;
    }
    if registry.device_by_name(TOKEN_DEVICE).is_none() {
        add(
            registry,
            TOKEN_DEVICE,
            NewCredential::RandomToken,
            directory,
        )?;
    }
    let device = registry.device_by_name(TOKEN_DEVICE);
    let Some(Credential::AccessToken(token)) = device.map(|device| device.credential.clone())
    else {
        return Ok(());
    };
    print!("{}", welcome(directory, &token, addresses, admin_token));
    Ok(())
}

fn add(
    registry: &dyn Registry,
    name: &str,
    credential: NewCredential,
    directory: &Path,
) -> Result<(), StartError> {
    let device = NewDevice {
        name: name.into(),
        profile: None,
        credential,
    };
    registry
        .add(device)
        .map(drop)
        .map_err(|error| failed(directory, &error))
}

fn failed(file: &Path, problem: &dyn std::fmt::Display) -> StartError {
    StartError::Development {
        file: file.into(),
        problem: problem.to_string(),
    }
}

/// CON POST /api/v1/telemetry with Content-Format 50, as bytes for a client that knows no CoAP.
const RAW_POST: &[u8] =
    b"\x44\x02\x00\x01\x01\x02\x03\x04\xb3api\x02v1\x09telemetry\x11\x32\xff{\"temperature\":45}";

/// The bytes as an argument of any shell's printf: octal where they are not plain text.
fn printf(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\%'\"".contains(&byte);
    bytes
        .iter()
        .map(|&byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("\\{byte:03o}")
            }
        })
        .collect()
}

fn welcome(
    directory: &Path,
    token: &str,
    addresses: &Addresses,
    admin_token: &AdminToken,
) -> String {
    let data = directory.display();
    let program = std::env::current_exe()
        .ok()
        .and_then(|program| {
            let here = std::env::current_dir().ok()?;
            Some(format!("./{}", program.strip_prefix(here).ok()?.display()))
        })
        .unwrap_or_else(|| "tidegate".into());
    // The default port need not be told.
    let port = |address: Option<std::net::SocketAddr>, default: u16| match address {
        Some(address) if address.port() != default => format!(":{}", address.port()),
        _ => String::new(),
    };
    let secure = port(addresses.secure, 5684);
    let plain = port(addresses.plain, 5683);
    let connect = addresses.secure.map_or(5684, |address| address.port());
    // Behind the #, where browsers keep it for themselves.
    let admin = addresses.admin.map_or_else(
        || "(off)".into(),
        |address| format!("http://{address}/#token={}", admin_token.reveal().as_str()),
    );
    let message = printf(RAW_POST);
    // The commands find the server by its data directory.
    let program = if directory.strip_prefix(".").unwrap_or(directory) == Path::new("tidegate-data")
    {
        program
    } else {
        format!("TIDEGATE_DATA_DIR={data} {program}")
    };
    format!(
        "
Tidegate is running. Data, certificates and devices are in {data}.

Send a reading with an access token, over DTLS:
  coap-client-openssl -m POST -t application/json -e '{{\"temperature\":42}}' coaps://localhost{secure}/api/v1/{token}/telemetry
See it stored:
  {program} data latest {TOKEN_DEVICE}

Send one with a client certificate, which is the device:
  coap-client-openssl -m POST -t application/json -e '{{\"temperature\":43}}' -C {data}/server.pem -c {data}/{CERTIFICATE_DEVICE}/client.pem -j {data}/{CERTIFICATE_DEVICE}/client_key.pem coaps://localhost{secure}/api/v1/telemetry
  {program} data latest {CERTIFICATE_DEVICE}

The same with nothing but OpenSSL (the answer dA is 2.01):
  (printf '{message}'; sleep 1) | openssl s_client -quiet -no_ign_eof -dtls1_2 -connect localhost:{connect} -CAfile {data}/server.pem -cert {data}/{CERTIFICATE_DEVICE}/client.pem -key {data}/{CERTIFICATE_DEVICE}/client_key.pem
Without DTLS:
  coap-client-notls -m POST -t application/json -e '{{\"temperature\":44}}' coap://localhost{plain}/api/v1/{token}/telemetry

Status page: {admin}
Stop with Ctrl-C.

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_s_printf_gives_the_bytes_back() {
        let script = format!("printf '{}'", printf(RAW_POST));
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(output.stdout, RAW_POST);
    }
}
