//! Our server and our client behind one face.

use std::sync::Arc;

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::random::SystemRandom;
use tidegate::dtls::client::{self, ClientConnection};
use tidegate::dtls::{self, Accepted, Association, CookieJar, Received, SealError, ServerConfig};
use tidegate::time::{Duration, Instant, Now};

use super::flags::{Flags, Outcome, Settings};

/// A deadline this far off is none for the runner.
const FAR: Duration = Duration::from_secs(3600);
/// The runner's address, to which the cookies are bound.
const PEER: &[u8] = b"runner";

/// One end of a connection with the runner.
pub(crate) enum End {
    Server {
        config: Arc<ServerConfig>,
        cookies: Box<CookieJar>,
        association: Option<Box<Association>>,
    },
    Client(Box<ClientConnection>),
}

impl End {
    /// A server that waits, or a client that has sent its first flight into `out`.
    pub(crate) fn start(
        flags: &Flags,
        settings: &Settings,
        now: Now,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Self, Outcome> {
        if flags.server {
            return Ok(Self::Server {
                config: Arc::new(settings.server_config()?),
                cookies: Box::new(CookieJar::generate(&mut SystemRandom)),
                association: None,
            });
        }
        let config = Arc::new(settings.client_config()?);
        let mut cx = client::Context {
            random: &mut SystemRandom,
            out,
            drops: &mut |_| {},
        };
        Ok(Self::Client(Box::new(ClientConnection::new(
            now, config, &mut cx,
        ))))
    }

    pub(crate) fn handle_datagram(
        &mut self,
        now: Now,
        datagram: &mut [u8],
        out: &mut Vec<Vec<u8>>,
    ) -> Received {
        let drops = &mut |reason: tidegate::drop_reason::DropReason| {
            if std::env::var_os("SHIM_TRACE").is_some() {
                eprintln!("dropped: {reason:?}");
            }
        };
        match self {
            Self::Server {
                config,
                cookies,
                association,
            } => {
                let mut cx = dtls::Context {
                    config,
                    cookies,
                    admit_handshakes: true,
                    random: &mut SystemRandom,
                    out,
                    drops,
                };
                if let Some(association) = association {
                    return association.handle_datagram(now, PEER, datagram, &mut cx);
                }
                let mut received = Received::default();
                match dtls::accept(now, PEER, datagram, &mut cx) {
                    Accepted::Nothing => {}
                    Accepted::Refused(error) => received.failure = Some(error),
                    Accepted::New(new) => *association = Some(Box::new(new)),
                }
                received
            }
            Self::Client(connection) => {
                let mut cx = client::Context {
                    random: &mut SystemRandom,
                    out,
                    drops,
                };
                connection.handle_datagram(now, datagram, &mut cx)
            }
        }
    }

    /// Lets time take effect; `Err` when a handshake was given up.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Now,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), Outcome> {
        let given_up = || Outcome::Failed("TimedOut".to_owned());
        match self {
            Self::Server {
                config,
                cookies,
                association,
            } => {
                let mut cx = dtls::Context {
                    config,
                    cookies,
                    admit_handshakes: true,
                    random: &mut SystemRandom,
                    out,
                    drops: &mut |_| {},
                };
                let alive = association
                    .as_mut()
                    .is_none_or(|association| association.handle_timeout(now, &mut cx));
                alive.then_some(()).ok_or_else(given_up)
            }
            Self::Client(connection) => {
                let mut cx = client::Context {
                    random: &mut SystemRandom,
                    out,
                    drops: &mut |_| {},
                };
                let result = connection.handle_timeout(now, &mut cx);
                result.map_err(|error| Outcome::Failed(format!("{error:?}")))
            }
        }
    }

    /// When a flight is due to be sent again.
    pub(crate) fn next_retransmission(&self, now: Now) -> Option<Instant> {
        let due = match self {
            // A connection's own deadline is the end of the time in which the last flight is kept.
            Self::Server { association, .. } => association
                .as_ref()
                .filter(|association| association.is_handshaking())
                .and_then(|association| association.next_timeout()),
            Self::Client(connection) => connection.next_timeout(),
        };
        due.filter(|due| due.saturating_duration_since(now.instant) < FAR)
    }

