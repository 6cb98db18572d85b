//! Activity (TB section 8.5).

use super::*;

const ATTRIBUTES: &str = "/api/v1/ACCESS01/attributes";
const TELEMETRY: &str = "/api/v1/ACCESS01/telemetry";

fn long(ms: u64) -> Option<Value> {
    Some(Value::Long(i64::try_from(ms).unwrap()))
}

impl Bench {
    fn now(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// A reporting period later, with its report durable.
    fn period(&self) {
        self.pass_ms(3000);
        self.commit();
    }
}

#[test]
fn an_uplink_is_reported_with_the_next_period() {
    let bench = Bench::new();
    bench.period();
    assert_eq!(bench.post(TELEMETRY, "{t:1}"), "2.01");
    let uplink_ms = bench.now();
    assert_eq!(bench.server_attribute("active"), None);
    let seen = bench.hub.activity(bench.device).unwrap();
    assert_eq!(
        (seen.active, seen.last_activity_time),
        (true, Some(uplink_ms))
    );
    bench.period();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(true)));
    assert_eq!(bench.server_attribute("lastActivityTime"), long(uplink_ms));
    // Plain posts are no connections.
    assert_eq!(bench.server_attribute("lastConnectTime"), None);
}

#[test]
fn refused_requests_are_no_activity() {
    let bench = Bench::new();
    assert_eq!(bench.post("/api/v1/WRONG/telemetry", "{t:1}"), "4.01");
    bench.period();
    assert_eq!(bench.server_attribute("lastActivityTime"), None);
    assert!(!bench.hub.activity(bench.device).unwrap().active);
}

#[test]
fn a_silent_device_becomes_inactive_though_it_observes() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    let uplink_ms = bench.now();
    for _ in 0..250 {
        bench.period();
    }
    // The relation lives and is no activity by itself.
    assert_eq!(bench.server_attribute("lastActivityTime"), long(uplink_ms));
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(false)));
    assert!(bench.server_attribute("inactivityAlarmTime").is_some());
    assert!(!bench.hub.activity(bench.device).unwrap().active);
    // An acknowledgement is.
    bench.set_number("x", 1);
    bench.commit();
    assert_eq!(bench.received().len(), 1);
    let acknowledged_ms = bench.now();
    bench.period();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(true)));
    assert_eq!(
        bench.server_attribute("lastActivityTime"),
        long(acknowledged_ms)
    );
}

#[test]
fn a_device_has_its_own_time_out_if_it_is_set() {
    let bench = Bench::new();
    let mut own = Delta::default();
    own.insert("inactivityTimeout".into(), Some(Value::Long(3_600_000)));
    let scope = AttributeScope::Server;
    bench
        .hub
        .set(bench.device, scope, own, Box::new(|_| ()))
        .unwrap();
    bench.commit();
    bench.post(TELEMETRY, "{t:1}");
    bench.period();
    bench.pass_ms(1_000_000);
    bench.commit();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(true)));
    // It holds after a restart as well.
    let bench = bench.restart(HubSettings::default());
    bench.period();
    bench.pass_ms(1_000_000);
    bench.commit();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(true)));
    bench.pass_ms(2_000_000);
    bench.commit();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(false)));
}

#[test]
fn a_device_that_does_not_come_back_after_a_restart_becomes_inactive() {
    let bench = Bench::new();
    bench.post(TELEMETRY, "{t:1}");
    bench.period();
    let bench = bench.restart(HubSettings::default());
    bench.period();
    bench.pass_ms(700_000);
    bench.commit();
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(false)));
}

#[test]
fn connections_are_first_and_last_subscriptions() {
    let bench = Bench::new();
    let (_, attributes) = bench.observe(ATTRIBUTES);
    let connected_ms = bench.now();
    bench.period();
    let (_, rpc) = bench.observe("/api/v1/ACCESS01/rpc");
    bench.ended(attributes, RelationEnd::Cancelled);
    bench.period();
    assert_eq!(
        bench.server_attribute("lastConnectTime"),
        long(connected_ms)
    );
    assert_eq!(bench.server_attribute("lastDisconnectTime"), None);
    bench.ended(rpc, RelationEnd::SessionEnded);
    let disconnected_ms = bench.now();
    let seen = bench.hub.activity(bench.device).unwrap();
    assert_eq!(seen.last_disconnect_time, Some(disconnected_ms));
    bench.period();
    assert_eq!(
        bench.server_attribute("lastDisconnectTime"),
        long(disconnected_ms)
    );
}

#[test]
fn a_report_that_the_store_refuses_comes_later() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    let uplink_ms = bench.now();
    bench.store.is_overloaded.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        bench.pass_ms(3000);
    }
    bench.store.is_overloaded.store(false, Ordering::Relaxed);
    bench.period();
    assert_eq!(bench.server_attribute("lastActivityTime"), long(uplink_ms));
    assert_eq!(bench.server_attribute("active"), Some(Value::Bool(true)));
    assert_eq!(bench.server_attribute("lastConnectTime"), long(uplink_ms));
}

#[test]
fn nothing_is_reported_of_a_removed_device() {
    let bench = Bench::new();
    bench.post(TELEMETRY, "{t:1}");
    bench.registry.remove("token").unwrap();
    bench.period();
    assert_eq!(bench.server_attribute("active"), None);
}
