//! Our own server as a child on one core.

use std::path::{Path, PathBuf};

use super::process::{Process, free_tcp, free_udp_pair, get, sibling};

/// The token that many devices may share.
pub(crate) const SHARED_TOKEN: &str = "BENCH_TOKEN_0123456789";

/// A running `tidegate serve` with one shard and one thread of the pool.
#[derive(Debug)]
pub(crate) struct Tidegate {
    process: Process,
    secure_port: u16,
    admin_port: u16,
    admin_token_file: String,
}

/// What the server counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// Datagrams.
    pub(crate) received: f64,
    pub(crate) sent: f64,
    /// Upper bounds of the times that a group took to its disk, seconds, and how many took no longer.
    syncs: Vec<(f64, f64)>,
}

impl Counted {
    /// What the slowest sync since `before` took, seconds: the bound of its bucket, at most twice too much.
    pub(crate) fn slowest_sync(&self, before: &Self) -> Option<f64> {
        let all = self.syncs.last()?.1 - before.syncs.last()?.1;
        let mut grown = self.syncs.iter().zip(&before.syncs);
        let (slowest, _) = grown.find(|((_, now), (_, then))| now - then >= all)?;
        (all > 0.0).then_some(slowest.0)
    }
}

impl Tidegate {
    /// Starts it in `directory`, whose `tidegate-NAME` is made anew, with room for `sessions`.
    ///
    /// # Errors
    ///
    /// When it is not built or does not start.
    pub(crate) fn start(
        directory: &Path,
        name: &str,
        cpu: usize,
        sessions: usize,
    ) -> Result<Self, String> {
        Self::start_with(directory, name, cpu, sessions, &[])
    }

    /// The same with these settings on top.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub(crate) fn start_with(
        directory: &Path,
        name: &str,
        cpu: usize,
        sessions: usize,
        changes: &[(&'static str, &str)],
    ) -> Result<Self, String> {
        let program = sibling("tidegate")?;
        let home = directory.join(format!("tidegate-{name}"));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        make_certificate(&program, &home)?;
        let plain_port = free_udp_pair()?;
        let (secure_port, admin_port) = (plain_port + 1, free_tcp()?);
        let file = |name: &str| home.join(name).into_os_string();
        let text = |value: String| value.into();
        let mut settings: Vec<(&str, std::ffi::OsString)> = vec![
            ("COAP_BIND_ADDRESS", "127.0.0.1".into()),
            ("COAP_BIND_PORT", text(plain_port.to_string())),
            ("COAP_DTLS_ENABLED", "true".into()),
            ("COAP_DTLS_BIND_ADDRESS", "127.0.0.1".into()),
            ("COAP_DTLS_BIND_PORT", text(secure_port.to_string())),
            ("COAP_DTLS_PEM_CERT", file("server.pem")),
            ("COAP_DTLS_PEM_KEY", file("server_key.pem")),
            ("TIDEGATE_DATA_DIR", file("data")),
            (
                "TIDEGATE_ADMIN_BIND",
                text(format!("127.0.0.1:{admin_port}")),
            ),
            ("TIDEGATE_LOG", "warn".into()),
            ("TIDEGATE_SHARDS", "1".into()),
            ("TIDEGATE_AUTH_THREADS", "1".into()),
            (
                "TIDEGATE_SESSIONS_MAX",
                text(sessions.max(10_000).to_string()),
            ),
            // The whole fleet of a benchmark has few addresses.
            ("TIDEGATE_HANDSHAKES_PER_ADDRESS", "1000000000".into()),
        ];
        settings.extend(changes.iter().map(|&(name, value)| (name, value.into())));
        let added = super::process::on_core(&program, cpu)
            .args(["device", "add", "bench", "--token", SHARED_TOKEN])
            .envs(settings.clone())
            .output()
            .map_err(|error| error.to_string())?;
        if !added.status.success() {
            return Err(format!(
                "tidegate device add: {}",
                String::from_utf8_lossy(&added.stderr)
            ));
        }
        let mut process = Process::start(&program, cpu, home.join("log"), |command| {
            command.arg("serve").envs(settings);
        })?;
        process
            .wait_until(|| get(admin_port, "/readyz").is_ok())
            .map_err(|error| format!("tidegate serve {error}"))?;
        Ok(Self {
            process,
            secure_port,
            admin_port,
            admin_token_file: home.join("data/admin-token").display().to_string(),
        })
    }

    /// Where its devices go.
    pub(crate) fn target(&self) -> String {
        format!("coaps://127.0.0.1:{}", self.secure_port)
    }

    /// Where devices are registered.
    pub(crate) fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Where the token for that is.
    pub(crate) fn admin_token_file(&self) -> String {
        self.admin_token_file.clone()
    }

    /// Its process id, as an argument.
    pub(crate) fn id(&self) -> String {
        self.process.id().to_string()
    }

    /// The most memory that was resident since it runs.
    ///
    /// # Errors
    ///
    /// When it ended.
    pub(crate) fn peak_resident_bytes(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0)
            .ok_or_else(|| format!("{path} does not tell VmHWM"))
    }

