//! Rate limits (TB section 6): so many messages, and so many keys and values, in a time; of each
//! device by its profile, and of all together by the server's settings.
//!
//! A message with readings or attributes counts as a telemetry message and by its values, any other
//! as a message. Each window is a token bucket that refills evenly; a message passes when it fits
//! all that apply, and takes from none otherwise.
//!
//! Bounds: the table holds devices that sent lately, each of which was authenticated; full buckets
//! say nothing and are dropped when room is needed, and beyond [`DEVICES_PER_TABLE_MAX`] any are.

use super::code;
use crate::auth::request::Response;
use crate::registry::DeviceId;
use crate::registry::profile::{Profile, RateLimit, Window};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tables under a lock of their own each.
const TABLES: usize = 64;
/// Devices in one of them.
const DEVICES_PER_TABLE_MAX: usize = 16 << 10;
/// A table is swept at most this often, microseconds.
const SWEEP_INTERVAL_US: u64 = 1_000_000;
/// Longest Max-Age of a refusal, seconds.
const MAX_AGE_MAX_S: u64 = 86_400;

/// The answer to a message beyond a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// 4.29 (RFC 8516), with Max-Age: when it may be sent again.
    #[default]
    TooManyRequests,
    /// 5.00, as ThingsBoard answers.
    InternalServerError,
}

/// Limits of all devices together, as a tenant's in ThingsBoard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// Messages without readings.
    pub messages: RateLimit,
    /// Messages with readings or attributes.
    pub telemetry_messages: RateLimit,
    /// Keys and values in them.
    pub telemetry_data_points: RateLimit,
}

/// What a message counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// One without readings.
    Message,
    /// One with so many values.
    Telemetry(u64),
}

/// It has to wait for so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(u64);

/// The limits and what is left of them.
pub(super) struct Limiter {
    refusal: Refusal,
    server: ServerLimits,
    server_state: Mutex<Buckets>,
    tables: Box<[Mutex<Table>]>,
}

#[derive(Default)]
struct Table {
    devices: HashMap<DeviceId, Buckets>,
    swept_us: u64,
}

/// A bucket for each window of three limits, in their order.
#[derive(Default)]
struct Buckets(Box<[Bucket]>);

#[derive(Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    at_us: u64,
}

impl Limiter {
    pub(super) fn new(server: ServerLimits, refusal: Refusal) -> Self {
        Self {
            refusal,
            server,
            server_state: Mutex::default(),
            tables: (0..TABLES).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether the server's own limits let everything pass.
    pub(super) fn is_unlimited(&self) -> bool {
        self.server
            .limits()
            .iter()
            .all(|limit| limit.is_unlimited())
    }

    /// Lets a message of a device pass, or says how long it has to wait.
    pub(super) fn admit(
        &self,
        device: DeviceId,
        profile: Option<&Profile>,
        load: Load,
        now_ms: u64,
    ) -> Result<(), Wait> {
        let now_us = now_ms.saturating_mul(1000);
        let own = profile.map(Profile::limits);
        let own = own.filter(|limits| limits.iter().any(|limit| !limit.is_unlimited()));
        let mut table = own.map(|_| self.table(device));
        let mut device_cost = None;
        if let (Some(limits), Some(table)) = (own, &mut table) {
            let cost = costs(limits, load);
            table.buckets(device, limits, now_us).check(&cost, now_us)?;
            device_cost = Some(cost);
        }
        if !self.is_unlimited() {
            let limits = self.server.limits();
            let cost = costs(limits, load);
            let mut buckets = lock(&self.server_state);
            buckets.fit(limits, now_us);
            buckets.check(&cost, now_us)?;
            buckets.take(&cost);
        }
        if let (Some(cost), Some(table)) = (device_cost, &mut table)
            && let Some(buckets) = table.devices.get_mut(&device)
        {
            buckets.take(&cost);
        }
        Ok(())
    }

    /// The answer to a message that has to wait.
    pub(super) fn refuse(&self, wait: Wait) -> Response {
        match self.refusal {
            Refusal::TooManyRequests => {
                let seconds = wait.0.div_ceil(1_000_000).clamp(1, MAX_AGE_MAX_S);
                Response {
                    max_age: u32::try_from(seconds).ok(),
                    ..Response::empty(code::TOO_MANY_REQUESTS)
                }
            }
            Refusal::InternalServerError => Response::empty(code::INTERNAL_SERVER_ERROR),
        }
    }

    fn table(&self, device: DeviceId) -> MutexGuard<'_, Table> {
        // Numbers are given in sequence, so they spread evenly.
        let index = usize::try_from(device.0 % TABLES as u64).unwrap_or(0);
        lock(&self.tables[index])
    }
}

impl ServerLimits {
    fn limits(&self) -> [&RateLimit; 3] {
        [
            &self.messages,
            &self.telemetry_messages,
            &self.telemetry_data_points,
        ]
    }
}

/// Each window with what a message of this load takes from it; nothing from those of other loads.
fn costs(limits: [&RateLimit; 3], load: Load) -> Vec<(Window, f64)> {
    #[allow(
        clippy::cast_precision_loss,
        reason = "a message has far fewer than 2^52 values"
    )]
    let costs = match load {
        Load::Message => [1.0, 0.0, 0.0],
        Load::Telemetry(points) => [0.0, 1.0, points as f64],
    };
    let all = limits.into_iter().zip(costs);
    all.flat_map(|(limit, cost)| limit.windows().iter().map(move |window| (*window, cost)))
        .collect()
}

