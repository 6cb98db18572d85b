//! A device's way to the server: plain CoAP, or DTLS by our own client.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant, SystemTime};

use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::dtls::{AlertDescription, Credentials, Error};
use tidegate::time::{Instant, Now};

use super::{PATIENCE, Server};

/// Silence after which nothing more is expected.
const SILENCE: Duration = Duration::from_secs(2);

pub struct Link {
    socket: UdpSocket,
    started: StdInstant,
    connection: Option<ClientConnection>,
}

impl Link {
    pub fn plain(server: &Server) -> Self {
        Self::open(server.plain_port, None)
    }

    /// DTLS without a client certificate.
    pub fn anonymous(server: &Server) -> Self {
        Self::open(server.secure_port, Some(ClientConfig::default()))
    }

    /// DTLS with connection ids; `own` is to be in records to the client, if it is not empty.
    pub fn anonymous_with_connection_id(server: &Server, own: &[u8]) -> Self {
        let config = ClientConfig {
            connection_id: Some(own.to_vec()),
            ..ClientConfig::default()
        };
        let link = Self::open(server.secure_port, Some(config));
        let connection = link.connection.as_ref().expect("a session");
        assert!(!connection.peer_connection_id().is_empty());
        link
    }

    /// DTLS with the certificate and key of two PEM files.
    pub fn certificate(server: &Server, files: &(PathBuf, PathBuf)) -> Self {
        Self::open(
            server.secure_port,
            Some(certificate_config(&files.0, &files.1)),
        )
    }

    /// The same with a connection id (RFC 9146) in both directions, and the return routability check
    /// (RFC 9853) if `with_check`.
    pub fn with_connection_id(
        server: &Server,
        files: &(PathBuf, PathBuf),
        with_check: bool,
    ) -> Self {
        let config = ClientConfig {
            connection_id: Some(b"link".to_vec()),
            return_routability_check: with_check,
            ..certificate_config(&files.0, &files.1)
        };
        Self::open(server.secure_port, Some(config))
    }

    /// Goes on from another UDP port, as behind a NAT that forgot.
    pub fn rebind(&mut self) {
        let server = self.socket.peer_addr().expect("a peer");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("a peer");
        self.socket = socket;
    }

    /// Ends this session's place and handshakes anew, as another device, from the same UDP port.
    pub fn handshake_again(&mut self, files: &(PathBuf, PathBuf)) {
        self.handshake(certificate_config(&files.0, &files.1));
    }

    fn open(port: u16, config: Option<ClientConfig>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(("127.0.0.1", port)).expect("a peer");
        let mut link = Self {
            socket,
            started: StdInstant::now(),
            connection: None,
        };
        if let Some(config) = config {
            link.handshake(config);
        }
        link
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).expect("a short test");
        Now {
            instant: Instant::from_micros(1 + elapsed),
            unix_ms: u64::try_from(unix.as_millis()).expect("before the end of time"),
        }
    }

    /// The alert by which the server ends the handshake of a client with these files.
    pub fn refused(server: &Server, files: &(PathBuf, PathBuf)) -> AlertDescription {
        let mut link = Self::open(server.secure_port, None);
        match link.try_handshake(certificate_config(&files.0, &files.1)) {
            Err(Some(Error::PeerAlert(alert))) => alert,
            other => panic!("an alert was due: {other:?}"),
        }
    }

    fn handshake(&mut self, config: ClientConfig) {
        if let Err(failure) = self.try_handshake(config) {
            panic!("the handshake failed: {failure:?}");
        }
    }

    fn try_handshake(&mut self, config: ClientConfig) -> Result<(), Option<Error>> {
        let mut out: Vec<Vec<u8>> = Vec::new();
        let now = self.now();
        let mut connection = ClientConnection::new(
            now,
            Arc::new(config),
            &mut Context {
                random: &mut SystemRandom,
                out: &mut out,
                drops: &mut |_| {},
            },
        );
        let deadline = StdInstant::now() + PATIENCE;
        self.socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        while !connection.is_established() {
            assert!(StdInstant::now() < deadline, "the handshake does not end");
            for datagram in out.drain(..) {
                self.socket.send(&datagram).expect("a datagram leaves");
            }
            let mut buffer = [0; 4096];
            let received = self.socket.recv(&mut buffer);
            let now = self.now();
            let mut context = Context {
                random: &mut SystemRandom,
                out: &mut out,
                drops: &mut |_| {},
            };
            if let Ok(length) = received {
                let outcome = connection.handle_datagram(now, &mut buffer[..length], &mut context);
                if outcome.closed {
                    return Err(outcome.failure);
                }
            } else if connection
                .next_timeout()
                .is_some_and(|due| due <= now.instant)
            {
                connection
                    .handle_timeout(now, &mut context)
                    .expect("the handshake goes on");
            }
        }
        for datagram in out {
            self.socket.send(&datagram).expect("a datagram leaves");
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Sends one CoAP message and returns the next one from the server, `None` if there is none.
    pub fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.send(message);
        self.receive()
    }

    pub fn send(&mut self, message: &[u8]) {
        let Some(connection) = &mut self.connection else {
            self.socket.send(message).expect("a datagram leaves");
            return;
        };
        let (prefix, suffix) = connection.record_overhead();
        let mut record = vec![0; prefix + message.len() + suffix];
        record[prefix..prefix + message.len()].copy_from_slice(message);
        connection
            .seal_application_data(&mut record)
            .expect("a session");
        self.socket.send(&record).expect("a datagram leaves");
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(ClientConnection::is_closed)
    }

    /// The next message, however slow the machine is that the test runs on; `None` once the session is closed.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_within(PATIENCE)
    }

    /// The next message, where none is expected.
    pub fn receive_soon(&mut self) -> Option<Vec<u8>> {
        self.receive_within(SILENCE)
    }

    fn receive_within(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = StdInstant::now() + limit;
        loop {
            let left = deadline.checked_duration_since(StdInstant::now())?;
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).ok()?;
            let now = self.now();
            let Some(connection) = &mut self.connection else {
                return Some(buffer[..length].to_vec());
            };
            let mut out: Vec<Vec<u8>> = Vec::new();
            let mut context = Context {
                random: &mut SystemRandom,
                out: &mut out,
                drops: &mut |_| {},
            };
            let received = connection.handle_datagram(now, &mut buffer[..length], &mut context);
            for datagram in out {
                self.socket.send(&datagram).expect("a datagram leaves");
            }
            if let Some(range) = received.plaintexts.iter().next() {
                return Some(buffer[range].to_vec());
            }
            if received.closed {
                return None;
            }
        }
    }
}

fn certificate_config(certificate: &Path, key: &Path) -> ClientConfig {
    let pem = |path: &Path| std::fs::read(path).expect("a PEM file");
    let chain = rustls_pemfile::certs(&mut &*pem(certificate))
        .map(|item| item.expect("a certificate").to_vec())
        .collect();
    let key = rustls_pemfile::private_key(&mut &*pem(key))
        .expect("PEM")
        .expect("a key");
    let key = SigningKey::from_der(key.secret_der()).expect("a usable key");
    ClientConfig {
        credentials: Some(Arc::new(Credentials { chain, key })),
        ..ClientConfig::default()
    }
}
