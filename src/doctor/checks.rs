//! What is looked at, and what is thought of it.

use super::host::{Host, Limit};
use super::{Finding, Needs, Severity};
use crate::config::value::DriverChoice;

/// The oldest kernel whose io_uring the executors can use.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Locked memory that the executor demands before it starts, and about what each ring takes.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// Descriptors of a server without shards: store, registry, admin, log.
const FILES_BASE: u64 = 64;
/// Descriptors of a shard: sockets, rings, event descriptors.
const FILES_PER_SHARD: u64 = 24;
/// Descriptors that leave room for the segments of the store and for administration.
const FILES_WANTED: u64 = 4096;
/// What a shard asks for as its socket's buffer.
const SOCKET_BUFFER_BYTES: u64 = 4 << 20;
/// Of how many entries of the connection tracking table in use one is told, in percent.
const CONNTRACK_PERCENT: u64 = 80;

pub(super) fn all(host: &Host, needs: Needs) -> Vec<Finding> {
    let mut findings = vec![
        kernel(host),
        ring(host),
        datagrams(host, needs),
        locked_memory(host, needs),
        open_files(host, needs),
        socket_buffer(host, "receive buffer", "rmem_max"),
        socket_buffer(host, "send buffer", "wmem_max"),
        busy_polling(host, needs),
        governor(host),
        clock(host),
        memory_nodes(host),
    ];
    findings.extend(connection_tracking(host, needs));
    findings.push(receive_queues(host, needs));
    findings.extend(interrupts(host, needs));
    findings
}

fn fine(subject: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Fine,
        subject,
        found: found.into(),
        why: "",
        remedy: String::new(),
    }
}

fn bad(
    severity: Severity,
    subject: &'static str,
    found: impl Into<String>,
    why: &'static str,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        subject,
        found: found.into(),
        why,
        remedy: remedy.into(),
    }
}

fn kernel(host: &Host) -> Finding {
    let subject = "kernel";
    match host.kernel() {
        Some(version) if version >= KERNEL_MIN => {
            fine(subject, format!("Linux {}.{}", version.0, version.1))
        }
        found => bad(
            Severity::Stops,
            subject,
            found.map_or_else(
                || "unknown release".to_owned(),
                |(major, minor)| format!("Linux {major}.{minor}"),
            ),
            "the executors need the io_uring of Linux 5.8 or newer",
            "install a newer kernel, for example: apt-get install linux-image-amd64",
        ),
    }
}

fn ring(host: &Host) -> Finding {
    let subject = "io_uring";
    let Err(error) = host.ring() else {
        return fine(subject, "a ring can be made");
    };
    let why = "every shard works on an io_uring; without it `serve` cannot start";
    let remedy = match host.number("/proc/sys/kernel/io_uring_disabled") {
        Some(2) => "sysctl -w kernel.io_uring_disabled=0".to_owned(),
        Some(1) => "sysctl -w kernel.io_uring_disabled=0\n\
             # or add the service's group: sysctl -w kernel.io_uring_group=$(id -g tidegate)"
            .to_owned(),
        _ => "# the kernel allows it, so a seccomp filter may forbid it: in a container run with one\n\
             # that allows io_uring_setup, io_uring_enter and io_uring_register; under systemd see\n\
             # SystemCallFilter= in packaging/tidegate.service"
            .to_owned(),
    };
    bad(Severity::Stops, subject, error, why, remedy)
}

/// Which driver the server is going to use, and why.
fn datagrams(host: &Host, needs: Needs) -> Finding {
    let subject = "datagrams";
    match (needs.driver, host.datagrams()) {
        (DriverChoice::Mmsg, ring) => {
            let ring = match ring {
                Ok(()) => "the ring would do, too",
                Err(_) => "the kernel has no ring for them anyway",
            };
            fine(
                subject,
                format!("travel by recvmmsg and sendmmsg, as TIDEGATE_DRIVER=mmsg says; {ring}"),
            )
        }
        (DriverChoice::Uring, Ok(())) => {
            fine(subject, "travel by the ring, as TIDEGATE_DRIVER=uring says")
        }
        (DriverChoice::Auto, Ok(())) => fine(
            subject,
            "travel by the ring: TIDEGATE_DRIVER=auto takes it where the kernel can",
        ),
        (DriverChoice::Uring, Err(error)) => bad(
            Severity::Stops,
            subject,
            format!("cannot travel by the ring: {error}"),
            "TIDEGATE_DRIVER=uring asks for the ring, and `serve` does not start without it",
            "# set TIDEGATE_DRIVER to auto or mmsg, or use Linux 6.1 or newer and a seccomp filter that\n\
             # allows all of io_uring_register",
        ),
        (DriverChoice::Auto, Err(error)) => bad(
            Severity::Slows,
            subject,
            format!("travel by recvmmsg and sendmmsg, as they cannot by the ring: {error}"),
            "that costs more CPU time under load",
            "use Linux 6.1 or newer, and a seccomp filter that allows all of io_uring_register",
        ),
    }
}

