//! What the device API did, feature by feature, for the metrics.
//!
//! Counts of what is rare beside uploads, so one set for all threads will do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Tallied {
    /// A message beyond a rate limit.
    RateLimited,
    /// A device has registered itself, or fetched its credentials.
    Provisioned,
    /// A wrong key or secret of provisioning, or it is switched off.
    ProvisionNotFound,
    /// The device could not be made, had its credentials already, or its chain was refused.
    ProvisionFailed,
    /// Provisioning that was not looked at, as too many were wrong before.
    ProvisionLimited,
    /// A device has offered itself to be claimed.
    ClaimOffered,
    /// A part of firmware was sent.
    FirmwareParts,
    /// A part of software was sent.
    SoftwareParts,
    /// Bytes of these parts.
    FirmwareBytes,
    /// The same of software.
    SoftwareBytes,
    /// A call to a device that is not kept.
    Calls,
    /// A call to a device that is kept until it is done.
    PersistentCalls,
    /// A call of a device.
    ClientCalls,
}

/// How many of them there are.
const COUNTERS: usize = Tallied::ClientCalls as usize + 1;

/// Name, help, and members with their labels.
type Family = (
    &'static str,
    &'static str,
    &'static [(Tallied, &'static str)],
);

const FAMILIES: &[Family] = &[
    (
        "tidegate_rate_limited_total",
        "Messages of devices beyond a rate limit of their profile or of the server.",
        &[(Tallied::RateLimited, "")],
    ),
    (
        "tidegate_provisioning_total",
        "Provisioning requests and certificate chains of devices that register themselves, by result; limited: not looked at, after too many wrong ones.",
        &[
            (Tallied::Provisioned, "result=\"success\""),
            (Tallied::ProvisionNotFound, "result=\"not_found\""),
            (Tallied::ProvisionFailed, "result=\"failure\""),
            (Tallied::ProvisionLimited, "result=\"limited\""),
        ],
    ),
    (
        "tidegate_claim_offers_total",
        "Offers of devices to be claimed.",
        &[(Tallied::ClaimOffered, "")],
    ),
    (
        "tidegate_package_parts_total",
        "Blocks and chunks of packages sent to devices.",
        &[
            (Tallied::FirmwareParts, "type=\"firmware\""),
            (Tallied::SoftwareParts, "type=\"software\""),
        ],
    ),
    (
        "tidegate_package_bytes_total",
        "Bytes of packages sent to devices.",
        &[
            (Tallied::FirmwareBytes, "type=\"firmware\""),
            (Tallied::SoftwareBytes, "type=\"software\""),
        ],
    ),
    (
        "tidegate_calls_total",
        "Remote procedure calls: to devices, those that are kept until done apart, and of devices.",
        &[
            (Tallied::Calls, "kind=\"to_device\""),
            (Tallied::PersistentCalls, "kind=\"to_device_persistent\""),
            (Tallied::ClientCalls, "kind=\"of_device\""),
        ],
    ),
];

/// The counts since the start.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; COUNTERS]);

impl Tally {
    /// Counts one.
    pub(super) fn count(&self, what: Tallied) {
        self.add(what, 1);
    }

    /// Counts so many.
    pub(super) fn add(&self, what: Tallied, number: u64) {
        self.0[what as usize].fetch_add(number, Relaxed);
    }

    /// Hands each family to `visit`: its name, what it counts, and its counts by their labels.
    pub fn each(&self, mut visit: impl FnMut(&str, &str, &[(&str, u64)])) {
        for &(name, help, members) in FAMILIES {
            let value = |what: Tallied| self.0[what as usize].load(Relaxed);
            let counts: Vec<_> = members
                .iter()
                .map(|&(what, labels)| (labels, value(what)))
                .collect();
            visit(name, help, &counts);
        }
    }
}
