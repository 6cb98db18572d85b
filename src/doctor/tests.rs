//! Pretended hosts, good and bad.

use super::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max open files            65536                65536                files     \n\
Max locked memory         unlimited            unlimited            bytes     \n";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A host on which nothing is to be mended, for up to eight shards.
fn good() -> TempDir {
    let root = TempDir::new().unwrap();
    let at = root.path();
    write(at, "proc/sys/kernel/osrelease", "6.1.0-49-amd64\n");
    write(at, "proc/sys/kernel/io_uring_disabled", "0\n");
    write(at, "proc/self/limits", LIMITS);
    write(at, "proc/sys/net/core/rmem_max", "8388608\n");
    write(at, "proc/sys/net/core/wmem_max", "8388608\n");
    write(at, "proc/sys/net/core/busy_poll", "0\n");
    write(at, "proc/sys/net/core/busy_read", "0\n");
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    write(at, clock, "tsc\n");
    write(at, "sys/devices/system/node/node0/cpulist", "0-7\n");
    for cpu in 0..8 {
        let governor = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        write(at, &governor, "performance\n");
        write(
            at,
            &format!("sys/class/net/eth0/queues/rx-{cpu}/rps_cpus"),
            "00\n",
        );
    }
    write(at, "sys/class/net/eth0/device/numa_node", "-1\n");
    write(at, "sys/class/net/lo/queues/rx-0/rps_cpus", "0\n");
    root
}

fn needs(shards: usize) -> Needs {
    Needs {
        shards,
        driver: DriverChoice::Auto,
        ports: [5683, 5684],
    }
}

fn needs_driver(driver: DriverChoice) -> Needs {
    Needs { driver, ..needs(1) }
}

fn findings(root: &TempDir, shards: usize) -> Vec<Finding> {
    examine(&Host::pretended(root.path(), Ok(()), Ok(())), needs(shards))
}

fn one<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    let mut of_it = findings.iter().filter(|finding| finding.subject == subject);
    let finding = of_it
        .next()
        .unwrap_or_else(|| panic!("{subject} was not looked at"));
    assert!(of_it.next().is_none());
    finding
}

#[test]
fn nothing_is_said_against_a_good_host() {
    for finding in findings(&good(), 8) {
        assert_eq!(finding.severity, Severity::Fine, "{finding:?}");
        assert!(finding.why.is_empty() && finding.remedy.is_empty());
    }
}

/// One change to the good host, and what must be said of it.
#[test]
fn each_defect_is_named_with_its_remedy() {
    let limits = |files: &str, locked: &str| {
        LIMITS
            .replace("65536   ", files)
            .replace("unlimited   ", locked)
    };
    let cases: &[(&str, &str, &str, Severity, &str)] = &[
        (
            "proc/sys/kernel/osrelease",
            "5.4.0-1",
            "kernel",
            Severity::Stops,
            "newer kernel",
        ),
        (
            "proc/sys/kernel/osrelease",
            "junk",
            "kernel",
            Severity::Stops,
            "newer kernel",
        ),
        (
            "proc/self/limits",
            &limits("65536   ", "65536       "),
            "locked memory",
            Severity::Stops,
            "ulimit -l 4096",
        ),
        (
            "proc/self/limits",
            &limits("65536   ", "1048576     "),
            "locked memory",
            Severity::Slows,
            "LimitMEMLOCK",
        ),
        (
            "proc/self/limits",
            &limits("100     ", "unlimited   "),
            "open files",
            Severity::Stops,
            "ulimit -n",
        ),
        (
            "proc/self/limits",
            &limits("1024    ", "unlimited   "),
            "open files",
            Severity::Slows,
            "LimitNOFILE",
        ),
        (
            "proc/sys/net/core/rmem_max",
            "212992",
            "receive buffer",
            Severity::Slows,
            "sysctl -w net.core.rmem_max=8388608",
        ),
        (
            "proc/sys/net/core/wmem_max",
            "212992",
            "send buffer",
            Severity::Slows,
            "sysctl -w net.core.wmem_max=8388608",
        ),
        (
            "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
            "powersave",
            "governor",
            Severity::Slows,
            "performance",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock source",
            Severity::Slows,
            "tsc",
        ),
        (
            "sys/devices/system/node/node1/cpulist",
            "8-15",
            "memory nodes",
            Severity::Slows,
            "numactl",
        ),
    ];
    for &(file, text, subject, severity, remedy) in cases {
        let root = good();
        write(root.path(), file, text);
        let findings = findings(&root, 8);
        let finding = one(&findings, subject);
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
        assert!(!finding.why.is_empty());
        let others = findings.iter().filter(|other| other.subject != subject);
        assert!(
            others
                .into_iter()
                .all(|other| other.severity == Severity::Fine)
        );
        // What matters most comes first.
        assert_eq!(findings[0].subject, subject);
    }
}

