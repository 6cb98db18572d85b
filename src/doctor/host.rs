//! Reading the host.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::shard::DriverKind;

/// The host as its files tell it.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// What an attempt to make a small ring gave.
    ring: Result<(), String>,
    /// What an attempt to send and receive datagrams by a ring gave.
    datagrams: Result<(), String>,
}

/// A soft limit of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Unlimited,
    At(u64),
}

impl Limit {
    pub(super) fn is_below(self, wanted: u64) -> bool {
        match self {
            Self::Unlimited => false,
            Self::At(limit) => limit < wanted,
        }
    }
}

/// A network interface with hardware behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) receive_queues: usize,
    /// Whether software spreads packets of at least one queue over cores (RPS).
    pub(super) receive_packet_steering: bool,
    pub(super) numa_node: Option<u32>,
    /// Its interrupts, each with the cores that it goes to, as the kernel lists them.
    pub(super) interrupts: Vec<(u32, String)>,
}

impl Host {
    /// This machine.
    pub fn of_machine() -> Self {
        Self {
            root: PathBuf::from("/"),
            ring: try_ring().map_err(|error| error.to_string()),
            datagrams: DriverKind::probe_uring().map_err(|error| error.to_string()),
        }
    }

    /// A machine whose files lie below `root`, and whose rings are `ring` and `datagrams`.
    #[cfg(test)]
    pub(super) fn pretended(
        root: &std::path::Path,
        ring: Result<(), String>,
        datagrams: Result<(), String>,
    ) -> Self {
        Self {
            root: root.to_owned(),
            ring,
            datagrams,
        }
    }

    /// # Errors
    /// Why no ring can be made.
    pub fn ring(&self) -> Result<(), &str> {
        self.ring.as_ref().copied().map_err(String::as_str)
    }

    /// # Errors
    /// Why datagrams cannot travel by a ring.
    pub(super) fn datagrams(&self) -> Result<(), &str> {
        self.datagrams.as_ref().copied().map_err(String::as_str)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The trimmed content of a file; `None` when it is not there or cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Major and minor number of the kernel's release.
    pub(super) fn kernel(&self) -> Option<(u32, u32)> {
        let release = self.text("/proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// The soft limit of this name in /proc/self/limits.
    pub(super) fn limit(&self, name: &str) -> Option<Limit> {
        let limits = self.text("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(Limit::Unlimited),
            number => number.parse().ok().map(Limit::At),
        }
    }

    /// Frequency governors in use, each once; none where the hypervisor keeps them.
    pub(super) fn governors(&self) -> Vec<String> {
        let mut governors: Vec<_> = self
            .names("/sys/devices/system/cpu")
            .iter()
            .filter_map(|cpu| {
                self.text(&format!(
                    "/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"
                ))
            })
            .collect();
        governors.sort();
        governors.dedup();
        governors
    }

    /// Numbers of the memory nodes.
    pub(super) fn numa_nodes(&self) -> Vec<u32> {
        self.names("/sys/devices/system/node")
            .iter()
            .filter_map(|name| name.strip_prefix("node")?.parse().ok())
            .collect()
    }

    /// Cores of a memory node.
    pub(super) fn node_cores(&self, node: u32) -> Vec<usize> {
        let list = self.text(&format!("/sys/devices/system/node/node{node}/cpulist"));
        numbers_of_list(&list.unwrap_or_default())
    }

    /// Cores that a process started here may run on, in the order in which shards take them.
    pub(super) fn allowed_cores(&self) -> Vec<usize> {
        let status = self.text("/proc/self/status").unwrap_or_default();
        let mut lines = status.lines();
        let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        numbers_of_list(list.unwrap_or_default())
    }

    /// How many flows of these UDP ports the kernel tracks; `None` where it does not list them.
    pub(super) fn tracked_flows(&self, ports: [u16; 2]) -> Option<usize> {
        let table = self.text("/proc/net/nf_conntrack")?;
        let ours = ports.map(|port| format!("dport={port}"));
        let is_ours = |line: &&str| {
            let mut words = line.split_whitespace();
            line.contains(" udp ") && words.any(|word| ours.iter().any(|port| port == word))
        };
        Some(table.lines().filter(is_ours).count())
    }

    /// Interfaces that are up, with a device behind them: no loopback, no bridges.
    pub(super) fn interfaces(&self) -> Vec<Interface> {
        let is_down = |name: &str| {
            let state = self.text(&format!("/sys/class/net/{name}/operstate"));
            state.is_some_and(|state| state == "down")
        };
        self.names("/sys/class/net")
            .into_iter()
            .filter(|name| self.path(&format!("/sys/class/net/{name}/device")).exists())
            .filter(|name| !is_down(name))
            .map(|name| self.interface(name))
            .collect()
    }

    fn interface(&self, name: String) -> Interface {
        let queues: Vec<_> = self
            .names(&format!("/sys/class/net/{name}/queues"))
            .into_iter()
            .filter(|queue| queue.starts_with("rx-"))
            .collect();
        let steers = |queue: &String| {
            let mask = self.text(&format!("/sys/class/net/{name}/queues/{queue}/rps_cpus"));
            mask.is_some_and(|mask| mask.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
        };
        Interface {
            receive_queues: queues.len(),
            receive_packet_steering: queues.iter().any(steers),
            // -1 on machines with a single node.
            numa_node: self
                .text(&format!("/sys/class/net/{name}/device/numa_node"))
                .and_then(|node| node.parse().ok()),
            interrupts: self.interrupts(&name),
            name,
        }
    }

    /// A virtual device has its interrupts at the device above it.
    fn interrupts(&self, interface: &str) -> Vec<(u32, String)> {
        let own = self.names(&format!("/sys/class/net/{interface}/device/msi_irqs"));
        let above = self.names(&format!("/sys/class/net/{interface}/device/../msi_irqs"));
        let numbers = own.iter().chain(&above);
        let mut interrupts: Vec<_> = numbers
            .filter_map(|number| {
                let cores = self.text(&format!("/proc/irq/{number}/effective_affinity_list"))?;
                Some((number.parse().ok()?, cores))
            })
            .collect();
        interrupts.sort_unstable();
        interrupts
    }
}

/// The numbers of a list as the kernel writes it: `0-3,8`.
fn numbers_of_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Makes a ring as small as they come, and throws it away.
fn try_ring() -> io::Result<()> {
    io_uring::IoUring::new(8).map(drop)
}
