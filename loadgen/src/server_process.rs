//! The server's CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tidegate::time::Duration;

/// A process of this host.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcess {
    directory: PathBuf,
}

/// What a process used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of all its threads, ended ones included; in steps of a clock tick.
    pub(crate) cpu: Duration,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
}

impl ServerProcess {
    /// The process with this id.
    ///
    /// # Errors
    ///
    /// When there is none, with the remedy.
    pub(crate) fn find(pid: u32) -> Result<Self, String> {
        let process = Self {
            directory: PathBuf::from(format!("/proc/{pid}")),
        };
        process.usage().map(|_| process).map_err(|error| {
            format!("--server-pid {pid}: {error}; give the id of a process that runs here (`pgrep tidegate`)")
        })
    }

    /// What it used until now.
    ///
    /// # Errors
    ///
    /// When it ended, or `/proc` cannot be read.
    pub(crate) fn usage(&self) -> Result<Usage, String> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let ticks = parse_stat(&read("stat")?).ok_or("stat has an unknown form")?;
        let pages = parse_statm(&read("statm")?).ok_or("statm has an unknown form")?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let micros = u128::from(ticks) * 1_000_000 / u128::from(per_second);
        Ok(Usage {
            cpu: Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)),
            rss_bytes: pages * rustix::param::page_size() as u64,
        })
    }

    /// What its living threads used until now; empty where the kernel does not say.
    pub(crate) fn thread_times(&self) -> ThreadTimes {
        let mut times = ThreadTimes::new();
        for task in fs::read_dir(self.directory.join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            if let (Some(name), Some(time)) = (
                read("comm"),
                read("schedstat").as_deref().and_then(parse_schedstat),
            ) {
                *times.entry(kind_of(name.trim()).to_owned()).or_default() +=
                    Duration::from_nanos(time);
            }
        }
        times
    }
}

/// CPU time by the names of threads; those of one name but for a number behind it are one.
pub(crate) type ThreadTimes = BTreeMap<String, Duration>;

/// The name without what counts the threads of one kind: `shard` of `shard-0-1`.
fn kind_of(name: &str) -> &str {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '#');
    if kind.is_empty() { name } else { kind }
}

/// Nanoseconds on a CPU: the first field.
fn parse_schedstat(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// utime and stime, in ticks: the 14th and 15th field; the second may hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident pages: the second field.
fn parse_statm(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12345 1 2 3";
        assert_eq!(parse_stat(stat), Some(300));
        assert_eq!(parse_stat("7 (x) S 1"), None);
        assert_eq!(parse_statm("1000 250 3 4 5 6 7\n"), Some(250));
    }

    #[test]
    fn threads_of_one_kind_are_one() {
        assert_eq!(kind_of("shard-0-1"), "shard");
        assert_eq!(kind_of("store-commit"), "store-commit");
        assert_eq!(kind_of("7"), "7");
        assert_eq!(
            parse_schedstat("50273321 322561592 319\n"),
            Some(50_273_321)
        );
        let times = ServerProcess::find(std::process::id())
            .unwrap()
            .thread_times();
        assert!(!times.is_empty() && times.values().any(|time| !time.is_zero()));
    }

    #[test]
    fn a_process_is_measured_and_a_missing_one_is_said() {
        let usage = ServerProcess::find(std::process::id())
            .unwrap()
            .usage()
            .unwrap();
        assert!(usage.rss_bytes > 100_000);
        assert!(ServerProcess::find(u32::MAX).unwrap_err().contains("pgrep"));
    }
}