#[test]
fn a_forbidden_ring_is_told_from_a_filtered_one() {
    let root = good();
    let refused = |root: &TempDir| {
        let host = Host::pretended(root.path(), Err("Operation not permitted".into()), Ok(()));
        examine(&host, needs(1)).remove(0)
    };
    assert!(refused(&root).remedy.contains("seccomp"));
    write(root.path(), "proc/sys/kernel/io_uring_disabled", "1");
    assert!(refused(&root).remedy.contains("io_uring_group"));
    write(root.path(), "proc/sys/kernel/io_uring_disabled", "2");
    let finding = refused(&root);
    assert!(finding.remedy.contains("kernel.io_uring_disabled=0"));
    assert_eq!(
        (finding.subject, finding.severity),
        ("io_uring", Severity::Stops)
    );
}

#[test]
fn a_kernel_whose_rings_take_no_datagrams_is_told() {
    let root = good();
    let host = Host::pretended(root.path(), Ok(()), Err("Invalid argument".into()));
    let findings = examine(&host, needs(1));
    let finding = one(&findings, "datagrams");
    assert_eq!(finding.severity, Severity::Slows);
    assert!(finding.found.contains("Invalid argument") && finding.remedy.contains("Linux 6.1"));
}

#[test]
fn interfaces_with_fewer_queues_than_shards_are_told_unless_software_steers() {
    let root = good();
    let all = findings(&root, 16);
    let finding = one(&all, "receive queues");
    assert_eq!(finding.severity, Severity::Slows);
    assert!(finding.remedy.contains("ethtool -L eth0 combined 16"));
    assert!(finding.remedy.contains("echo ffff >"));
    assert!(
        !finding.found.contains("lo "),
        "loopback has no queues to speak of"
    );
    write(
        root.path(),
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "ffff",
    );
    assert_eq!(
        one(&findings(&root, 16), "receive queues").severity,
        Severity::Fine
    );
}

#[test]
fn a_tracked_flow_is_told_and_a_full_table_more_so() {
    let root = good();
    let conntrack = |count: &str| {
        write(
            root.path(),
            "proc/sys/net/netfilter/nf_conntrack_max",
            "1000",
        );
        write(
            root.path(),
            "proc/sys/net/netfilter/nf_conntrack_count",
            count,
        );
        one(&findings(&root, 8), "connection tracking").clone()
    };
    assert_eq!(conntrack("0").severity, Severity::Fine);
    let unseen = conntrack("10");
    assert!(unseen.severity == Severity::Hint && unseen.found.contains("cannot be seen"));
    assert!(conntrack("800").why.contains("nearly full"));
    assert!(conntrack("800").remedy.contains("{ 5683, 5684 } notrack"));
    // Where the kernel lists them only ours count, so that the remedy ends the finding.
    let list = |flow: &str| write(root.path(), "proc/net/nf_conntrack", flow);
    list(
        "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=10.0.0.1 sport=5684 dport=22\n",
    );
    assert_eq!(conntrack("10").severity, Severity::Fine);
    list(
        "ipv4     2 udp      17 29 src=10.0.0.2 dst=10.0.0.1 sport=40000 dport=5684 [UNREPLIED]\n",
    );
    let ours = conntrack("10");
    assert!(ours.severity == Severity::Slows && ours.why.contains("lookup"));
}

#[test]
fn commands_are_for_the_cores_that_shards_run_on() {
    let root = good();
    let allow = |cores: &str| {
        let status = format!("Name:\ttidegate\nCpus_allowed_list:\t{cores}\n");
        write(root.path(), "proc/self/status", &status);
        one(&findings(&root, 40), "receive queues").remedy.clone()
    };
    // Groups of 32, or the kernel refuses them.
    assert!(allow("0-63").contains("echo ff,ffffffff >"));
    assert!(allow("4,36-37").contains("echo 30,00000010 >"));
}