impl Table {
    /// The buckets of a device; full ones when there are none.
    fn buckets(&mut self, device: DeviceId, limits: [&RateLimit; 3], now_us: u64) -> &mut Buckets {
        if self.devices.len() >= DEVICES_PER_TABLE_MAX && !self.devices.contains_key(&device) {
            self.make_room(limits, now_us);
        }
        let buckets = self.devices.entry(device).or_default();
        buckets.fit(limits, now_us);
        buckets
    }

    /// Drops what says nothing: devices that have not sent for the longest of these windows.
    fn make_room(&mut self, limits: [&RateLimit; 3], now_us: u64) {
        if now_us.saturating_sub(self.swept_us) >= SWEEP_INTERVAL_US || now_us < self.swept_us {
            self.swept_us = now_us;
            let windows = limits.iter().flat_map(|limit| limit.windows());
            let longest = windows.map(|window| window.period_us).max().unwrap_or(0);
            self.devices.retain(|_, buckets| {
                let last = buckets.0.iter().map(|bucket| bucket.at_us).max();
                last.is_some_and(|last| now_us.saturating_sub(last) < longest)
            });
        }
        if self.devices.len() >= DEVICES_PER_TABLE_MAX
            && let Some(any) = self.devices.keys().next().copied()
        {
            self.devices.remove(&any);
        }
    }
}

impl Buckets {
    /// Full buckets, unless there are those of as many windows already: a changed profile begins
    /// anew.
    fn fit(&mut self, limits: [&RateLimit; 3], now_us: u64) {
        let windows = || limits.into_iter().flat_map(RateLimit::windows);
        if self.0.len() != windows().count() {
            self.0 = windows()
                .map(|window| Bucket::full(window, now_us))
                .collect();
        }
    }

    /// Refills the buckets and looks whether each holds its cost.
    fn check(&mut self, costs: &[(Window, f64)], now_us: u64) -> Result<(), Wait> {
        let mut wait = 0;
        for (bucket, (window, cost)) in self.0.iter_mut().zip(costs) {
            wait = wait.max(bucket.refill(window, *cost, now_us));
        }
        if wait == 0 { Ok(()) } else { Err(Wait(wait)) }
    }

    fn take(&mut self, costs: &[(Window, f64)]) {
        for (bucket, (_, cost)) in self.0.iter_mut().zip(costs) {
            bucket.take(*cost);
        }
    }
}

impl Bucket {
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^30")]
    pub(super) fn full(window: &Window, now_us: u64) -> Self {
        Self {
            tokens: window.count as f64,
            at_us: now_us,
        }
    }

    /// Whether `cost` is there; otherwise how long that takes.
    pub(super) fn check(&mut self, window: &Window, cost: f64, now_us: u64) -> Result<(), Wait> {
        match self.refill(window, cost, now_us) {
            0 => Ok(()),
            wait => Err(Wait(wait)),
        }
    }

    /// Takes `cost`, whether it is there or not.
    pub(super) fn take(&mut self, cost: f64) {
        self.tokens -= cost;
    }

    /// Whether it says nothing any more.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^30")]
    pub(super) fn is_full(&mut self, window: &Window, now_us: u64) -> bool {
        self.refill(window, window.count as f64, now_us) == 0
    }

