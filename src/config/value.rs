//! How the text of a setting is read. Each refusal says what would be right.

use crate::config::nearest::nearest;
use crate::crypto::suite::CipherSuite;
use crate::registry::profile::RateLimit;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// The parser of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As Spring reads it: true, on, yes, 1; false, off, no, 0; in any case.
    Boolean,
    /// Only `true` is true, as ThingsBoard compares it. Other words for true are refused, as with
    /// ThingsBoard they would silently mean false.
    LiteralTrue,
    /// A number in a range.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// The same, or empty.
    OptionalInteger {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// 0 or 64 to 65535.
    TransmissionUnit,
    /// A number from 1 to 256; when not set, the host decides.
    HostCount,
    /// 0 to 65535.
    Port,
    /// An IPv4 or IPv6 address, or a host name.
    Host,
    /// Address and port, or empty.
    OptionalSocket,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any text, never shown.
    Secret,
    /// A file or directory, not empty.
    Path,
    /// Names of cipher suites with commas; not set: all.
    Suites,
    /// A filter of `tracing`.
    LogFilter,
    /// `count:seconds[,count:seconds...]`, or empty.
    RateLimit,
}

/// A text that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Boolean`] and [`Kind::LiteralTrue`].
    Boolean(bool),
    /// Of [`Kind::Integer`], [`Kind::TransmissionUnit`] and [`Kind::Port`].
    Integer(i64),
    /// Of [`Kind::OptionalInteger`] and [`Kind::HostCount`].
    OptionalInteger(Option<i64>),
    /// Of [`Kind::Host`].
    Address(IpAddr),
    /// Of [`Kind::OptionalSocket`].
    OptionalSocket(Option<SocketAddr>),
    /// Of [`Kind::Text`], [`Kind::Secret`], [`Kind::LogFilter`], and of [`Kind::Choice`] as it is
    /// written in the table.
    Text(String),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Suites`].
    Suites(Vec<CipherSuite>),
    /// Of [`Kind::RateLimit`].
    RateLimit(RateLimit),
}

/// How datagrams travel between the kernel and the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// As the kernel can.
    Auto,
    /// On an io_uring.
    Uring,
    /// By recvmmsg and sendmmsg.
    Mmsg,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a text is refused, and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong with it.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

impl Refusal {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// Fewest and most executors or threads.
const COUNT_RANGE: (i64, i64) = (1, 256);

impl Kind {
    /// Reads `text`. White space around it is ignored, but for [`Kind::Text`], [`Kind::Secret`] and
    /// [`Kind::Path`]. A host name is resolved, which may take as long as the resolver does.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without the text itself.
    pub fn parse(self, text: &str) -> Result<Value, Refusal> {
        let trimmed = text.trim();
        match self {
            Self::Boolean => boolean(trimmed).map(Value::Boolean),
            Self::LiteralTrue => literal_true(trimmed).map(Value::Boolean),
            Self::Integer { min, max } => integer(trimmed, min, max).map(Value::Integer),
            Self::OptionalInteger { .. } | Self::HostCount if trimmed.is_empty() => {
                Ok(Value::OptionalInteger(None))
            }
            Self::OptionalInteger { min, max } => {
                integer(trimmed, min, max).map(|number| Value::OptionalInteger(Some(number)))
            }
            Self::HostCount => integer(trimmed, COUNT_RANGE.0, COUNT_RANGE.1)
                .map(|number| Value::OptionalInteger(Some(number))),
            Self::TransmissionUnit => transmission_unit(trimmed).map(Value::Integer),
            Self::Port => integer(trimmed, 0, i64::from(u16::MAX)).map(Value::Integer),
            Self::Host => host(trimmed).map(Value::Address),
            Self::OptionalSocket if trimmed.is_empty() => Ok(Value::OptionalSocket(None)),
            Self::OptionalSocket => {
                socket(trimmed).map(|address| Value::OptionalSocket(Some(address)))
            }
            Self::Choice(words) => choice(trimmed, words).map(Value::Text),
            Self::Text | Self::Secret => Ok(Value::Text(text.to_owned())),
            Self::Path => path(text).map(Value::Path),
            Self::Suites => suites(trimmed).map(Value::Suites),
            Self::LogFilter => log_filter(trimmed).map(Value::Text),
            Self::RateLimit => RateLimit::parse(trimmed)
                .map(Value::RateLimit)
                .map_err(|_| Refusal::new("not a rate limit", RateLimit::REMEDY)),
        }
    }
}

fn boolean(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(Refusal::new("not a boolean", "write true or false")),
    }
}

fn literal_true(text: &str) -> Result<bool, Refusal> {
    match (text, boolean(text)) {
        ("true", _) => Ok(true),
        ("", _) | (_, Ok(false)) => Ok(false),
        (_, Ok(true)) => Err(Refusal::new(
            "ThingsBoard takes only the exact word `true` for true and would leave DTLS off",
            "write true (in lower case), or false",
        )),
        (_, Err(refusal)) => Err(refusal),
    }
}

fn integer(text: &str, min: i64, max: i64) -> Result<i64, Refusal> {
    let remedy = || match (min, max) {
        (i64::MIN, i64::MAX) => "write a whole number".to_owned(),
        (i64::MIN, max) => format!("write a whole number up to {max}"),
        (min, max) => format!("write a whole number from {min} to {max}"),
    };
    let number: i64 = text
        .parse()
        .map_err(|_| Refusal::new(not_a_number(text), remedy()))?;
    if number < min || number > max {
        return Err(Refusal::new("out of range", remedy()));
    }
    Ok(number)
}

fn not_a_number(text: &str) -> &'static str {
    if text.is_empty() {
        "empty"
    } else {
        "not a whole number"
    }
}

fn transmission_unit(text: &str) -> Result<i64, Refusal> {
    let refusal = |reason| {
        Refusal::new(
            reason,
            "write a number of bytes from 64 to 65535, or 0 for that of the interface",
        )
    };
    match text.parse::<i64>() {
        Ok(number @ (0 | 64..=65535)) => Ok(number),
        Ok(_) => Err(refusal("out of range")),
        Err(_) => Err(refusal(not_a_number(text))),
    }
}

const HOST_REMEDY: &str =
    "write an IPv4 or IPv6 address of this host (0.0.0.0 or :: for all), or a name that resolves";

fn host(text: &str) -> Result<IpAddr, Refusal> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    if text.is_empty() {
        return Err(Refusal::new("empty", HOST_REMEDY));
    }
    resolve((text, 0)).map(|address| address.ip())
}

fn socket(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let shape = || {
        Refusal::new(
            "not an address with a port",
            "write ADDRESS:PORT, as 127.0.0.1:5680 or [::1]:5680, or nothing to switch it off",
        )
    };
    let (name, port) = text.rsplit_once(':').ok_or_else(shape)?;
    let port: u16 = port.parse().map_err(|_| shape())?;
    if name.is_empty() || name.contains([':', '[', ']']) {
        return Err(shape());
    }
    resolve((name, port))
}

fn resolve(name: (&str, u16)) -> Result<SocketAddr, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| {
        Refusal::new(
            format!("neither an address nor a name that resolves ({error})"),
            HOST_REMEDY,
        )
    };
    name.to_socket_addrs()
        .map_err(|error| refusal(&error))?
        .next()
        .ok_or_else(|| refusal(&"no address"))
}

fn choice(text: &str, words: &[&str]) -> Result<String, Refusal> {
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text))
        .map(|word| (*word).to_owned())
        .ok_or_else(|| {
            Refusal::new(
                if text.is_empty() { "empty" } else { "unknown" },
                format!("write {}", words.join(" or ")),
            )
        })
}

fn path(text: &str) -> Result<PathBuf, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(
            "empty",
            "write a path, or remove the setting for its default",
        ));
    }
    if text.contains('\0') {
        return Err(Refusal::new(
            "a path cannot hold a NUL character",
            "write a path",
        ));
    }
    Ok(PathBuf::from(text))
}

fn suites(text: &str) -> Result<Vec<CipherSuite>, Refusal> {
    if text.is_empty() {
        return Ok(CipherSuite::ALL.to_vec());
    }
    let known = || CipherSuite::ALL.iter().map(|suite| suite.name());
    let mut suites = Vec::new();
    for name in text.split(',').map(str::trim) {
        let suite = CipherSuite::from_name(name).ok_or_else(|| {
            let remedy = nearest(name, known()).map_or_else(
                || {
                    let names: Vec<_> = known().collect();
                    format!("the supported ones are {}", names.join(", "))
                },
                |nearest| format!("did you mean {nearest}?"),
            );
            Refusal::new(format!("`{name}` is no supported cipher suite"), remedy)
        })?;
        if suites.contains(&suite) {
            let reason = format!("{} is named twice", suite.name());
            return Err(Refusal::new(reason, "name each suite once"));
        }
        suites.push(suite);
    }
    Ok(suites)
}

fn log_filter(text: &str) -> Result<String, Refusal> {
    let refusal = |reason: String| {
        Refusal::new(
            reason,
            "write error, warn, info, debug, trace or off, or pairs as in info,tidegate::server=debug",
        )
    };
    if text.is_empty() {
        return Err(refusal("empty".to_owned()));
    }
    crate::logging::parse_filter(text).map_err(refusal)?;
    Ok(text.to_owned())
}
