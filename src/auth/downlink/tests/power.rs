//! Power modes (TB section 8.4).

use super::*;

const ATTRIBUTES: &str = "/api/v1/ACCESS01/attributes";
const TELEMETRY: &str = "/api/v1/ACCESS01/telemetry";

impl Bench {
    fn reach(&self, reach: Reach) {
        *lock(&self.policy.0) = reach;
    }
}

#[test]
fn a_sleeping_device_is_told_all_at_once_when_it_wakes() {
    let bench = Bench::new();
    bench.reach(Reach::Psm {
        awake_ms: Some(5000),
    });
    bench.observe(ATTRIBUTES);
    bench.set_number("a", 1);
    bench.commit();
    assert_eq!(bench.received(), [r#"2.05 50 {"a":1}"#], "it is awake");
    bench.pass_ms(5001);
    bench.set(&[("a", None), ("b", Some(Value::Long(1)))]);
    bench.commit();
    bench.set_number("b", 2);
    bench.commit();
    // Deleted a second time, after a merge: both deletions count.
    bench.set(&[("c", None)]);
    bench.commit();
    bench.pass_ms(60_000);
    assert!(bench.notifications().is_empty(), "it sleeps");
    assert_eq!(bench.post(TELEMETRY, "{t:1}"), "2.01");
    assert_eq!(bench.received(), [r#"2.05 50 {"b":2,"deleted":["a","c"]}"#]);
    assert!(bench.notifications().is_empty());
}

#[test]
fn the_default_window_is_that_of_the_setting() {
    for reach in [
        Reach::Psm { awake_ms: None },
        Reach::Psm { awake_ms: Some(0) },
    ] {
        let bench = Bench::new();
        bench.reach(reach);
        bench.observe(ATTRIBUTES);
        bench.pass_ms(10_000);
        bench.set_number("a", 1);
        bench.commit();
        assert_eq!(bench.received().len(), 1);
        // Its acknowledgement was an uplink.
        bench.pass_ms(10_001);
        bench.set_number("a", 2);
        bench.commit();
        assert!(bench.notifications().is_empty());
    }
}

#[test]
fn edrx_allows_one_more_message_after_the_window() {
    let bench = Bench::new();
    bench.reach(Reach::Edrx {
        window_ms: Some(1000),
    });
    bench.observe(ATTRIBUTES);
    bench.pass_ms(2000);
    for number in 0..3 {
        bench.set_number("a", number);
        bench.commit();
    }
    let once = bench.notifications();
    assert_eq!(once.len(), 1);
    assert_eq!(text(&once[0].response), r#"2.05 50 {"a":0}"#);
    bench.pass_ms(1000);
    // Its acknowledgement wakes it for the rest.
    bench.event(&once[0], true);
    assert_eq!(bench.received(), [r#"2.05 50 {"a":2}"#]);
}

#[test]
fn calls_to_a_sleeping_device_wait_for_it() {
    let bench = Bench::new();
    bench.reach(Reach::Psm {
        awake_ms: Some(5000),
    });
    bench.observe("/api/v1/ACCESS01/rpc");
    bench.pass_ms(6000);
    let one_way: NewRpc = serde_json::from_str(r#"{"method":"m","mode":"oneway"}"#).unwrap();
    let awaited = bench.call(&one_way);
    let given_up = bench.call(&NewRpc {
        timeout_ms: Some(5000),
        ..one_way.clone()
    });
    bench.call(&NewRpc {
        persistent: true,
        timeout_ms: Some(3_600_000),
        ..one_way
    });
    bench.pass_ms(6000);
    assert!(bench.notifications().is_empty());
    let asleep = Ok(RpcEnd::Unanswered(RpcState::Queued));
    assert_eq!(given_up.try_recv().unwrap(), asleep);
    bench.post(TELEMETRY, "{t:1}");
    assert_eq!(bench.received().len(), 2);
    assert_eq!(awaited.try_recv().unwrap(), Ok(RpcEnd::Gone));
}

#[test]
fn an_uplink_that_was_seen_late_is_seen() {
    let bench = Bench::new();
    bench.reach(Reach::Psm {
        awake_ms: Some(5000),
    });
    bench.observe(ATTRIBUTES);
    bench.pass_ms(6000);
    bench.set_number("a", 1);
    bench.commit();
    assert!(bench.notifications().is_empty());
    // The uplink's own core did not see the mark: only the table has the uplink.
    let now_ms = bench.now_ms.load(Ordering::Relaxed);
    let entry = bench.hub.activity.entry(bench.device).unwrap();
    entry.clear(activity::ATTENTION);
    assert!(!bench.hub.activity.record(bench.device, now_ms));
    bench.pass_ms(1000);
    assert_eq!(bench.received(), [r#"2.05 50 {"a":1}"#]);
}