/// Whether a shard's sleep is a system call that can poll the interface.
fn sleeps_in_poll(host: &Host, needs: Needs) -> bool {
    match needs.driver {
        DriverChoice::Mmsg => true,
        DriverChoice::Uring => false,
        DriverChoice::Auto => host.datagrams().is_err(),
    }
}

/// A choice between latency at low rates and idle cores, so never a defect.
fn busy_polling(host: &Host, needs: Needs) -> Finding {
    let subject = "busy polling";
    let number = |name: &str| host.number(&format!("/proc/sys/net/core/{name}"));
    let (Some(poll), Some(read)) = (number("busy_poll"), number("busy_read")) else {
        return fine(subject, "the kernel has none");
    };
    let found = format!("net.core.busy_poll = {poll} us, net.core.busy_read = {read} us");
    if !sleeps_in_poll(host, needs) {
        return fine(subject, format!("{found}; shards on the ring use neither"));
    }
    if poll > 0 {
        return fine(
            subject,
            format!("{found}; shards that sleep spin so long first"),
        );
    }
    if host.interfaces().is_empty() {
        return fine(subject, format!("{found}; there is no interface to poll"));
    }
    bad(
        Severity::Hint,
        subject,
        found,
        "at low rates a shard could spin on the interface's queue before it sleeps, which takes an interrupt's \
         time off the latency and costs the core's idle time; under load it changes nothing, and busy_read \
         never does",
        "sysctl -w net.core.busy_poll=50    # only where that latency is worth it",
    )
}

fn locked_memory(host: &Host, needs: Needs) -> Finding {
    let subject = "locked memory";
    let wanted = LOCKED_BYTES_MIN * needs.shards.max(1) as u64;
    let limit = host.limit("Max locked memory");
    let found = describe(limit, "bytes");
    let remedy = format!(
        "ulimit -l {}\n# under systemd: LimitMEMLOCK=256M, as in packaging/tidegate.service",
        wanted.div_ceil(1 << 10)
    );
    match limit {
        Some(limit) if limit.is_below(LOCKED_BYTES_MIN) => bad(
            Severity::Stops,
            subject,
            found,
            "an executor does not start below 512 KiB of lockable memory",
            remedy,
        ),
        Some(limit) if limit.is_below(wanted) => bad(
            Severity::Slows,
            subject,
            found,
            "the rings of all shards are locked memory; some of them may not start",
            remedy,
        ),
        _ => fine(subject, found),
    }
}

fn open_files(host: &Host, needs: Needs) -> Finding {
    let subject = "open files";
    let required = FILES_BASE + FILES_PER_SHARD * needs.shards as u64;
    let limit = host.limit("Max open files");
    let found = describe(limit, "descriptors");
    let remedy =
        "ulimit -n 65536\n# under systemd: LimitNOFILE=65536, as in packaging/tidegate.service";
    match limit {
        Some(limit) if limit.is_below(required) => bad(
            Severity::Stops,
            subject,
            found,
            "sockets and rings of the shards do not fit",
            remedy,
        ),
        Some(limit) if limit.is_below(FILES_WANTED.max(required)) => bad(
            Severity::Slows,
            subject,
            found,
            "the store keeps a descriptor for each of its segments, so this may not last",
            remedy,
        ),
        _ => fine(subject, found),
    }
}

fn describe(limit: Option<Limit>, unit: &str) -> String {
    match limit {
        None => "unknown".to_owned(),
        Some(Limit::Unlimited) => {
            "unlimited in this shell; a unit has limits of its own".to_owned()
        }
        Some(Limit::At(number)) => {
            format!("{number} {unit} in this shell; a unit has limits of its own")
        }
    }
}

