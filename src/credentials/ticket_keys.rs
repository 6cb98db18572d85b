//! The keys of session tickets (RFC 5077) on disk: our own, which are rotated, or a file that
//! several nodes share.
//!
//! ```text
//! # a comment
//! NAME SECRET          32 and 64 hexadecimal digits; in our own file the UNIX time behind them
//! NAME SECRET
//! ```
//!
//! The first key seals new tickets, all of them open old ones. Of our own keys a new one comes first
//! after a quarter of a ticket's lifetime, and one goes when no ticket that it sealed can be
//! current. A shared file is the operator's: a new key is added behind the others on every node, then
//! moved to the front, and the oldest removed once a ticket's lifetime has passed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::fingerprint::to_hex;
use crate::dtls::{TICKET_KEYS_MAX, TicketKey, TicketKeys};
use crate::random::Random;

/// Longest file that is read.
const FILE_LENGTH_MAX: u64 = 64 * 1024;
/// Shortest time between two keys of our own.
const PERIOD_MIN: Duration = Duration::from_secs(60);
/// The file of our own keys, in the data directory.
const FILE_NAME: &str = "ticket-keys";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {file}: {problem}; {remedy}", file = file.display())]
pub struct TicketKeysError {
    setting: &'static str,
    file: PathBuf,
    problem: String,
    remedy: &'static str,
}

/// The keys and where they come from.
#[derive(Debug)]
pub struct TicketKeyring {
    file: PathBuf,
    /// The file is the operator's: never written.
    shared: bool,
    lifetime: Duration,
    /// The sealing one first, never empty.
    keys: Vec<StoredKey>,
}

#[derive(Clone)]
struct StoredKey {
    name: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
    /// Seconds since the UNIX epoch; 0 in a shared file.
    made_unix_s: u64,
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredKey({})", to_hex(&self.name))
    }
}

impl TicketKeyring {
    /// Reads the keys that several nodes share (`TIDEGATE_TICKET_KEYS_FILE`); tickets are good for
    /// `lifetime`.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and what to do.
    pub fn shared(file: &Path, lifetime: Duration) -> Result<Self, TicketKeysError> {
        let mut this = Self {
            file: file.to_owned(),
            shared: true,
            lifetime,
            keys: Vec::new(),
        };
        this.reload()?;
        Ok(this)
    }

    /// Reads our own keys from the data directory, makes them when there are none, and rotates
    /// them when it is time.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and what to do.
    pub fn own(
        data_directory: &Path,
        lifetime: Duration,
        now_unix_s: u64,
        random: &mut dyn Random,
    ) -> Result<Self, TicketKeysError> {
        let mut this = Self {
            file: data_directory.join(FILE_NAME),
            shared: false,
            lifetime,
            keys: Vec::new(),
        };
        if this.file.exists() {
            this.keys = this.read()?;
        }
        this.rotate(now_unix_s, random)?;
        Ok(this)
    }

    /// Reads a shared file again; on an error the keys stay as they are. Our own need no reading.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and what to do.
    pub fn reload(&mut self) -> Result<(), TicketKeysError> {
        if self.shared {
            self.keys = self.read()?;
        }
        Ok(())
    }

    /// Makes a new key of our own when it is time, drops those that are over, and writes the file.
    /// Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the keys stay as they are then.
    pub fn rotate(
        &mut self,
        now_unix_s: u64,
        random: &mut dyn Random,
    ) -> Result<bool, TicketKeysError> {
        let period_s = (self.lifetime / 4).max(PERIOD_MIN).as_secs();
        let kept_s = period_s.saturating_add(self.lifetime.as_secs());
        // A key that the clock says is of the future is as old as one of the past.
        let age_s = |key: &StoredKey| now_unix_s.abs_diff(key.made_unix_s);
        let is_due = self.keys.first().is_none_or(|key| age_s(key) >= period_s);
        if self.shared || !is_due {
            return Ok(false);
        }
        let mut name = [0; 16];
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(&mut name);
        random.fill(&mut *secret);
        let mut keys = vec![StoredKey {
            name,
            secret,
            made_unix_s: now_unix_s,
        }];
        let current = self.keys.iter().filter(|key| age_s(key) <= kept_s);
        keys.extend(current.take(TICKET_KEYS_MAX - 1).cloned());
        write(&self.file, &keys)
            .map_err(|error| self.error(format!("cannot be written: {error}")))?;
        self.keys = keys;
        Ok(true)
    }