    pub(crate) fn is_established(&self) -> bool {
        match self {
            Self::Server { association, .. } => association
                .as_ref()
                .is_some_and(|association| association.is_established()),
            Self::Client(connection) => connection.is_established(),
        }
    }

    /// Sends application data as one datagram.
    pub(crate) fn send(
        &mut self,
        plaintext: &[u8],
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), SealError> {
        let (prefix, suffix) = match self {
            Self::Server { association, .. } => association
                .as_ref()
                .map_or((0, 0), |association| association.record_overhead()),
            Self::Client(connection) => connection.record_overhead(),
        };
        let mut record = vec![0; prefix + plaintext.len() + suffix];
        record[prefix..prefix + plaintext.len()].copy_from_slice(plaintext);
        match self {
            Self::Server { association, .. } => association
                .as_mut()
                .ok_or(SealError::NotEstablished)?
                .seal_application_data(&mut record)?,
            Self::Client(connection) => connection.seal_application_data(&mut record)?,
        }
        out.push(record);
        Ok(())
    }

    pub(crate) fn close(&mut self, out: &mut Vec<Vec<u8>>) {
        match self {
            Self::Server {
                config,
                cookies,
                association,
            } => {
                let mut cx = dtls::Context {
                    config,
                    cookies,
                    admit_handshakes: true,
                    random: &mut SystemRandom,
                    out,
                    drops: &mut |_| {},
                };
                if let Some(association) = association {
                    association.close(&mut cx);
                }
            }
            Self::Client(connection) => connection.close(&mut client::Context {
                random: &mut SystemRandom,
                out,
                drops: &mut |_| {},
            }),
        }
    }

    /// Compares what was negotiated with what the runner says it should be.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Outcome> {
        let (suite, group, extended_master_secret) = match self {
            Self::Server { association, .. } => {
                let association = association.as_deref();
                (
                    association.and_then(Association::suite),
                    association.and_then(Association::group),
                    association.is_some_and(Association::extended_master_secret),
                )
            }
            Self::Client(connection) => (
                connection.suite(),
                connection.group(),
                connection.extended_master_secret(),
            ),
        };
        let expect = |wanted: Option<u16>, got: Option<u16>, what: &str| match wanted {
            Some(wanted) if got != Some(wanted) => Err(Outcome::Failed(format!(
                "{what}: wanted {wanted:#06x}, got {got:?}"
            ))),
            _ => Ok(()),
        };
        let suite = suite.map(|suite| suite.id());
        expect(settings.expect_cipher, suite, "cipher suite")?;
        let group = group.map(|group| group.id());
        expect(settings.expect_group, group, "group")?;
        if settings.expect_extended_master_secret && !extended_master_secret {
            return Err(Outcome::Failed("no extended master secret".to_owned()));
        }
        self.check_peer(settings)
    }

    fn check_peer(&self, settings: &Settings) -> Result<(), Outcome> {
        let Self::Server { association, .. } = self else {
            return Ok(());
        };
        let fingerprint = association
            .as_ref()
            .and_then(|association| association.peer_fingerprint());
        if settings.expect_no_peer_certificate && fingerprint.is_some() {
            return Err(Outcome::Failed("an unexpected certificate".to_owned()));
        }
        if settings.require_client_certificate && fingerprint.is_none() {
            return Err(Outcome::Failed("no certificate of the client".to_owned()));
        }
        if let Some(file) = &settings.expect_peer_certificate {
            let chain = super::flags::read_certificates(file)?;
            let expected = chain.first().map(|leaf| device_fingerprint(leaf));
            if fingerprint != expected {
                return Err(Outcome::Failed("another client certificate".to_owned()));
            }
        }
        Ok(())
    }
}
