//! The stateless cookie (RFC 6347 section 4.2.1): the only door to state.
//!
//! ```text
//! cookie = HMAC-SHA-256(master; period, peer address, client_version, random, session_id)[..16]
//! ```
//!
//! `period` counts minutes of the wall clock, so what the cookie is bound to changes every minute;
//! a cookie of this period or the one before is accepted, hence for one to two minutes. All shards
//! share the jar, and no key has to be exchanged between them when the period changes.
//!
//! The bound fields are the ones that stand before the cookie in a ClientHello, so that the first
//! fragment of a fragmented ClientHello is enough to check it. Cipher suites and extensions come
//! later and are not bound: a client that changes them between its two ClientHellos gains nothing,
//! as only the second counts and the transcript holds all of it.

use crate::crypto::cookie_mac::CookieKey;
use crate::random::Random;

/// Length of our cookies in bytes. Short, as the first fragment of a ClientHello must hold it, and
/// as the HelloVerifyRequest must not be larger than the ClientHello.
pub const COOKIE_LEN: usize = 16;
/// How long the secret part of a cookie stays the same.
const PERIOD_MS: u64 = 60_000;

/// The fields of a ClientHello to which a cookie is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieFields<'a> {
    /// The peer's address and port, in any encoding that is the same for the same peer.
    pub peer: &'a [u8],
    /// The ClientHello's client_version.
    pub client_version: u16,
    /// The ClientHello's random.
    pub random: &'a [u8; 32],
    /// The ClientHello's session_id.
    pub session_id: &'a [u8],
}

/// Makes and checks cookies; one per server.
#[derive(Debug)]
pub struct CookieJar {
    key: CookieKey,
}

impl CookieJar {
    /// A jar with the secret `master`, which must be random.
    ///
    /// # Panics
    ///
    /// When `master` is all zero: a secret that was never drawn.
    pub fn new(master: [u8; 32]) -> Self {
        assert_ne!(master, [0; 32], "the secret of the cookies was not drawn");
        Self {
            key: CookieKey::new(master),
        }
    }

    /// A jar with a secret drawn from `random`.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut master = [0; 32];
        random.fill(&mut master);
        Self::new(master)
    }

    /// The cookie for `fields` at `unix_ms`.
    pub fn make(&self, unix_ms: u64, fields: &CookieFields<'_>) -> [u8; COOKIE_LEN] {
        self.cookie_of_period(unix_ms / PERIOD_MS, fields)
    }

    /// Whether `cookie` was made for `fields` in the period of `unix_ms` or the one before.
    pub fn verify(&self, unix_ms: u64, fields: &CookieFields<'_>, cookie: &[u8]) -> bool {
        let Ok(cookie) = <&[u8; COOKIE_LEN]>::try_from(cookie) else {
            return false;
        };
        let period = unix_ms / PERIOD_MS;
        let is_of = |period| equal(&self.cookie_of_period(period, fields), cookie);
        is_of(period) || period.checked_sub(1).is_some_and(is_of)
    }

    fn cookie_of_period(&self, period: u64, fields: &CookieFields<'_>) -> [u8; COOKIE_LEN] {
        let mac = self.key.mac(&[
            b"dtls cookie",
            &period.to_be_bytes(),
            fields.peer,
            &fields.client_version.to_be_bytes(),
            fields.random,
            fields.session_id,
        ]);
        let mut cookie = [0; COOKIE_LEN];
        cookie.copy_from_slice(&mac[..COOKIE_LEN]);
        cookie
    }
}

/// Compares in a time that does not depend on where the bytes differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: CookieFields<'static> = CookieFields {
        peer: b"192.0.2.1:5000",
        client_version: 0xfefd,
        random: &[7; 32],
        session_id: b"",
    };

    /// RFC 6347 section 4.2.1: bound to the address and to the parameters of the ClientHello.
    #[test]
    fn a_cookie_is_bound_to_all_its_fields() {
        let jar = CookieJar::new([1; 32]);
        let cookie = jar.make(0, &FIELDS);
        assert!(jar.verify(0, &FIELDS, &cookie));
        assert!(!CookieJar::new([2; 32]).verify(0, &FIELDS, &cookie));
        for other in [
            CookieFields {
                peer: b"192.0.2.2:5000",
                ..FIELDS
            },
            CookieFields {
                client_version: 0xfeff,
                ..FIELDS
            },
            CookieFields {
                random: &[8; 32],
                ..FIELDS
            },
            CookieFields {
                session_id: b"x",
                ..FIELDS
            },
        ] {
            assert!(!jar.verify(0, &other, &cookie));
        }
        assert!(!jar.verify(0, &FIELDS, &cookie[..15]));
        assert!(!jar.verify(0, &FIELDS, &[]));
        for at in 0..COOKIE_LEN {
            let mut forged = cookie;
            forged[at] ^= 1;
            assert!(!jar.verify(0, &FIELDS, &forged));
        }
    }

    #[test]
    fn a_cookie_lives_for_one_to_two_periods() {
        let jar = CookieJar::new([1; 32]);
        for made in [5 * PERIOD_MS, 6 * PERIOD_MS - 1] {
            let cookie = jar.make(made, &FIELDS);
            assert!(jar.verify(made, &FIELDS, &cookie));
            assert!(jar.verify(7 * PERIOD_MS - 1, &FIELDS, &cookie));
            assert!(!jar.verify(7 * PERIOD_MS, &FIELDS, &cookie));
            assert!(!jar.verify(5 * PERIOD_MS - 1, &FIELDS, &cookie));
        }
    }

    #[test]
    #[should_panic(expected = "was not drawn")]
    fn a_secret_that_was_never_drawn_is_refused() {
        CookieJar::new([0; 32]);
    }
}