fn socket_buffer(host: &Host, subject: &'static str, name: &str) -> Finding {
    match host.number(&format!("/proc/sys/net/core/{name}")) {
        Some(bytes) if bytes < SOCKET_BUFFER_BYTES => bad(
            Severity::Slows,
            subject,
            format!("net.core.{name} = {bytes} bytes"),
            "a shard asks for 4 MiB and gets this; what a burst brings beyond it is lost, and the \
             devices send again after seconds",
            format!("sysctl -w net.core.{name}=8388608"),
        ),
        Some(bytes) => fine(subject, format!("net.core.{name} = {bytes} bytes")),
        None => bad(
            Severity::Hint,
            subject,
            format!("net.core.{name} cannot be read, as in a container's network namespace"),
            "a shard asks for 4 MiB; how much it gets is set on the host",
            format!("sysctl -w net.core.{name}=8388608    # on the host"),
        ),
    }
}

fn governor(host: &Host) -> Finding {
    let subject = "governor";
    let governors = host.governors();
    if governors.is_empty() {
        return fine(subject, "none: the hypervisor or the firmware decides");
    }
    let found = governors.join(", ");
    if governors.iter().all(|governor| governor == "performance") {
        return fine(subject, found);
    }
    bad(
        Severity::Slows,
        subject,
        found,
        "the first requests after a quiet spell wait for the core to speed up",
        "cpupower frequency-set -g performance",
    )
}

/// Clock sources that are read without a system call.
const FAST_CLOCKS: &[&str] = &[
    "tsc",
    "kvm-clock",
    "arch_sys_counter",
    "hyperv_clocksource_tsc_page",
];

fn clock(host: &Host) -> Finding {
    let subject = "clock source";
    let source = host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source {
        None => fine(subject, "unknown"),
        Some(source) if FAST_CLOCKS.contains(&source.as_str()) => fine(subject, source),
        Some(source) => bad(
            Severity::Slows,
            subject,
            source,
            "reading this clock takes a system call, and every batch of datagrams reads it",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource\n\
             # when tsc is in available_clocksource beside it",
        ),
    }
}

fn memory_nodes(host: &Host) -> Finding {
    let subject = "memory nodes";
    let nodes = host.numa_nodes();
    if nodes.len() < 2 {
        return fine(subject, "one: all memory is near");
    }
    let allowed = host.allowed_cores();
    let is_home = |&&node: &&u32| {
        let cores = host.node_cores(node);
        !allowed.is_empty() && allowed.iter().all(|core| cores.contains(core))
    };
    if let Some(node) = nodes.iter().find(is_home) {
        let found = format!(
            "{}; what is started here runs on node {node} only",
            nodes.len()
        );
        return fine(subject, found);
    }
    let near: Vec<_> = host
        .interfaces()
        .into_iter()
        .filter_map(|interface| {
            Some(format!(
                "{} is on node {}",
                interface.name, interface.numa_node?
            ))
        })
        .collect();
    let whereabouts = if near.is_empty() {
        String::new()
    } else {
        format!("; {}", near.join(", "))
    };
    bad(
        Severity::Slows,
        subject,
        format!("{}{whereabouts}", nodes.len()),
        "a shard on another node than its interface reads every datagram across the link between \
         them",
        "# bind the server to the interface's node, for example node 0:\n\
         numactl --cpunodebind=0 --membind=0 tidegate serve",
    )
}

fn connection_tracking(host: &Host, needs: Needs) -> Option<Finding> {
    let subject = "connection tracking";
    let tracked = host.number("/proc/sys/net/netfilter/nf_conntrack_count")?;
    let max = host.number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let ours = host.tracked_flows(needs.ports);
    let found = match ours {
        Some(ours) => format!("{tracked} of {max} entries in use, {ours} of them for our ports"),
        None => format!("{tracked} of {max} entries in use; whose they are cannot be seen"),
    };
    let [coap, coaps] = needs.ports;
    let remedy = format!(
        "nft add table raw\n\
         nft add chain raw prerouting '{{ type filter hook prerouting priority raw; }}'\n\
         nft add chain raw output '{{ type filter hook output priority raw; }}'\n\
         nft add rule raw prerouting udp dport {{ {coap}, {coaps} }} notrack\n\
         nft add rule raw output udp sport {{ {coap}, {coaps} }} notrack"
    );
    let cost =
        "each device costs an entry and each datagram a lookup, and DTLS knows its sessions itself";
    let (severity, why) = if tracked * 100 >= max * CONNTRACK_PERCENT {
        let why =
            "the table is nearly full; when it is, new devices are dropped before we see them";
        (Severity::Slows, why)
    } else {
        match ours {
            Some(0) => return Some(fine(subject, found)),
            Some(_) => (Severity::Slows, cost),
            // Anything may be tracked, ssh for one: once the rules are there this is no defect.
            None if tracked == 0 => return Some(fine(subject, found)),
            None => (Severity::Hint, cost),
        }
    };
    Some(bad(severity, subject, found, why, remedy))
}

