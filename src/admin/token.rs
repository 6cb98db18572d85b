//! The token that opens `/api` over TCP: a secret in the data directory, for its owner alone.
//!
//! It is made at the first start and stays until its file is removed or written anew, which takes
//! effect at a restart or SIGHUP: an operator may also put one of their own there. The unix socket
//! needs none, as its mode already says who may use it.

use crate::crypto::verify_equal;
use crate::random::Random;
use arc_swap::ArcSwap;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Its file in the data directory.
pub const TOKEN_FILE: &str = "admin-token";

/// Random bytes in a token that is made here; its text is twice as long.
const RANDOM_BYTES: usize = 24;
/// Shortest token of an operator's own, characters: what cannot be guessed over a network.
const LENGTH_MIN: usize = 16;
/// Longest one.
const LENGTH_MAX: usize = 256;
/// Who else may read a token of these permission bits.
const OTHERS: u32 = 0o077;

/// The secret. It is compared in constant time, and appears in no log and no error. Clones are the
/// same token: all of them change with [`Self::reload`].
#[derive(Clone)]
pub struct AdminToken(Arc<ArcSwap<Zeroizing<String>>>);

/// The token's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Reading or writing failed.
    #[error(
        "the token of the admin interface, {}, cannot be read or made: {source}; check \
         TIDEGATE_DATA_DIR and its permissions",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the file is no token.
    #[error(
        "the token of the admin interface, {}, cannot be used: it must be one line of {LENGTH_MIN} \
         to {LENGTH_MAX} letters, digits and -._~+/=; remove the file for a new one",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl AdminToken {
    /// Reads the token of a data directory, or makes it. A file that others than its owner may read
    /// is closed to them, with a warning.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn open(directory: &Path, random: &mut dyn Random) -> Result<Self, TokenError> {
        let path = directory.join(TOKEN_FILE);
        let failed = |source| TokenError::File {
            path: path.clone(),
            source,
        };
        match File::open(&path) {
            Ok(file) => {
                close_to_others(&path, &file).map_err(failed)?;
                let mut text = Zeroizing::new(String::new());
                let limit = LENGTH_MAX as u64 + 2;
                let read = file.take(limit).read_to_string(&mut text);
                match read {
                    Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(failed(error)),
                    _ => Self::parse(text.trim_end()).ok_or(TokenError::Content { path }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(&path, random).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A token of `text`, if it can be one: RFC 6750 section 2.1 says which characters.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let fits = (LENGTH_MIN..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_token);
        fits.then(|| Self::new(Zeroizing::new(text.to_owned())))
    }

    fn new(text: Zeroizing<String>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(text)))
    }

    /// Takes the token that the data directory holds now, for all clones: the old one opens nothing
    /// any more. A file that is gone is made anew, with another token.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the token stays as it was.
    pub fn reload(&self, directory: &Path, random: &mut dyn Random) -> Result<(), TokenError> {
        let found = Self::open(directory, random)?;
        self.0.store(found.0.load_full());
        Ok(())
    }

    /// Makes a token, and its file in one step, so that a crash leaves none without content.
    fn make(path: &Path, random: &mut dyn Random) -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        random.fill(&mut *bytes);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = Zeroizing::new(text);
        let unfinished = path.with_extension("new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        Ok(Self::new(text))
    }

    /// Whether a request brings this token: `Authorization: Bearer TOKEN`, of which `credentials` is
    /// the value. Takes the same time whichever characters are wrong.
    pub fn is_in(&self, credentials: &[u8]) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        let Some((scheme, token)) = credentials.split_at_checked(SCHEME.len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME) && verify_equal(token, self.0.load().as_bytes())
    }

    /// The text, for those who may see it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::clone(&self.0.load())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

fn close_to_others(path: &Path, file: &File) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(
            "{} could be read by others: it is closed to them now; remove it and restart for a new \
             token, should somebody have seen it",
            path.display()
        );
        file.set_permissions(Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;

    fn open(directory: &tempfile::TempDir) -> Result<AdminToken, TokenError> {
        AdminToken::open(directory.path(), &mut SystemRandom)
    }

    #[test]
    fn a_token_is_made_once_and_is_its_owner_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_FILE);
        // What a crash left behind is no obstacle.
        std::fs::write(path.with_extension("new"), "x").unwrap();
        let made = open(&directory).unwrap();
        assert_eq!(made.reveal().len(), 2 * RANDOM_BYTES);
        assert_eq!(open(&directory).unwrap().reveal(), made.reveal());
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open(&directory).unwrap().reveal(), made.reveal());
        assert_eq!(mode(), 0o600);
        assert!(!format!("{made:?}").contains(made.reveal().as_str()));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(open(&other).unwrap().reveal(), made.reveal());
    }

    #[test]
    fn an_operator_s_own_token_is_taken_if_it_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_FILE);
        std::fs::write(&path, "An-operators.own_token=\n").unwrap();
        assert_eq!(
            open(&directory).unwrap().reveal().as_str(),
            "An-operators.own_token="
        );
        for wrong in [
            "",
            "\n",
            "short",
            "with a blank in it, and long",
            "zeichen-äöü-zeichen",
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = open(&directory).unwrap_err();
            assert!(matches!(error, TokenError::Content { .. }), "{wrong}");
            assert!(error.to_string().contains("remove the file"), "{error}");
        }
        for wrong in [vec![0xff; 20], vec![b'a'; LENGTH_MAX + 1]] {
            std::fs::write(&path, wrong).unwrap();
            assert!(matches!(open(&directory), Err(TokenError::Content { .. })));
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(open(&directory), Err(TokenError::File { .. })));
    }

    #[test]
    fn a_token_written_anew_takes_the_place_of_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_FILE);
        let token = open(&directory).unwrap();
        let elsewhere = token.clone();
        let first = token.reveal();
        let opens = |text: &str| elsewhere.is_in(format!("Bearer {text}").as_bytes());
        let reload = || token.reload(directory.path(), &mut SystemRandom);
        // What cannot be used changes nothing.
        std::fs::write(&path, "short").unwrap();
        assert!(reload().is_err());
        assert!(opens(&first));
        std::fs::write(&path, "a-token-of-the-operator\n").unwrap();
        reload().unwrap();
        assert!(opens("a-token-of-the-operator") && !opens(&first));
        std::fs::remove_file(&path).unwrap();
        reload().unwrap();
        assert!(!opens("a-token-of-the-operator") && !opens(&first));
        assert!(opens(std::fs::read_to_string(&path).unwrap().trim_end()));
    }

    #[test]
    fn requests_bring_it_as_a_bearer() {
        let token = AdminToken::parse("0123456789abcdef").unwrap();
        for (credentials, expected) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef ", false),
            ("Bearer  0123456789abcdef", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("Bearer", false),
            ("", false),
        ] {
            assert_eq!(
                token.is_in(credentials.as_bytes()),
                expected,
                "{credentials}"
            );
        }
    }
}