    /// Adds what has come since; returns how long it takes until `cost` is there, 0 when it is. A
    /// cost that the window never holds waits for a whole one. A clock that was set back loses
    /// nothing but the time between.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times between messages and waits are below 2^52 microseconds, and not negative"
    )]
    fn refill(&mut self, window: &Window, cost: f64, now_us: u64) -> u64 {
        // A sum of parts of a token may be short of it by a rounding.
        const ROUNDING: f64 = 1e-6;
        let (count, period) = (window.count as f64, window.period_us as f64);
        let elapsed = now_us.saturating_sub(self.at_us) as f64;
        self.tokens = (self.tokens + elapsed * count / period).min(count);
        self.at_us = now_us;
        let missing = cost - self.tokens;
        if missing <= ROUNDING {
            return 0;
        }
        let wait = (missing * period / count).min(period) - ROUNDING;
        (wait.ceil() as u64).max(1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::profile::ProfileSettings;

    const DEVICE: DeviceId = DeviceId(7);

    fn profile(messages: &str, telemetry: &str, points: &str) -> Profile {
        let mut settings = ProfileSettings::default();
        settings.rate_limits.messages = messages.into();
        settings.rate_limits.telemetry_messages = telemetry.into();
        settings.rate_limits.telemetry_data_points = points.into();
        Profile::compile("p", settings).unwrap()
    }

    fn limiter() -> Limiter {
        Limiter::new(ServerLimits::default(), Refusal::default())
    }

    #[test]
    fn a_bucket_refills_evenly() {
        let (limiter, profile) = (limiter(), profile("4:2", "", ""));
        let admit = |now| {
            limiter
                .admit(DEVICE, Some(&profile), Load::Message, now)
                .map_err(|wait| wait.0)
        };
        for _ in 0..4 {
            assert_eq!(admit(1000), Ok(()));
        }
        assert_eq!(admit(1000), Err(500_000));
        assert_eq!(admit(1499), Err(1000));
        assert_eq!(admit(1500), Ok(()));
        assert_eq!(admit(1500), Err(500_000));
        // Many looks in between cost nothing.
        for now in 1501..2000 {
            assert!(admit(now).is_err());
        }
        assert_eq!(admit(2000), Ok(()));
        // Never more than the count.
        for _ in 0..4 {
            assert_eq!(admit(900_000), Ok(()));
        }
        assert!(admit(900_000).is_err());
        // The clock is set back.
        assert_eq!(admit(1000), Err(500_000));
        assert_eq!(admit(1500), Ok(()));
        // Another device has buckets of its own.
        assert!(
            limiter
                .admit(DeviceId(8), Some(&profile), Load::Message, 1500)
                .is_ok()
        );
    }

    #[test]
    fn all_windows_hold_and_a_refusal_takes_from_none() {
        let (limiter, profile) = (limiter(), profile("", "2:1,3:60", "10:60"));
        let admit = |points, now| {
            limiter
                .admit(DEVICE, Some(&profile), Load::Telemetry(points), now)
                .is_ok()
        };
        assert!(admit(4, 0) && admit(4, 0));
        assert!(!admit(1, 0), "two in the second");
        assert!(!admit(3, 1000), "eight of ten values are taken");
        assert!(admit(2, 1000));
        assert!(!admit(0, 3000), "three in the minute");
        let message = limiter.admit(DEVICE, Some(&profile), Load::Message, 3000);
        assert!(message.is_ok(), "without readings: not limited here");
        // More values than a window ever holds.
        assert!(!admit(11, 900_000));
        assert!(admit(10, 900_000));
    }

    #[test]
    fn the_server_s_limits_are_all_devices() {
        let server = ServerLimits {
            messages: RateLimit::parse("3:60").unwrap(),
            ..ServerLimits::default()
        };
        let limiter = Limiter::new(server, Refusal::default());
        let profile = profile("2:60", "", "");
        let admit = |device| {
            limiter
                .admit(DeviceId(device), Some(&profile), Load::Message, 0)
                .is_ok()
        };
        assert!(admit(1) && admit(1) && !admit(1));
        assert!(
            admit(2),
            "the device's refusal took nothing from the server"
        );
        assert!(!admit(2) && !admit(3));
        // And the server's refusal nothing from the device.
        let mut later = limiter.table(DeviceId(3));
        let left = later.devices.get_mut(&DeviceId(3)).unwrap();
        assert!((left.0[0].tokens - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_is_bounded() {
        let (limiter, profile) = (limiter(), profile("1:60", "", ""));
        let step = TABLES as u64;
        for number in 0..DEVICES_PER_TABLE_MAX as u64 + 100 {
            let device = DeviceId(number * step);
            assert!(
                limiter
                    .admit(device, Some(&profile), Load::Message, 1000)
                    .is_ok()
            );
        }
        assert_eq!(
            limiter.table(DeviceId(0)).devices.len(),
            DEVICES_PER_TABLE_MAX
        );
        // A minute later their buckets are full again and say nothing.
        let device = DeviceId(u64::MAX - u64::MAX % step);
        assert!(
            limiter
                .admit(device, Some(&profile), Load::Message, 61_001)
                .is_ok()
        );
        assert_eq!(limiter.table(DeviceId(0)).devices.len(), 1);
    }

    #[test]
    fn refusals_say_when_to_come_back() {
        let refused =
            |refusal| Limiter::new(ServerLimits::default(), refusal).refuse(Wait(1_500_000));
        let answer = refused(Refusal::TooManyRequests);
        assert_eq!((answer.code, answer.max_age), (0x9d, Some(2)));
        let answer = refused(Refusal::InternalServerError);
        assert_eq!((answer.code, answer.max_age), (0xa0, None));
    }
}