/// Cores of the shards: the first of those that they may run on.
fn shard_cores(host: &Host, needs: Needs) -> Vec<usize> {
    let mut cores = host.allowed_cores();
    if cores.is_empty() {
        cores = (0..needs.shards.max(1)).collect();
    }
    cores.truncate(needs.shards.max(1));
    cores
}

/// A mask of cores as the kernel takes it: hexadecimal, in groups of 32 cores.
fn core_mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |last| last / 32 + 1);
    let group = |number: usize| {
        let own = cores.iter().filter(|&core| core / 32 == number);
        own.fold(0_u32, |mask, core| mask | 1 << (core % 32))
    };
    let masks = (0..groups).rev().map(|number| match number + 1 == groups {
        true => format!("{:x}", group(number)),
        false => format!("{:08x}", group(number)),
    });
    masks.collect::<Vec<_>>().join(",")
}

fn receive_queues(host: &Host, needs: Needs) -> Finding {
    let subject = "receive queues";
    let interfaces = host.interfaces();
    let short: Vec<_> = interfaces
        .iter()
        .filter(|interface| {
            interface.receive_queues < needs.shards && !interface.receive_packet_steering
        })
        .collect();
    let list = |interfaces: &[&super::host::Interface]| {
        let shown = interfaces.iter().map(|interface| {
            let queues = interface.receive_queues;
            let plural = if queues == 1 { "" } else { "s" };
            format!("{} has {queues} queue{plural}", interface.name)
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    if short.is_empty() {
        let all: Vec<_> = interfaces.iter().collect();
        let found = if all.is_empty() {
            "no interface with hardware".to_owned()
        } else {
            list(&all)
        };
        return fine(subject, found);
    }
    let shards = needs.shards;
    let mask = core_mask(&shard_cores(host, needs));
    let remedy: Vec<_> = short
        .iter()
        .map(|interface| {
            let name = &interface.name;
            format!(
                "ethtool -L {name} combined {shards}\n\
                 # or, where the hardware has no more queues, in software:\n\
                 for q in /sys/class/net/{name}/queues/rx-*/rps_cpus; do echo {mask} > $q; done"
            )
        })
        .collect();
    bad(
        Severity::Slows,
        subject,
        format!("{}, for {shards} shards", list(&short)),
        "with fewer queues than shards, some shards wait for the interrupts of other cores",
        remedy.join("\n"),
    )
}

fn interrupts(host: &Host, needs: Needs) -> Option<Finding> {
    let subject = "interrupts";
    let interfaces = host.interfaces();
    // One for each queue and some for other ends.
    let many = interfaces.iter().filter(|one| one.interrupts.len() > 1);
    let many: Vec<_> = many.collect();
    let crowded = many.iter().filter(|interface| {
        let mut cores = interface.interrupts.iter().map(|(_, cores)| cores);
        let first = cores.next();
        interface.receive_queues > 1 && cores.all(|cores| Some(cores) == first)
    });
    let crowded: Vec<_> = crowded.filter(|_| needs.shards > 1).collect();
    if crowded.is_empty() {
        let count = |interface: &&super::host::Interface| {
            format!("{} has {}", interface.name, interface.interrupts.len())
        };
        let found: Vec<_> = many.iter().map(count).collect();
        return (!found.is_empty()).then(|| fine(subject, found.join(", ")));
    }
    let found = crowded.iter().map(|interface| {
        let (_, cores) = &interface.interrupts[0];
        format!("all of {} go to core {cores}", interface.name)
    });
    let cores = shard_cores(host, needs);
    let spread = |interface: &&&super::host::Interface| {
        let numbers = interface.interrupts.iter().zip(cores.iter().cycle());
        let lines = numbers.map(|(&(number, _), core)| {
            format!("echo {core} > /proc/irq/{number}/smp_affinity_list")
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let remedy: Vec<_> = crowded.iter().map(spread).collect();
    Some(bad(
        Severity::Slows,
        subject,
        found.collect::<Vec<_>>().join(", "),
        "the shard of that core has to share it with the packets of all others",
        format!(
            "systemctl stop irqbalance    # where it runs, it would undo this\n{}",
            remedy.join("\n")
        ),
    ))
}
