//! What names, tokens and certificates may look like.

use super::RegistryError;

/// Longest name of a device or profile, in characters (as ThingsBoard's column).
pub(super) const NAME_CHARS_MAX: usize = 255;

/// Longest access token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 255;

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
    } else if name.chars().nth(NAME_CHARS_MAX).is_some() {
        Some("it is longer than 255 characters")
    } else {
        None
    }
}

/// The beginning of a text, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
