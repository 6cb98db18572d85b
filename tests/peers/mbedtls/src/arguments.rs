//! The command line.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};

/// What the client is told.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) server: Option<SocketAddr>,
    /// Mbed TLS' name of the one suite to offer; all that it has without.
    pub(crate) suite: Option<String>,
    /// PEM of the client's certificate and key.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
    /// PEM of the certificate that the server's must be signed by; any will do without.
    pub(crate) trusted: Option<Vec<u8>>,
    pub(crate) psk: Option<Vec<u8>>,
    pub(crate) psk_identity: Option<String>,
    /// The connection id that the server is to use; its extension is not offered without.
    pub(crate) connection_id: Option<Vec<u8>>,
    /// Longest datagram, in bytes of UDP payload.
    pub(crate) mtu: Option<u16>,
    /// max_fragment_length: 512, 1024, 2048 or 4096.
    pub(crate) max_fragment_length: Option<u16>,
    /// First retransmission of the handshake, in milliseconds.
    pub(crate) retransmission_ms: Option<u32>,
    pub(crate) rebind: bool,
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(name) = arguments.next() {
            if name == "--rebind" {
                parsed.rebind = true;
                continue;
            }
            if !name.starts_with("--") {
                parsed.server = Some(resolve(&name)?);
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            parsed.take(&name, value)?;
        }
        Ok(parsed)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "--suite" => self.suite = Some(value),
            "--cert" => self.certificate = Some(pem(&value)?),
            "--key" => self.key = Some(pem(&value)?),
            "--ca" => self.trusted = Some(pem(&value)?),
            "--psk" => self.psk = Some(bytes(&value)?),
            "--psk-identity" => self.psk_identity = Some(value),
            "--cid" => self.connection_id = Some(bytes(&value)?),
            "--mtu" => self.mtu = Some(number(&value)?),
            "--max-fragment-length" => self.max_fragment_length = Some(number(&value)?),
            "--retransmission-ms" => self.retransmission_ms = Some(number(&value)?),
            "--send" => self.messages.push(bytes(&value)?),
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }
}

fn resolve(name: &str) -> Result<SocketAddr, String> {
    let addresses = name
        .to_socket_addrs()
        .map_err(|error| format!("{name}: {error}"))?;
    let mut addresses = addresses.filter(SocketAddr::is_ipv4);
    addresses
        .next()
        .ok_or_else(|| format!("{name} has no IPv4 address"))
}

/// A PEM file with the zero byte behind it that Mbed TLS wants.
fn pem(path: &str) -> Result<Vec<u8>, String> {
    let mut text = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    text.push(0);
    Ok(text)
}

fn number<N: std::str::FromStr>(value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{value} is no number"))
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = hex.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect();
    bytes.ok_or_else(|| format!("{hex} is not hexadecimal"))
}
