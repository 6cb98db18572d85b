//! Where and of what the numbers are.

use std::process::Command;

/// What a number is worth nothing without.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) build: &'static str,
}

impl Host {
    /// This host, and the commit of the working directory.
    pub(crate) fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let information = read("/proc/cpuinfo");
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty", "--exclude=*"])
            .output()
            .ok()
            .filter(|output| output.status.success())
            .map_or_else(
                || "unknown".to_owned(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            );
        Self {
            processor: processor.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit,
            build: if cfg!(debug_assertions) {
                "debug: these numbers mean nothing, build with --release"
            } else {
                "release"
            },
        }
    }

    /// Some lines of `name  value`.
    pub(crate) fn text(&self) -> String {
        format!(
            "CPU     {}, {} of them\nkernel  {}\ncommit  {}\nbuild   {}\n",
            self.processor, self.cpus, self.kernel, self.commit, self.build
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_known() {
        let host = Host::read();
        assert!(!host.kernel.is_empty() && host.cpus > 0);
        assert!(host.text().contains(&host.kernel));
    }
}
