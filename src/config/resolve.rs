//! From the sources to one text, origin and value per setting.

use crate::config::Sources;
use crate::config::error::{ConfigError, Problem};
use crate::config::file;
use crate::config::nearest::nearest;
use crate::config::table::{SETTINGS, Setting};
use crate::config::value::Value;
use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where the text of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table, or the host for those whose default depends on it.
    Default,
    /// What `--dev` sets.
    Dev,
    /// The command line itself (a problem with `--conf`).
    CommandLine,
    /// `--conf FILE`.
    File {
        /// As given.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The environment.
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("--dev"),
            Self::CommandLine => f.write_str("command line"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// One setting as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Its name.
    pub name: &'static str,
    /// Its text as it may be shown: `****` for a password.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether the server does what it says.
    pub in_effect: bool,
}

/// A setting's text, where it came from, and what it means.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSetting {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// All settings, in the order of the table, each parsed.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) settings: Vec<ResolvedSetting>,
    pub(super) warnings: Vec<String>,
}

/// The names that `--dev` gives a certificate in the data directory, unless one is configured by
/// one of these.
const CREDENTIAL_SOURCES: &[&str] = &[
    "COAP_DTLS_CREDENTIALS_TYPE",
    "COAP_DTLS_PEM_CERT",
    "COAP_DTLS_PEM_KEY",
    "COAP_DTLS_KEY_STORE",
];

type Texts = HashMap<String, (String, Origin)>;

pub(super) fn resolve(sources: &Sources) -> Result<Resolved, ConfigError> {
    let mut problems = Vec::new();
    let mut texts = match &sources.file {
        Some(path) => read_file(path, sources, &mut problems),
        None => Texts::new(),
    };
    for (name, value) in sources.environment.iter().filter(|(name, _)| is_ours(name)) {
        let entry = (value.clone(), Origin::Environment);
        texts.insert(name.clone(), entry);
    }
    let warnings = unknown_names(&texts);
    if sources.dev {
        add_dev_settings(&mut texts);
    }
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let (text, origin) = texts
            .remove(setting.name)
            .unwrap_or_else(|| (setting.default.to_owned(), Origin::Default));
        match setting.kind.parse(&text) {
            Ok(value) => settings.push(ResolvedSetting {
                setting,
                text,
                origin,
                value,
            }),
            Err(refusal) => problems.push(Problem {
                setting: setting.name.to_owned(),
                value: Some(shown(setting, &text)),
                origin,
                reason: refusal.reason,
                remedy: refusal.remedy,
            }),
        }
    }
    if problems.is_empty() {
        Ok(Resolved { settings, warnings })
    } else {
        Err(ConfigError { problems })
    }
}

/// A setting's text as it may be shown.
pub(super) fn shown(setting: &Setting, text: &str) -> String {
    if setting.is_secret() && !text.is_empty() {
        "****".to_owned()
    } else {
        text.to_owned()
    }
}

/// Whether a name is a setting, or looks as if it was meant to be one.
fn is_ours(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["TIDEGATE_", "COAP_", "TB_COAP_"];
    Setting::find(name).is_some() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn read_file(path: &Path, sources: &Sources, problems: &mut Vec<Problem>) -> Texts {
    let text = match read_text(path) {
        Ok(text) => text,
        Err((reason, remedy)) => {
            problems.push(Problem {
                setting: "--conf".to_owned(),
                value: Some(path.display().to_string()),
                origin: Origin::CommandLine,
                reason,
                remedy: remedy.to_owned(),
            });
            return Texts::new();
        }
    };
    let environment = |wanted: &str| {
        let mut variables = sources.environment.iter();
        let found = variables.find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    let parsed = file::parse(&text, &is_ours, &environment);
    let origin = |line| Origin::File {
        path: path.to_owned(),
        line,
    };
    let known = |fault: &file::Fault| Setting::find(&fault.name).is_some();
    problems.extend(
        parsed
            .faults
            .into_iter()
            .filter(known)
            .map(|fault| Problem {
                setting: fault.name,
                value: None,
                origin: origin(fault.line),
                reason: fault.reason,
                remedy: fault.remedy,
            }),
    );
    parsed
        .assignments
        .into_iter()
        .map(|assignment| {
            let entry = (assignment.value, origin(assignment.line));
            (assignment.name, entry)
        })
        .collect()
}

fn read_text(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: std::io::Error| {
        let remedy = "give a file that this user can read";
        (format!("cannot be read: {error}"), remedy)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(("is a directory".to_owned(), "give a file"));
    }
    let mut bytes = Vec::new();
    file.take(file::SIZE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > file::SIZE_MAX {
        let reason = "is larger than 1 MiB".to_owned();
        return Err((reason, "give a file of NAME=value lines"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        let reason = format!("line {} is not UTF-8", line + 1);
        (reason, "save the file as UTF-8")
    })
}

/// What `--dev` changes, where nothing else was said.
fn add_dev_settings(texts: &mut Texts) {
    let credentials_named = CREDENTIAL_SOURCES
        .iter()
        .any(|name| texts.contains_key(*name));
    let mut set = |name: &str, value: String| {
        texts.entry(name.to_owned()).or_insert((value, Origin::Dev));
    };
    set("COAP_DTLS_ENABLED", "true".to_owned());
    if credentials_named {
        return;
    }
    let data_dir = texts.get("TIDEGATE_DATA_DIR").map_or_else(
        || Setting::find("TIDEGATE_DATA_DIR").map_or("", |setting| setting.default),
        |(text, _)| text.as_str(),
    );
    let inside = |name: &str| Path::new(data_dir).join(name).display().to_string();
    let (cert, key) = (inside("server.pem"), inside("server_key.pem"));
    texts.insert("COAP_DTLS_PEM_CERT".to_owned(), (cert, Origin::Dev));
    texts.insert("COAP_DTLS_PEM_KEY".to_owned(), (key, Origin::Dev));
}

/// A warning for each name that looks like a setting and is none.
fn unknown_names(texts: &Texts) -> Vec<String> {
    let mut unknown: Vec<_> = texts
        .iter()
        .filter(|(name, (value, _))| Setting::find(name).is_none() && !is_service_link(name, value))
        .map(|(name, (_, origin))| (name, origin))
        .collect();
    unknown.sort_by_key(|(name, _)| name.as_str());
    unknown
        .into_iter()
        .map(|(name, origin)| {
            let known = SETTINGS.iter().map(|setting| setting.name);
            let advice = nearest(name, known).map_or_else(
                || "it has no effect".to_owned(),
                |nearest| format!("it has no effect; did you mean {nearest}?"),
            );
            format!("unknown setting {name} ({origin}): {advice}")
        })
        .collect()
}

/// Whether Kubernetes or Docker put the variable there, for a service named `coap` or `tidegate`.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT") && value.contains("://"))
        || (name.contains("_UDP_") || name.contains("_TCP_"))
            && ["_ADDR", "_PORT", "_PROTO"]
                .iter()
                .any(|end| name.ends_with(end))
}
