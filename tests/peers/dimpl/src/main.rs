//! A DTLS 1.2 client made of dimpl: it sends what it is told and prints what comes back. See
//! mbedtls-peer, whose options it shares as far as dimpl goes.
//!
//! ```text
//! dimpl-peer HOST:PORT [--cert PEM --key PEM | --psk HEX --psk-identity TEXT] --send HEX...
//! ```

use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output, PskResolver};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How long the handshake, and each answer, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which a message is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("failed {problem}");
            ExitCode::FAILURE
        }
    }
}

struct FixedKey(Vec<u8>);

impl PskResolver for FixedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

struct Peer {
    dtls: Dtls,
    socket: UdpSocket,
    wake: Instant,
    established: bool,
    closed: bool,
    received: Vec<Vec<u8>>,
}

impl Peer {
    /// Sends what dimpl has to say, and notes what it tells.
    fn drain(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => {
                    self.socket.send(datagram)?;
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.wake = at;
                    return Ok(());
                }
                Output::Connected => self.established = true,
                Output::ApplicationData(data) => self.received.push(data.to_vec()),
                Output::CloseNotify => self.closed = true,
                _ => {}
            }
        }
    }

    /// Waits for a datagram or for dimpl's timer, no longer than to `until`.
    fn step(&mut self, until: Instant) -> Result<(), Failure> {
        self.drain()?;
        let wait = self
            .wake
            .min(until)
            .saturating_duration_since(Instant::now());
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer);
        self.dtls.handle_timeout(Instant::now())?;
        if let Ok(length) = length {
            self.dtls.handle_packet(&buffer[..length])?;
        }
        self.drain()
    }

    /// Sends a CoAP message until an answer with its Message ID comes.
    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.closed {
            self.dtls.send_application_data(message)?;
            let again = Instant::now() + REPEAT_AFTER;
            while Instant::now() < again {
                self.step(again)?;
                let answer = self
                    .received
                    .drain(..)
                    .find(|one| one.get(2..4) == message.get(2..4));
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
        }
        Err("no answer".into())
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut server, mut files) = (None, (None, None));
    let (mut psk, mut identity, mut messages) = (None, None, Vec::new());
    while let Some(name) = arguments.next() {
        if !name.starts_with("--") {
            server = Some(name);
            continue;
        }
        let value = arguments.next().ok_or("an option without a value")?;
        match name.as_str() {
            "--cert" => files.0 = Some(value),
            "--key" => files.1 = Some(value),
            "--psk" => psk = Some(bytes(&value)?),
            "--psk-identity" => identity = Some(value),
            "--send" => messages.push(bytes(&value)?),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server.ok_or("no server is named")?)?;
    let now = Instant::now();
    let mut dtls = match (psk, identity, files) {
        (Some(psk), Some(identity), _) => {
            let key = Arc::new(FixedKey(psk));
            let config = Config::builder()
                .with_psk_client(identity.into_bytes(), key)
                .build()?;
            Dtls::new_12_psk(Arc::new(config), now)
        }
        (_, _, (Some(certificate), Some(key))) => {
            let certificate = DtlsCertificate {
                certificate: CertificateDer::from_pem_file(certificate)?.to_vec(),
                private_key: PrivateKeyDer::from_pem_file(key)?.secret_der().to_vec(),
            };
            Dtls::new_12(Arc::new(Config::default()), certificate, now)
        }
        _ => return Err("neither a certificate nor a key is named".into()),
    };
    dtls.set_active(true);
    let mut peer = Peer {
        dtls,
        socket,
        wake: now,
        established: false,
        closed: false,
        received: Vec::new(),
    };
    peer.dtls.handle_timeout(now)?;
    while !peer.established {
        if now.elapsed() > PATIENCE {
            return Err("the handshake does not end".into());
        }
        peer.step(Instant::now() + PATIENCE)?;
    }
    println!("established");
    for message in &messages {
        let answer = peer.exchange(message)?;
        let hex: String = answer.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("received {hex}");
    }
    peer.dtls.close()?;
    peer.drain()
}

fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or("not hexadecimal")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
        .collect())
}
