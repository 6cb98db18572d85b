//! Subscriptions (TB sections 7.4, 8.1, 8.3; vectors 9 and 10).

use super::*;

const ATTRIBUTES: &str = "/api/v1/ACCESS01/attributes";

#[test]
fn vector_9_attributes_are_observed() {
    let bench = Bench::new();
    let (first, relation) = bench.observe(ATTRIBUTES);
    assert_eq!(first, "2.05 50 {}");
    bench.set(&[("led", Some(Value::Bool(true)))]);
    assert!(bench.notifications().is_empty(), "it is not durable yet");
    bench.commit();
    assert_eq!(bench.received(), [r#"2.05 50 {"led":true}"#]);
    bench.set(&[("led", None)]);
    bench.commit();
    assert_eq!(bench.received(), [r#"2.05 50 {"deleted":["led"]}"#]);
    // RST: no further messages.
    bench.ended(relation, RelationEnd::Reset);
    bench.set_number("x", 1);
    bench.commit();
    assert!(bench.notifications().is_empty());
    assert_eq!(bench.hub.devices(), 0, "nothing of it is left");
}

#[test]
fn vector_10_a_cancelled_relation_hears_nothing_more() {
    let bench = Bench::new();
    let (_, relation) = bench.observe(ATTRIBUTES);
    bench.ended(relation, RelationEnd::Cancelled);
    let mut cancel = bench.request(GET, ATTRIBUTES, "");
    cancel.message.observe = Some(1);
    let answer = bench.ask(&cancel).unwrap();
    assert_eq!(
        (code_text(answer.code), answer.relation),
        ("4.04".into(), None)
    );
    let mut cancel = bench.request(GET, "/api/v1/ACCESS01/rpc", "");
    cancel.message.observe = Some(1);
    assert_eq!(text(&bench.ask(&cancel).unwrap()), "2.05");
    bench.set_number("x", 1);
    bench.commit();
    assert!(bench.notifications().is_empty());
}

#[test]
fn a_registration_repeats_its_content_format() {
    let bench = Bench::new();
    bench.set_number("x", 1);
    bench.commit();
    let mut request = bench.request(GET, ATTRIBUTES, "");
    request.message.observe = Some(0);
    request.message.content_format = Some(11542);
    assert_eq!(text(&bench.ask(&request).unwrap()), r#"2.05 11542 {"x":1}"#);
    bench.set_number("x", 2);
    bench.commit();
    assert_eq!(bench.received(), [r#"2.05 11542 {"x":2}"#]);
}

#[test]
fn what_is_on_its_way_to_the_disk_is_told_once_and_not_before_it_is_there() {
    let bench = Bench::new();
    bench.set_number("a", 1);
    let mut request = bench.request(GET, ATTRIBUTES, "");
    request.message.observe = Some(0);
    assert_eq!(bench.ask(&request), None, "the answer waits");
    bench.set_number("a", 2);
    bench.set_number("b", 3);
    bench.commit();
    let first = bench.verdict().unwrap();
    assert_eq!(first.exchange, request.exchange);
    assert_eq!(text(&first.response), r#"2.05 50 {"a":1}"#);
    assert!(first.response.relation.is_some());
    assert_eq!(
        bench.received(),
        [r#"2.05 50 {"a":2}"#, r#"2.05 50 {"b":3}"#]
    );
}

#[test]
fn what_is_durable_but_not_told_yet_is_told_once() {
    let bench = Bench::new();
    bench.set_number("a", 1);
    // Visible in the store, and the hub's thread has not heard of it.
    bench.store.commit();
    let mut request = bench.request(GET, ATTRIBUTES, "");
    request.message.observe = Some(0);
    assert_eq!(bench.ask(&request), None);
    bench.hub.step();
    assert_eq!(
        text(&bench.verdict().unwrap().response),
        r#"2.05 50 {"a":1}"#
    );
    assert!(bench.notifications().is_empty());
}

#[test]
fn a_write_that_fails_is_told_to_nobody() {
    let bench = Bench::new();
    let (_, relation) = bench.observe(ATTRIBUTES);
    bench.set_number("a", 1);
    bench.store.fail();
    bench.hub.step();
    assert!(bench.notifications().is_empty());
    // Nor does a registration begin with it.
    bench.set_number("a", 1);
    let mut request = bench.request(GET, ATTRIBUTES, "");
    request.message.observe = Some(0);
    assert_eq!(bench.ask(&request), None);
    bench.store.fail();
    bench.hub.step();
    let refused = bench.verdict().unwrap().response;
    assert_eq!(
        (code_text(refused.code), refused.relation),
        ("5.03".into(), None)
    );
    let farewell = bench.notifications();
    assert_eq!(farewell.len(), 1);
    assert_eq!((farewell[0].relation, farewell[0].last), (relation, true));
    bench.ended(relation, RelationEnd::Finished);
    assert_eq!(bench.hub.devices(), 0);
}

#[test]
fn a_second_observer_takes_the_place_of_the_first() {
    let bench = Bench::new();
    let (_, first) = bench.observe(ATTRIBUTES);
    let (_, second) = bench.observe(ATTRIBUTES);
    assert_ne!(first, second);
    let farewell = bench.notifications().pop().unwrap();
    assert_eq!((farewell.relation, farewell.last), (first, true));
    // 2.02 without payload; that the shard leaves the Observe option out is what `last` says.
    assert_eq!(text(&farewell.response), "2.02");
    bench.ended(first, RelationEnd::Finished);
    bench.set_number("x", 1);
    bench.commit();
    let told = bench.notifications();
    assert_eq!((told.len(), told[0].relation), (1, second));
}

#[test]
fn the_verdict_comes_before_the_end_of_the_relation_that_it_replaces() {
    let bench = Bench::new();
    let (_, first) = bench.observe(ATTRIBUTES);
    bench.set_number("a", 1);
    let mut request = bench.request(GET, ATTRIBUTES, "");
    request.message.observe = Some(0);
    assert_eq!(bench.ask(&request), None);
    assert!(
        bench.notifications().is_empty(),
        "the old one is not told yet"
    );
    // A third one, while the second still waits: that one is refused, as it never began.
    let mut third = bench.request(GET, ATTRIBUTES, "");
    third.message.observe = Some(0);
    let refused = bench.ask_any(&third).unwrap();
    assert_eq!(refused.exchange, request.exchange);
    assert_eq!(code_text(refused.response.code), "5.03");
    let farewells = bench.notifications();
    assert_eq!((farewells.len(), farewells[0].relation), (1, first));
    bench.commit();
    let answer = bench.verdict().unwrap();
    assert_eq!(answer.exchange, third.exchange);
    assert_eq!(text(&answer.response), r#"2.05 50 {"a":1}"#);
    assert!(bench.notifications().is_empty());
}

#[test]
fn the_topics_of_a_device_are_apart_and_so_are_devices() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    let (first, _) = bench.observe("/api/v1/ACCESS01/rpc");
    assert_eq!(first, "2.03");
    bench.observe("/api/v1/ACCESS02/attributes");
    assert!(
        bench.notifications().is_empty(),
        "none took another's place"
    );
    bench.set_number("x", 1);
    bench.commit();
    assert_eq!(bench.received().len(), 1);
}

#[test]
fn at_most_a_window_is_under_way_and_the_order_stays() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    for number in 0..100 {
        bench.set_number("x", number);
    }
    bench.commit();
    let mut received = Vec::new();
    loop {
        let under_way = bench.notifications();
        if under_way.is_empty() {
            break;
        }
        assert!(under_way.len() <= WINDOW);
        for notification in under_way {
            received.push(text(&notification.response));
            bench.event(&notification, true);
        }
    }
    let expected: Vec<_> = (0..100).map(|n| format!("2.05 50 {{\"x\":{n}}}")).collect();
    assert_eq!(received, expected);
}

#[test]
fn a_non_confirmable_one_is_done_once_it_is_sent() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    for number in 0..20 {
        bench.set_number("x", number);
    }
    bench.commit();
    let mut received = 0;
    while let Some(notification) = bench.inboxes[1].pop_notification() {
        received += 1;
        bench.hub.on_event(RelationEvent {
            peer: notification.peer,
            relation: notification.relation,
            kind: RelationEventKind::Sent {
                delivery: notification.delivery,
                confirmable: false,
            },
        });
    }
    assert_eq!(received, 20);
}

#[test]
fn what_is_too_much_is_merged_and_the_device_ends_up_right() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    let count = i64::try_from(CHANGES_MAX).unwrap() + 500;
    for number in 0..count {
        bench.set_number(&format!("k{}", number % 7), number);
    }
    bench.commit();
    let mut seen = BTreeMap::new();
    let mut messages = 0;
    loop {
        let received = bench.received();
        if received.is_empty() {
            break;
        }
        for message in received {
            messages += 1;
            let json = message.strip_prefix("2.05 50 ").unwrap();
            let object: BTreeMap<String, i64> = serde_json::from_str(json).unwrap();
            seen.extend(object);
        }
    }
    assert_eq!(messages, WINDOW + CHANGES_MAX);
    for (key, number) in seen {
        let last = (0..count).rev().find(|n| format!("k{}", n % 7) == key);
        assert_eq!(Some(number), last);
    }
}

#[test]
fn a_long_change_goes_in_parts_that_fit_a_message() {
    let bench = Bench::new();
    bench.observe(ATTRIBUTES);
    let text = |length: usize| Some(Value::String("x".repeat(length).into()));
    bench.set(&[
        ("a", text(600)),
        ("b", text(600)),
        ("c", text(100)),
        ("d", None),
    ]);
    bench.commit();
    let received = bench.received();
    let starts: Vec<_> = received.iter().map(|message| &message[..13]).collect();
    assert_eq!(starts, [r#"2.05 50 {"a":"#, r#"2.05 50 {"b":"#]);
    assert!(
        received[1].ends_with(r#","deleted":["d"]}"#),
        "{}",
        received[1]
    );
    assert!(received.iter().all(|message| message.len() < 1100));
}

#[test]
fn a_long_value_is_fetched_block_by_block() {
    let bench = Bench::new();
    bench.set(&[("long", Some(Value::String("x".repeat(5000).into())))]);
    bench.commit();
    let (first, _) = bench.observe(ATTRIBUTES);
    let later = |num| {
        let mut request = bench.request(GET, ATTRIBUTES, "");
        request.message.block2 = Some(Block {
            num,
            more: false,
            size_exponent: 6,
        });
        text(&bench.ask(&request).unwrap())
    };
    assert_eq!(later(1), first);
    bench.set(&[("long", Some(Value::String("y".repeat(5000).into())))]);
    bench.commit();
    let notified = bench.received().remove(0);
    assert_eq!(later(4), notified);
    // A plain read from its first block on is one.
    let plain = later(0);
    assert!(plain.starts_with(r#"2.05 50 {"shared":{"long":"y"#));
    assert_eq!(later(1), plain);
}

#[test]
fn a_value_that_no_shard_takes_ends_the_subscription() {
    let bench = Bench::new();
    let (_, relation) = bench.observe(ATTRIBUTES);
    bench.set(&[("huge", Some(Value::String("x".repeat(60_000).into())))]);
    bench.commit();
    let farewell = bench.notifications();
    assert_eq!(farewell.len(), 1);
    assert_eq!((farewell[0].relation, farewell[0].last), (relation, true));
    let (first, _) = bench.observe(ATTRIBUTES);
    assert!(first.len() > 60_000);
}

#[test]
fn a_full_inbox_is_tried_again_and_nothing_is_lost() {
    let bench = Bench::new();
    let (_, relation) = bench.observe(ATTRIBUTES);
    let filler = Notification {
        peer: bench.request(GET, "", "").peer,
        relation: RelationId(u64::MAX),
        delivery: 0,
        response: Response::empty(0),
        last: false,
    };
    while bench.inboxes[1].notify(filler.clone()).is_ok() {}
    bench.set_number("x", 1);
    bench.commit();
    bench.pass_ms(100);
    let there = bench.notifications();
    assert!(there.iter().all(|n| n.relation != relation));
    bench.pass_ms(100);
    assert_eq!(bench.received(), [r#"2.05 50 {"x":1}"#]);
}

#[test]
fn a_changed_credential_ends_both_subscriptions_with_one_message_each() {
    let bench = Bench::new();
    let (_, attributes) = bench.observe(ATTRIBUTES);
    let (_, rpc) = bench.observe("/api/v1/ACCESS01/rpc");
    let new = NewCredential::AccessToken("OTHER".into());
    bench.registry.set_credential("token", new).unwrap();
    let farewells = bench.notifications();
    let ended: Vec<_> = farewells.iter().map(|n| (n.relation, n.last)).collect();
    assert_eq!(ended, [(attributes, true), (rpc, true)]);
    bench.set_number("x", 1);
    bench.commit();
    assert!(bench.notifications().is_empty());
    bench.observe("/api/v1/OTHER/attributes");
}

#[test]
fn a_registration_that_a_removal_overtakes_does_not_begin() {
    let bench = Bench::new();
    let request = bench.request(GET, ATTRIBUTES, "");
    // Authenticated before, asked again under the device's lock.
    let refused = bench
        .hub
        .observe(Topic::Attributes, bench.device, &request, &|| false);
    assert_eq!(refused.map_err(|r| code_text(r.code)), Err("4.01".into()));
    assert_eq!(bench.hub.devices(), 0);
}

#[test]
fn attributes_of_no_device_and_keys_that_are_none_are_refused() {
    let bench = Bench::new();
    let set = |device, key: &str| {
        let mut delta = Delta::default();
        delta.insert(key.into(), Some(Value::Long(1)));
        let scope = AttributeScope::Shared;
        bench.hub.set(device, scope, delta, Box::new(|_| ()))
    };
    assert_eq!(set(DeviceId(999), "a"), Err(SetRefusal::NoDevice));
    assert_eq!(set(bench.device, ""), Err(SetRefusal::Key));
    assert_eq!(set(bench.device, &"k".repeat(256)), Err(SetRefusal::Key));
    bench.store.is_overloaded.store(true, Ordering::Relaxed);
    assert_eq!(set(bench.device, "a"), Err(SetRefusal::Overloaded));
    assert_eq!(bench.hub.devices(), 0);
}
