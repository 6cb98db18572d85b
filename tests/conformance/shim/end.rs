//! Our server and our client behind one face.

use std::sync::Arc;

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::random::SystemRandom;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::{self, ClientConnection, ResumableSession};
use tidegate::dtls::{
    self, Accepted, Association, CookieJar, PeerIdentity, RandomConnectionIds, Received,
    Revocations, SealError, ServerConfig, Sessions,
};
use tidegate::time::{Duration, Instant, Now};

use super::flags::{Flags, Outcome, Settings};

/// A deadline this far off is none for the runner.
const FAR: Duration = Duration::from_secs(3600);
/// The runner's address, to which the cookies are bound.
const PEER: &[u8] = b"runner";

/// What the steps of an end lead to.
#[derive(Default)]
pub(crate) struct Effects {
    /// For the runner.
    pub(crate) datagrams: Vec<Vec<u8>>,
    pub(crate) drops: Vec<DropReason>,
}

/// What outlives the connections of one test.
pub(crate) struct Kept {
    /// The server's.
    pub(crate) sessions: Sessions,
    cookies: CookieJar,
    /// The client's, with which the next connection starts.
    pub(crate) session: Option<Arc<ResumableSession>>,
}

impl Kept {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            cookies: CookieJar::generate(&mut SystemRandom),
            session: None,
        }
    }
}

/// One end of a connection with the runner.
pub(crate) enum End<'a> {
    Server(Box<Server<'a>>),
    /// With the session that it offers.
    Client(Box<ClientConnection>, Option<Arc<ResumableSession>>),
}

/// A server with one peer.
pub(crate) struct Server<'a> {
    config: Arc<ServerConfig>,
    kept: &'a Kept,
    /// Whether there is a pre-shared key; none ends.
    keys: Keys,
    association: Option<Association>,
}

#[derive(Debug)]
struct Keys(bool);

impl Revocations for Keys {
    fn is_revoked(&self, _: &PeerIdentity, _: u64) -> bool {
        false
    }

    fn has_pre_shared_keys(&self) -> bool {
        self.0
    }
}

impl Server<'_> {
    fn with<T>(
        &mut self,
        effects: &mut Effects,
        step: impl FnOnce(&mut Option<Association>, &mut dtls::Context<'_>) -> T,
    ) -> T {
        let mut cx = dtls::Context {
            config: &self.config,
            cookies: &self.kept.cookies,
            sessions: &self.kept.sessions,
            revocations: &self.keys,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: true,
            random: &mut SystemRandom,
            out: &mut effects.datagrams,
            drops: &mut |reason| effects.drops.push(reason),
        };
        step(&mut self.association, &mut cx)
    }
}

impl<'a> End<'a> {
    /// A server that waits, or a client that has sent its first flight into `effects`.
    pub(crate) fn start(
        flags: &Flags,
        settings: &Settings,
        kept: &'a Kept,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Self, Outcome> {
        if flags.server {
            return Ok(Self::Server(Box::new(Server {
                config: Arc::new(settings.server_config(flags.resume_count > 0)?),
                kept,
                keys: Keys(settings.pre_shared_key().is_some()),
                association: None,
            })));
        }
        let mut config = settings.client_config()?;
        config.resume = kept.session.clone();
        let connection = with_client(effects, |cx| {
            ClientConnection::new(now, Arc::new(config), cx)
        });
        Ok(Self::Client(Box::new(connection), kept.session.clone()))
    }

    pub(crate) fn handle_datagram(
        &mut self,
        now: Now,
        datagram: &mut [u8],
        settings: &Settings,
        effects: &mut Effects,
    ) -> Received {
        match self {
            Self::Server(server) => server.with(effects, |association, cx| {
                if let Some(association) = association {
                    let received = association.handle_datagram(now, PEER, datagram, cx);
                    let Some(lookup) = association.poll_lookup() else {
                        return received;
                    };
                    let key = settings.pre_shared_key();
                    let key = key.filter(|_| settings.is_psk_identity(&lookup.identity));
                    return association.handle_credential(now, &lookup, key.as_ref(), cx);
                }
                let mut received = Received::default();
                match dtls::accept(now, PEER, datagram, cx) {
                    Accepted::Nothing => {}
                    Accepted::Refused(error) => received.failure = Some(error),
                    Accepted::New(new) => *association = Some(new),
                }
                received
            }),
            Self::Client(connection, _) => {
                with_client(effects, |cx| connection.handle_datagram(now, datagram, cx))
            }
        }
    }

