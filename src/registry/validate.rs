//! What names, tokens, certificates and pre-shared keys may look like.

use super::RegistryError;
use crate::crypto::pre_shared_key::PreSharedKey;

/// Longest name of a device or profile, in characters (as ThingsBoard's column).
pub(super) const NAME_CHARS_MAX: usize = 255;

/// Longest access token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 255;

/// Longest PSK identity, in characters (RFC 4279 section 5.4).
const PSK_IDENTITY_CHARS_MAX: usize = 128;

/// Shortest pre-shared key, in bytes: who has seen a handshake without ECDHE can try keys at home
/// (RFC 4279 section 7.2), and 128 bits are out of reach.
const PSK_BYTES_MIN: usize = 16;

/// Different bytes that a pre-shared key must have: of 16 random ones there are fewer in one case of
/// 10^20.
const PSK_DIFFERENT_BYTES_MIN: usize = 5;

/// Longest certificate, in bytes of DER.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// Characters of a token made at random.
const RANDOM_TOKEN_CHARS: usize = 20;

/// Checks a device's name.
pub(super) fn name(name: &str) -> Result<(), RegistryError> {
    name_problem(name).map_or(Ok(()), |problem| {
        Err(RegistryError::Name(shortened(name), problem))
    })
}

/// Checks a profile's name.
pub(super) fn profile(profile: &str) -> Result<(), RegistryError> {
    name_problem(profile).map_or(Ok(()), |problem| {
        Err(RegistryError::Profile(shortened(profile), problem))
    })
}

/// Checks an access token: it must fit one segment of a path.
pub(super) fn token(token: &str) -> Result<(), RegistryError> {
    let problem = if token.is_empty() {
        "it is empty"
    } else if token.len() > TOKEN_BYTES_MAX {
        "it is longer than 255 bytes, the longest segment of a CoAP path"
    } else if token.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "it holds white space or control characters"
    } else if token.contains('/') {
        "it holds a slash, which separates the segments of a path"
    } else {
        return Ok(());
    };
    Err(RegistryError::Token(problem))
}

/// Checks a certificate's size; its content is the caller's to check.
pub(super) fn certificate(der: &[u8]) -> Result<(), RegistryError> {
    match der.len() {
        0 => Err(RegistryError::Certificate("it is empty")),
        1..=CERTIFICATE_BYTES_MAX => Ok(()),
        _ => Err(RegistryError::Certificate("it is longer than 8192 bytes")),
    }
}

/// Checks the size of a certificate's text: base64 of what [`certificate`] allows.
pub(super) fn certificate_text(text: &str) -> Result<(), RegistryError> {
    match text.len() {
        0 => Err(RegistryError::Certificate("it is empty")),
        length if length <= CERTIFICATE_BYTES_MAX.div_ceil(3) * 4 => Ok(()),
        _ => Err(RegistryError::Certificate("it is longer than 8192 bytes")),
    }
}

/// Checks the identity of a pre-shared key (RFC 4279 section 5.1: UTF-8).
pub(super) fn psk_identity(identity: &str) -> Result<(), RegistryError> {
    let problem = if identity.is_empty() {
        "it is empty"
    } else if identity.chars().any(char::is_control) {
        "it holds control characters"
    } else if identity.chars().nth(PSK_IDENTITY_CHARS_MAX).is_some() {
        "it is longer than 128 characters"
    } else {
        return Ok(());
    };
    Err(RegistryError::PskIdentity(shortened(identity), problem))
}

/// Checks a pre-shared key: its length, and that it is none of the patterns of examples.
pub(super) fn pre_shared_key(key: &PreSharedKey) -> Result<(), RegistryError> {
    let bytes = key.as_bytes();
    let mut seen = [false; 256];
    bytes
        .iter()
        .for_each(|&byte| seen[usize::from(byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let steps = || std::iter::zip(bytes, bytes.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let is_regular = steps().all(|step| Some(step) == steps().next());
    let problem = if bytes.len() < PSK_BYTES_MIN {
        "it is shorter than 16 bytes (32 hexadecimal digits), so that it could be guessed from a \
         recorded handshake; `openssl rand -hex 32` makes a good one"
    } else if different < PSK_DIFFERENT_BYTES_MIN || is_regular {
        "it is a pattern that anybody would try; `openssl rand -hex 32` makes a good one"
    } else {
        return Ok(());
    };
    Err(RegistryError::PreSharedKey(problem))
}

/// An access token of 20 random alphanumeric characters (119 bits).
pub(super) fn random_token(random: &mut dyn crate::random::Random) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..RANDOM_TOKEN_CHARS)
        .filter_map(|_| {
            let at = usize::try_from(random.below(ALPHABET.len() as u64)).ok()?;
            ALPHABET.get(at).map(|&byte| char::from(byte))
        })
        .collect()
}

fn name_problem(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("it is empty")
    } else if name.trim() != name {
        Some("it begins or ends with white space")
    } else if name.chars().any(char::is_control) {
        Some("it holds control characters")
    } else if name.chars().any(misleads) {
        Some("it holds characters that are not seen, or that turn the direction of what is read")
    } else if name == "." || name == ".." {
        Some("in a URL it stands for another place")
    } else if name.chars().nth(NAME_CHARS_MAX).is_some() {
        Some("it is longer than 255 characters")
    } else {
        None
    }
}

/// Whether a character makes a name look like another one, which a device that registers itself may be
/// after. What joins letters (U+200C, U+200D) is needed to write some languages.
const fn misleads(character: char) -> bool {
    matches!(
        character,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// The beginning of a text, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