    /// The keys, for the shards.
    pub fn keys(&self) -> TicketKeys {
        let key = |key: &StoredKey| TicketKey::new(key.name, *key.secret);
        TicketKeys::new(self.keys.iter().map(key).collect(), self.lifetime)
    }

    /// A warning when others than its owner may read the file.
    pub fn warning(&self) -> Option<String> {
        let mode = self.file.metadata().ok()?.permissions().mode();
        (mode & 0o077 != 0).then(|| {
            format!(
                "{}: {}: others may read it, and with it every session that a ticket resumes; \
                 run `chmod 600` on it",
                self.setting(),
                self.file.display()
            )
        })
    }

    const fn setting(&self) -> &'static str {
        if self.shared {
            "TIDEGATE_TICKET_KEYS_FILE"
        } else {
            "TIDEGATE_DATA_DIR"
        }
    }

    fn error(&self, problem: String) -> TicketKeysError {
        TicketKeysError {
            setting: self.setting(),
            file: self.file.clone(),
            problem,
            remedy: if self.shared {
                "give each line a name of 32 and a secret of 64 hexadecimal digits (`openssl rand \
                 -hex 16` and `-hex 32` make them), or leave the setting empty"
            } else {
                "check its permissions, or remove it: every device then makes one full handshake"
            },
        }
    }

    fn read(&self) -> Result<Vec<StoredKey>, TicketKeysError> {
        let mut text = Zeroizing::new(String::new());
        File::open(&self.file)
            .and_then(|file| file.take(FILE_LENGTH_MAX + 1).read_to_string(&mut text))
            .map_err(|error| self.error(format!("cannot be read: {error}")))?;
        if text.len() as u64 > FILE_LENGTH_MAX {
            return Err(self.error(format!("longer than {FILE_LENGTH_MAX} bytes")));
        }
        let mut keys: Vec<StoredKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |problem: &str| self.error(format!("line {}: {problem}", index + 1));
            let key = parse(line, !self.shared).map_err(at)?;
            if keys.iter().any(|known| known.name == key.name) {
                return Err(at("the name of another key"));
            }
            if keys.len() == TICKET_KEYS_MAX {
                return Err(at(&format!("more than {TICKET_KEYS_MAX} keys")));
            }
            keys.push(key);
        }
        if keys.is_empty() && self.shared {
            return Err(self.error("holds no key".into()));
        }
        Ok(keys)
    }
}

/// Reads a line. What is refused is not repeated, as it may be a secret.
fn parse(line: &str, with_time: bool) -> Result<StoredKey, &'static str> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next().and_then(from_hex::<16>);
    let name = name.ok_or("the name is not 32 hexadecimal digits")?;
    let secret = fields.next().and_then(from_hex::<32>).map(Zeroizing::new);
    let secret = secret.ok_or("the secret is not 64 hexadecimal digits")?;
    // CVE-2020-13777: a key of zeros is one that was never drawn.
    if *secret == [0; 32] {
        return Err("the secret is all zeros");
    }
    let made_unix_s = match fields.next() {
        Some(time) if with_time => time.parse().map_err(|_| "the time is not a number")?,
        None if !with_time => 0,
        None => return Err("the time is missing"),
        Some(_) => return Err("more than a name and a secret"),
    };
    match fields.next() {
        None => Ok(StoredKey {
            name,
            secret,
            made_unix_s,
        }),
        Some(_) => Err("more than a name, a secret and a time"),
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Writes the file as a whole or not at all, readable by its owner only.
fn write(file: &Path, keys: &[StoredKey]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(256 + keys.len() * 128));
    text.push_str(
        "# Keys of session tickets: name, secret, UNIX time. Made and rotated by tidegate.\n",
    );
    for key in keys {
        let secret = Zeroizing::new(to_hex(&*key.secret));
        text.push_str(&to_hex(&key.name));
        text.push(' ');
        text.push_str(&secret);
        text.push(' ');
        text.push_str(&key.made_unix_s.to_string());
        text.push('\n');
    }
    let new = file.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, file)?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