    /// Lets time take effect; `Err` when a handshake was given up.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Outcome> {
        match self {
            Self::Server(server) => {
                let alive = server.with(effects, |association, cx| {
                    let association = association.as_mut();
                    association.is_none_or(|association| association.handle_timeout(now, cx))
                });
                let given_up = || Outcome::Failed("TimedOut".to_owned());
                alive.then_some(()).ok_or_else(given_up)
            }
            Self::Client(connection, _) => {
                let result = with_client(effects, |cx| connection.handle_timeout(now, cx));
                result.map_err(|error| Outcome::Failed(format!("{error:?}")))
            }
        }
    }

    /// When a flight is due to be sent again.
    pub(crate) fn next_retransmission(&self, now: Now) -> Option<Instant> {
        let due = match self {
            // A connection's own deadline is the end of the time in which the last flight is kept.
            Self::Server(server) => server
                .association
                .as_ref()
                .filter(|association| association.is_handshaking())
                .and_then(Association::next_timeout),
            Self::Client(connection, _) => connection.next_timeout(),
        };
        due.filter(|due| due.saturating_duration_since(now.instant) < FAR)
    }

    pub(crate) fn is_established(&self) -> bool {
        match self {
            Self::Server(server) => server
                .association
                .as_ref()
                .is_some_and(Association::is_established),
            Self::Client(connection, _) => connection.is_established(),
        }
    }

    /// Sends application data as one datagram.
    pub(crate) fn send(
        &mut self,
        plaintext: &[u8],
        effects: &mut Effects,
    ) -> Result<(), SealError> {
        let (prefix, suffix) = match self {
            Self::Server(server) => server
                .association
                .as_ref()
                .map_or((0, 0), Association::record_overhead),
            Self::Client(connection, _) => connection.record_overhead(),
        };
        let mut record = vec![0; prefix + plaintext.len() + suffix];
        record[prefix..prefix + plaintext.len()].copy_from_slice(plaintext);
        match self {
            Self::Server(server) => server
                .association
                .as_mut()
                .ok_or(SealError::NotEstablished)?
                .seal_application_data(&mut record)?,
            Self::Client(connection, _) => connection.seal_application_data(&mut record)?,
        }
        effects.datagrams.push(record);
        Ok(())
    }

    pub(crate) fn close(&mut self, effects: &mut Effects) {
        match self {
            Self::Server(server) => server.with(effects, |association, cx| {
                if let Some(association) = association {
                    association.close(cx);
                }
            }),
            Self::Client(connection, _) => with_client(effects, |cx| connection.close(cx)),
        }
    }

    /// What a client can offer the next time.
    pub(crate) fn session(&self) -> Option<Arc<ResumableSession>> {
        match self {
            Self::Server(_) => None,
            Self::Client(connection, _) => connection.session().cloned().map(Arc::new),
        }
    }

    /// Compares what was negotiated with what the runner says it should be.
    pub(crate) fn check(&self, settings: &Settings, is_resumption: bool) -> Result<(), Outcome> {
        let (suite, group, extended_master_secret, resumed) = match self {
            Self::Server(server) => {
                let association = server.association.as_ref();
                (
                    association.and_then(Association::suite),
                    association.and_then(Association::group),
                    association.is_some_and(Association::extended_master_secret),
                    association.and_then(Association::resumed).is_some(),
                )
            }
            Self::Client(connection, _) => (
                connection.suite(),
                connection.group(),
                connection.extended_master_secret(),
                connection.resumed().is_some(),
            ),
        };
        if resumed != (is_resumption && !settings.expect_session_miss) {
            return Err(Outcome::Failed(format!("resumed: {resumed}")));
        }
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
        self.check_session(settings, is_resumption, resumed)?;
        self.check_peer(settings)
    }

    /// Whether there is a session to resume, or none, as the runner says.
    fn check_session(
        &self,
        settings: &Settings,
        is_resumption: bool,
        resumed: bool,
    ) -> Result<(), Outcome> {
        match self {
            Self::Server(server) => {
                let is_kept = server.kept.sessions.cached() > 0;
                match settings.expect_session_id {
                    Some(expected) if expected != is_kept && !is_resumption => {
                        Err(Outcome::Failed(format!("session kept: {is_kept}")))
                    }
                    _ => Ok(()),
                }
            }
            Self::Client(connection, offered) => {
                let ticket = connection.session().map(ResumableSession::ticket);
                let offered = offered.as_deref().map(ResumableSession::ticket);
                if resumed && settings.expect_ticket_renewal && ticket == offered {
                    return Err(Outcome::Failed("the same ticket again".to_owned()));
                }
                let has_session = connection.session().is_some();
                if !resumed && has_session == settings.expect_no_session {
                    return Err(Outcome::Failed(format!("session: {has_session}")));
                }
                Ok(())
            }
        }
    }

    fn check_peer(&self, settings: &Settings) -> Result<(), Outcome> {
        let Self::Server(server) = self else {
            return Ok(());
        };
        let fingerprint = server
            .association
            .as_ref()
            .and_then(Association::peer_fingerprint);
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

/// Lends a client what it needs for one step.
fn with_client<T>(effects: &mut Effects, step: impl FnOnce(&mut client::Context<'_>) -> T) -> T {
    step(&mut client::Context {
        random: &mut SystemRandom,
        out: &mut effects.datagrams,
        drops: &mut |reason| effects.drops.push(reason),
    })
}