#[test]
fn a_server_bound_to_one_memory_node_is_told_so() {
    let root = good();
    write(
        root.path(),
        "sys/devices/system/node/node1/cpulist",
        "8-15\n",
    );
    let nodes = |allowed: &str| {
        let status = format!("Cpus_allowed_list:\t{allowed}\n");
        write(root.path(), "proc/self/status", &status);
        one(&findings(&root, 4), "memory nodes").severity
    };
    assert_eq!(nodes("0-15"), Severity::Slows);
    assert_eq!(nodes("8-11"), Severity::Fine);
}

#[test]
fn interfaces_that_are_down_do_not_count() {
    let root = good();
    write(
        root.path(),
        "sys/class/net/eth1/queues/rx-0/rps_cpus",
        "0\n",
    );
    write(root.path(), "sys/class/net/eth1/device/numa_node", "-1\n");
    let queues = |state: &str| {
        write(root.path(), "sys/class/net/eth1/operstate", state);
        one(&findings(&root, 8), "receive queues").severity
    };
    assert_eq!(queues("up\n"), Severity::Slows);
    assert_eq!(queues("down\n"), Severity::Fine);
}

#[test]
fn queues_whose_interrupts_all_go_to_one_core_are_told() {
    let root = good();
    let interrupt = |number: u32, core: &str| {
        let file = format!("sys/class/net/eth0/device/msi_irqs/{number}");
        write(root.path(), &file, "msix\n");
        let file = format!("proc/irq/{number}/effective_affinity_list");
        write(root.path(), &file, core);
    };
    interrupt(40, "3\n");
    interrupt(41, "3\n");
    let all = findings(&root, 8);
    let finding = one(&all, "interrupts");
    assert_eq!(finding.severity, Severity::Slows);
    assert!(finding.found.contains("eth0 go to core 3"), "{finding:?}");
    let spread = ["echo 0 > /proc/irq/40/", "echo 1 > /proc/irq/41/"];
    assert!(spread.iter().all(|line| finding.remedy.contains(line)));
    // A single shard has nothing to spread them for.
    let all = findings(&root, 1);
    assert_eq!(one(&all, "interrupts").severity, Severity::Fine);
    interrupt(41, "4\n");
    let all = findings(&root, 8);
    assert_eq!(one(&all, "interrupts").severity, Severity::Fine);
}

#[test]
fn the_driver_is_the_one_that_the_settings_and_the_kernel_come_to() {
    let root = good();
    let refused = || Err("Invalid argument".to_owned());
    for (driver, ring, severity, said) in [
        (
            DriverChoice::Auto,
            Ok(()),
            Severity::Fine,
            "by the ring: TIDEGATE_DRIVER=auto",
        ),
        (
            DriverChoice::Auto,
            refused(),
            Severity::Slows,
            "by recvmmsg and sendmmsg",
        ),
        (
            DriverChoice::Uring,
            Ok(()),
            Severity::Fine,
            "TIDEGATE_DRIVER=uring",
        ),
        (
            DriverChoice::Uring,
            refused(),
            Severity::Stops,
            "Invalid argument",
        ),
        (
            DriverChoice::Mmsg,
            Ok(()),
            Severity::Fine,
            "TIDEGATE_DRIVER=mmsg",
        ),
        (
            DriverChoice::Mmsg,
            refused(),
            Severity::Fine,
            "TIDEGATE_DRIVER=mmsg",
        ),
    ] {
        let host = Host::pretended(root.path(), Ok(()), ring);
        let all = examine(&host, needs_driver(driver));
        let finding = one(&all, "datagrams");
        assert_eq!(finding.severity, severity, "{driver:?}: {finding:?}");
        assert!(finding.found.contains(said), "{driver:?}: {finding:?}");
    }
}

#[test]
fn busy_polling_is_a_hint_where_a_shard_could_use_it() {
    let root = good();
    let of = |driver| {
        let host = Host::pretended(root.path(), Ok(()), Ok(()));
        one(&examine(&host, needs_driver(driver)), "busy polling").clone()
    };
    let hint = of(DriverChoice::Mmsg);
    assert_eq!(hint.severity, Severity::Hint);
    assert!(hint.why.contains("idle") && hint.remedy.contains("net.core.busy_poll=50"));
    let ring = of(DriverChoice::Auto);
    assert_eq!(ring.severity, Severity::Fine);
    assert!(ring.found.contains("use neither"), "{ring:?}");
    write(root.path(), "proc/sys/net/core/busy_poll", "50");
    assert_eq!(of(DriverChoice::Mmsg).severity, Severity::Fine);
}
