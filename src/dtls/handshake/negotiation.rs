//! What a server makes of a ClientHello: suite, group and signature scheme, in the client's order.

use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::signature::{KeyType, SignatureScheme, SigningKey};
use crate::crypto::suite::{Authentication, CipherSuite};
use crate::dtls::config::{Pair, ServerConfig};
use crate::dtls::error::Error;
use crate::dtls::message::{ClientHello, MaxFragmentLength, UNCOMPRESSED};
use crate::dtls::record::DTLS_1_2;

/// Versions of DTLS are complements of small numbers (RFC 6347 section 4.1).
const DTLS_VERSIONS: u16 = 0x8000;

/// How both ends come to a secret, and how the server proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyExchange {
    Certificate {
        group: NamedGroup,
        /// The certificate that is shown.
        pair: Pair,
        /// What the server signs its key exchange with.
        scheme: SignatureScheme,
    },
    PreSharedKey {
        /// With ECDHE.
        group: Option<NamedGroup>,
    },
}

impl KeyExchange {
    /// The group, if there is an ECDHE exchange.
    pub(super) const fn group(self) -> Option<NamedGroup> {
        match self {
            Self::Certificate { group, .. } => Some(group),
            Self::PreSharedKey { group } => group,
        }
    }
}

/// The parameters of a session to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    pub(super) suite: CipherSuite,
    pub(super) exchange: KeyExchange,
    pub(super) extended_master_secret: bool,
    pub(super) secure_renegotiation: bool,
    /// The client sent ec_point_formats, so the server may.
    pub(super) point_formats: bool,
    /// Always granted (TB 3.4).
    pub(super) max_fragment_length: Option<MaxFragmentLength>,
    /// The client named the server that it wants, which is us (RFC 6066 section 3).
    pub(super) server_name: bool,
    /// What the client takes; the server then says what it takes itself.
    pub(super) record_size_limit: Option<u16>,
}

impl Negotiated {
    /// Finds the client's best suite that is configured, fits the server's key, and has a group and
    /// a signature scheme. Suites with pre-shared keys count only if `pre_shared_keys`: without any
    /// device that has one nothing is to be proven by them.
    pub(super) fn choose(
        hello: &ClientHello<'_>,
        config: &ServerConfig,
        pre_shared_keys: bool,
    ) -> Result<Self, Error> {
        let secure_renegotiation = check_hello(hello, config)?;
        let extensions = &hello.extensions;
        // RFC 8422 section 5.1.2: a client that sends the list must have uncompressed in it.
        if extensions
            .ec_point_formats
            .is_some_and(|formats| !formats.contains(&UNCOMPRESSED))
        {
            return Err(Error::IllegalParameter);
        }
        let (suite, exchange) = choose_parameters(hello, config, pre_shared_keys)?;
        Ok(Self {
            suite,
            exchange,
            extended_master_secret: extensions.extended_master_secret,
            secure_renegotiation,
            point_formats: extensions.ec_point_formats.is_some(),
            max_fragment_length: extensions.max_fragment_length,
            server_name: extensions.server_name.is_some(),
            record_size_limit: extensions.record_size_limit,
        })
    }
}

/// What every ClientHello must have, of a full handshake or of a resumption. Returns whether the
/// client knows of RFC 5746.
pub(super) fn check_hello(hello: &ClientHello<'_>, config: &ServerConfig) -> Result<bool, Error> {
    check_version(hello.prefix.client_version)?;
    if config.require_extended_master_secret && !hello.extensions.extended_master_secret {
        return Err(Error::NoExtendedMasterSecret);
    }
    hello.secure_renegotiation()
}

/// RFC 6347 section 4.1: versions count down from 0xfeff. A client that knows a later version, of
/// whatever major number, says so here and accepts the server's 1.2 (RFC 5246 appendix E.1).
/// Numbers of the lower half are no versions of DTLS but of TLS.
fn check_version(client_version: u16) -> Result<(), Error> {
    if (DTLS_VERSIONS..=DTLS_1_2).contains(&client_version) {
        Ok(())
    } else {
        Err(Error::NoCommonVersion)
    }
}