    /// What it counted until now.
    ///
    /// # Errors
    ///
    /// When its metrics cannot be read.
    pub(crate) fn counted(&self) -> Result<Counted, String> {
        let metrics = get(self.admin_port, "/metrics")?;
        Ok(Counted {
            received: sum(&metrics, "tidegate_datagrams_received_total"),
            sent: sum(&metrics, "tidegate_datagrams_sent_total"),
            syncs: buckets(&metrics, "tidegate_store_sync_seconds"),
        })
    }
}

/// The bounds of a histogram's buckets and what they count.
fn buckets(metrics: &str, family: &str) -> Vec<(f64, f64)> {
    let lines = metrics.lines().filter_map(|line| {
        let bucket = line.strip_prefix(family)?.strip_prefix("_bucket{le=\"")?;
        let (bound, count) = bucket.split_once("\"} ")?;
        Some((bound.parse().ok()?, count.parse().ok()?))
    });
    lines.collect()
}

/// The sum of a family's members.
fn sum(metrics: &str, family: &str) -> f64 {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(family))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// A self-signed P-256 certificate in `directory`: `server.pem` and `server_key.pem`.
///
/// # Errors
///
/// What the command said.
pub(crate) fn make_certificate(tidegate: &Path, directory: &Path) -> Result<(), String> {
    let made = std::process::Command::new(tidegate)
        .args([
            "cert",
            "self-signed",
            "--cn",
            "localhost",
            "--san",
            "127.0.0.1",
            "--out",
        ])
        .arg(directory)
        .output()
        .map_err(|error| format!("{}: {error}", tidegate.display()))?;
    if made.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        Err(format!("tidegate cert self-signed: {said}"))
    }
}

/// Where runs keep their files: on the disk that the build is on, as the store's syncs are part of
/// what is measured.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn scratch(out: &Path) -> Result<PathBuf, String> {
    let directory = out.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_family_add_up() {
        let metrics = "# TYPE a_total counter\na_total{port=\"x\",shard=\"0\"} 4\na_total{port=\"y\"} 5\nb 7\n";
        assert!((sum(metrics, "a_total") - 9.0).abs() < 1e-9);
    }

    #[test]
    fn the_slowest_sync_is_found_by_its_bucket() {
        let counted = |counts: [u32; 3]| Counted {
            syncs: buckets(
                &format!(
                    "a_bucket{{le=\"0.5\"}} {}\na_bucket{{le=\"1\"}} {}\na_bucket{{le=\"+Inf\"}} {}\na_sum 3\n",
                    counts[0], counts[1], counts[2]
                ),
                "a",
            ),
            ..Counted::default()
        };
        let before = counted([3, 4, 4]);
        assert_eq!(counted([3, 4, 4]).slowest_sync(&before), None);
        assert_eq!(counted([5, 6, 6]).slowest_sync(&before), Some(0.5));
        assert_eq!(counted([5, 7, 7]).slowest_sync(&before), Some(1.0));
        assert_eq!(
            counted([5, 7, 8]).slowest_sync(&before),
            Some(f64::INFINITY)
        );
        assert_eq!(counted([1, 1, 1]).slowest_sync(&Counted::default()), None);
    }
}
