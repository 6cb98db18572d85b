//! What of a session is kept, and from when to when.

use super::script::Script;
use crate::dtls::alert::Alert;
use crate::dtls::handshake::script::Flight;
use crate::dtls::message::HandshakeType;
use crate::dtls::record::ContentType;
use crate::dtls::session::Session;
use crate::dtls::{AlertDescription, Error, SessionCache, Sessions};
use crate::time::Duration;

/// A server that keeps sessions by id.
fn script() -> Script {
    let mut script = Script::with_defaults();
    let cache = SessionCache::new(100, Duration::from_secs(3600));
    script.sessions = Sessions::new(Some(cache));
    script
}

fn kept(script: &Script) -> Option<Session> {
    let cache = script.sessions.cache().expect("a cache");
    cache.lookup(&script.session_id)
}

/// A session is complete or not there: it is kept once the client's Finished was right, and under
/// the id that the ServerHello named.
#[test]
fn a_session_is_kept_only_after_finished() {
    let mut script = script();
    script.hello();
    assert_eq!(script.session_id.len(), 32);
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    assert_eq!(script.sessions.cached(), 0);
    script.finished();
    assert!(script.is_established());
    let session = kept(&script).expect("a session");
    assert_eq!(session.issued_unix_ms, script.now.unix_ms);
    assert_eq!(session.expires_unix_ms, script.now.unix_ms + 3_600_000);
}

#[test]
fn a_handshake_that_fails_leaves_no_session() {
    let mut script = script();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    script.finished_with(&[0; 12]);
    assert!(script.failure.is_some());
    assert_eq!(script.sessions.cached(), 0);
}

/// RFC 5246 section 7.2.2: a connection that a fatal alert ended MUST NOT be resumed. One that was
/// closed may be.
#[test]
fn a_fatal_alert_ends_the_session_and_close_notify_does_not() {
    for (alert, stays) in [
        (Alert::warning(AlertDescription::CloseNotify), true),
        (Alert::fatal(AlertDescription::DecodeError), false),
    ] {
        let mut script = script();
        script.establish(None);
        assert!(kept(&script).is_some());
        let record = script.protected_record(ContentType::Alert, &alert.encode());
        script.deliver(record);
        assert!(script.association.is_none());
        assert_eq!(kept(&script).is_some(), stays, "{alert:?}");
    }
}

/// An alert in the clear is anybody's and ends no session.
#[test]
fn an_unauthenticated_alert_leaves_the_session() {
    let mut script = script();
    script.establish(None);
    let fatal = Alert::fatal(AlertDescription::DecodeError).encode();
    let record = script.plain_record(ContentType::Alert, &fatal);
    script.deliver(record);
    assert!(script.is_established() && kept(&script).is_some());
}

/// RFC 5246 section 7.1: what follows our ChangeCipherSpec is under its keys. In a resumption that is
/// already out when the client's Finished turns out wrong.
#[test]
fn a_wrong_finished_of_a_resumption_is_answered_under_the_keys() {
    let mut script = script();
    script.establish(None);
    script.resume();
    script.change_cipher_spec();
    script.finished_with(&[0; 12]);
    assert_eq!(script.failure, Some(Error::BadFinished));
    let read = script.take_protected();
    let types: Vec<ContentType> = read.iter().map(|(content_type, _)| *content_type).collect();
    assert_eq!(types, [ContentType::Handshake, ContentType::Alert]);
    let alert = Alert::fatal(AlertDescription::DecryptError).encode();
    assert_eq!(read[1].1, alert);
}

/// While a resumption waits for Finished, nothing in the clear ends it: no such message is due, and
/// anybody can send one in the client's name.
#[test]
fn messages_in_the_clear_do_not_end_a_resumption() {
    let mut script = script();
    script.establish(None);
    script.resume();
    for message_type in [HandshakeType::Certificate, HandshakeType::ClientHello] {
        let mut flight = Flight::default();
        let message = flight.push(message_type, script.message_seq, |out| out.push(0));
        let record = script.plain_record(ContentType::Handshake, message);
        script.deliver(record);
        assert_eq!(script.failure, None, "{message_type:?}");
    }
    script.change_cipher_spec();
    script.finished();
    assert!(script.is_established());
}