/// The client's best suite for which there is a certificate that it can verify: of a kind of key
/// that fits the suite (RFC 5246 section 7.4.2), on a curve and with a signature that it knows. Or
/// one with pre-shared keys, which needs nothing of all this but a group for ECDHE.
fn choose_parameters(
    hello: &ClientHello<'_>,
    config: &ServerConfig,
    pre_shared_keys: bool,
) -> Result<(CipherSuite, KeyExchange), Error> {
    let usable = [Pair::First, Pair::Second].map(|pair| {
        let is_there = pair == Pair::First || config.second_credentials.is_some();
        let key = &config.pair(pair).key;
        let group = is_there
            .then(|| choose_group(hello, config, Some(key)))?
            .ok()?;
        let scheme = choose_scheme(hello, key).ok()?;
        let exchange = KeyExchange::Certificate {
            group,
            pair,
            scheme,
        };
        Some((authentication(key), exchange))
    });
    let psk_group = choose_group(hello, config, None).ok();
    hello
        .cipher_suites
        .iter()
        .filter_map(CipherSuite::from_id)
        .filter(|suite| config.cipher_suites.contains(suite))
        .find_map(|suite| {
            let exchange = match suite.authentication() {
                Authentication::PreSharedKey => {
                    let group = psk_group.filter(|_| suite.is_ephemeral());
                    let fits = pre_shared_keys && suite.is_ephemeral() == group.is_some();
                    fits.then_some(KeyExchange::PreSharedKey { group })
                }
                needed => {
                    let mut fitting = usable.iter().flatten();
                    let fits = fitting.find(|(kind, _)| *kind == needed);
                    fits.map(|&(_, exchange)| exchange)
                }
            };
            exchange.map(|exchange| (suite, exchange))
        })
        .ok_or(Error::NoCommonParameters)
}

const fn authentication(key: &SigningKey) -> Authentication {
    match key.key_type() {
        KeyType::EcdsaP256 | KeyType::EcdsaP384 => Authentication::Ecdsa,
        KeyType::Rsa => Authentication::Rsa,
    }
}

/// The client's best group that is configured. A client that does not name groups has secp256r1
/// (RFC 8422 section 4 leaves the choice to the server).
///
/// The curve of the server's certificate must be among the client's groups (RFC 8422 section 5.1:
/// the list is for certificates too, and OpenSSL's clients hold us to it). With pre-shared keys
/// there is none, and `key` is `None`.
fn choose_group(
    hello: &ClientHello<'_>,
    config: &ServerConfig,
    key: Option<&SigningKey>,
) -> Result<NamedGroup, Error> {
    let Some(offered) = hello.extensions.supported_groups else {
        let default = NamedGroup::Secp256r1;
        let is_configured = config.groups.contains(&default);
        return is_configured
            .then_some(default)
            .ok_or(Error::NoCommonParameters);
    };
    let curve = match key.map(SigningKey::key_type) {
        Some(KeyType::EcdsaP256) => Some(NamedGroup::Secp256r1),
        Some(KeyType::EcdsaP384) => Some(NamedGroup::Secp384r1),
        Some(KeyType::Rsa) | None => None,
    };
    if curve.is_some_and(|curve| !offered.contains(curve.id())) {
        return Err(Error::NoCommonParameters);
    }
    let mut known = offered.iter().filter_map(NamedGroup::from_id);
    known
        .find(|group| config.groups.contains(group))
        .ok_or(Error::NoCommonParameters)
}

/// The client's best scheme that the key can make. A client that names none means SHA-1 (RFC 5246
/// section 7.4.1.4.1), which we do not make.
fn choose_scheme(hello: &ClientHello<'_>, key: &SigningKey) -> Result<SignatureScheme, Error> {
    let offered = hello
        .extensions
        .signature_algorithms
        .ok_or(Error::NoCommonParameters)?;
    let mut known = offered.iter().filter_map(SignatureScheme::from_id);
    known
        .find(|scheme| key.schemes().contains(scheme))
        .ok_or(Error::NoCommonParameters)
}

#[cfg(test)]
mod tests;
