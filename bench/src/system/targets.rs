//! The rows of the table that need no other server (design section 8).

use crate::table::Target;

const fn target(what: &'static str, at_most: f64, aim: Option<f64>, unit: &'static str) -> Target {
    Target {
        what,
        at_most,
        aim,
        unit,
    }
}

pub(super) const REQUEST: Target = target(
    "CPU of the whole server per CoAPS request (CON POST, 40-byte JSON, token device, stored durably)",
    2.0,
    Some(1.5),
    " x echo",
);
pub(super) const SHARD: Target = target("the shard's own part of it", 1.4, None, " x echo");
pub(super) const ALLOCATIONS: Target = target(
    "heap allocations per request on an established session, shard side",
    0.0,
    None,
    "",
);
pub(super) const ONE_WAY: Target = target(
    "server CPU per full handshake, one-way",
    1.15,
    None,
    " x its operations and echoes",
);
pub(super) const MUTUAL: Target = target(
    "server CPU per full handshake, mutual",
    1.15,
    None,
    " x its operations and echoes",
);
pub(super) const RESUMED: Target = target("server CPU per resumed handshake", 0.1, None, " x full");
pub(super) const MEMORY: Target = target(
    "memory per idle established session, 200 000 of them",
    512.0,
    Some(320.0),
    " bytes",
);
pub(super) const HALF_LOAD: Target = target(
    "latency at half of the saturation rate, p99.9",
    20.0,
    None,
    " x median",
);
pub(super) const STORM_LOST: Target = target(
    "established devices under a handshake storm of 10 x capacity: requests lost",
    0.0,
    None,
    "",
);
pub(super) const STORM_P99: Target = target(
    "established devices under that storm: p99",
    3.0,
    None,
    " x quiet",
);
pub(super) const MANY_SESSIONS: Target = target(
    "CPU per request with 1 000 000 sessions",
    1.3,
    None,
    " x that with 1000",
);
pub(super) const OVERLOAD_RATE: Target = target(
    "saturation rate, against the rate of successful answers while twice of it is offered",
    1.11,
    None,
    " x",
);
pub(super) const OVERLOAD_MEMORY: Target = target(
    "peak of resident memory after another such overload",
    1.1,
    None,
    " x after the first",
);
pub(super) const OVERLOAD_RECOVERY: Target = target(
    "p99 at half of the saturation rate right after that overload",
    3.0,
    None,
    " x before",
);
