//! Calls of both directions (TB section 7.5; vectors 11 and 12).

use super::*;
use serde_json::value::RawValue;

const RPC: &str = "/api/v1/ACCESS01/rpc";

fn call(text: &str) -> NewRpc {
    serde_json::from_str(text).unwrap()
}

fn persistent(method: &str) -> NewRpc {
    NewRpc {
        method: method.into(),
        persistent: true,
        timeout_ms: Some(3_600_000),
        ..NewRpc::default()
    }
}

impl Bench {
    fn state(&self, id: i32) -> RpcState {
        let calls = self.hub.calls(self.device).unwrap();
        calls.iter().find(|call| call.id == id).unwrap().state
    }

    /// The methods of the calls that are under way to the device, unacknowledged.
    fn methods(&self) -> Vec<(String, Notification)> {
        let notifications = self.notifications().into_iter();
        notifications
            .map(|notification| {
                let call: serde_json::Value =
                    serde_json::from_slice(&notification.response.payload).unwrap();
                (call["method"].as_str().unwrap().to_owned(), notification)
            })
            .collect()
    }
}

#[test]
fn vector_11_a_two_way_call_and_its_reply() {
    let bench = Bench::new();
    assert_eq!(bench.observe(RPC).0, "2.03");
    let new = call(r#"{"method":"setGpio","params":{"pin": "26", "value":1}}"#);
    let end = bench.call(&new);
    let expected = r#"2.05 50 {"id":0,"method":"setGpio","params":{"pin":"26","value":1}}"#;
    assert_eq!(bench.received(), [expected]);
    assert!(end.try_recv().is_err(), "the device has not answered");
    for no_object in ["5", "{", ""] {
        assert_eq!(
            bench.post(&format!("{RPC}/0"), no_object),
            "5.00",
            "{no_object}"
        );
    }
    let reply = r#"{"value1":"A","value2":"B"}"#;
    assert_eq!(bench.post(&format!("{RPC}/0"), reply), "2.01");
    assert_eq!(end.recv().unwrap(), Ok(RpcEnd::Answer(reply.into())));
    // Stale and unknown numbers.
    assert_eq!(bench.post(&format!("{RPC}/0"), reply), "2.01");
    assert_eq!(bench.post(&format!("{RPC}/999"), "{}"), "2.01");
    // The next call has the next number.
    bench.call(&call(r#"{"method":"m"}"#));
    let expected = r#"2.05 50 {"id":1,"method":"m","params":{}}"#;
    assert_eq!(bench.received(), [expected]);
}

#[test]
fn without_an_observer_a_call_is_unanswered_after_its_time() {
    let bench = Bench::new();
    let end = bench.call(&call(r#"{"method":"m","timeoutMs":1}"#));
    let one_way = bench.call(&call(r#"{"method":"m","mode":"oneway"}"#));
    bench.pass_ms(4999);
    assert!(end.try_recv().is_err(), "the shortest time is 5 s");
    bench.pass_ms(1);
    let nobody_there = Ok(RpcEnd::Unanswered(RpcState::Queued));
    assert_eq!(end.recv().unwrap(), nobody_there);
    assert!(one_way.try_recv().is_err());
    bench.pass_ms(5000);
    assert_eq!(one_way.recv().unwrap(), nobody_there);
    assert_eq!(bench.hub.devices(), 0);
}

#[test]
fn a_call_waits_for_an_observer_within_its_time() {
    let bench = Bench::new();
    let one_way = bench.call(&call(r#"{"method":"m","mode":"oneway"}"#));
    bench.pass_ms(3000);
    bench.observe(RPC);
    assert_eq!(one_way.recv().unwrap(), Ok(RpcEnd::Gone));
    assert_eq!(bench.received().len(), 1);
}

#[test]
fn numbers_go_on_while_nothing_is_under_way() {
    let bench = Bench::new();
    for number in 0..3 {
        let (_, relation) = bench.observe(RPC);
        bench.call(&call(r#"{"method":"m","mode":"oneway"}"#));
        let expected = format!(r#"2.05 50 {{"id":{number},"method":"m","params":{{}}}}"#);
        assert_eq!(bench.received(), [expected]);
        bench.ended(relation, RelationEnd::Cancelled);
        assert_eq!(bench.hub.devices(), 0);
    }
}

#[test]
fn what_the_old_observer_has_not_acknowledged_goes_to_the_new_one() {
    let bench = Bench::new();
    bench.observe(RPC);
    let end = bench.call(&call(r#"{"method":"m"}"#));
    let lost = bench.methods();
    assert_eq!(lost.len(), 1);
    bench.event(&lost[0].1, false);
    let (_, second) = bench.observe(RPC);
    let again = bench.notifications();
    let calls: Vec<_> = again.iter().filter(|n| !n.last).collect();
    assert_eq!((calls.len(), calls[0].relation), (1, second));
    assert_eq!(calls[0].response, lost[0].1.response);
    assert_eq!(bench.post(&format!("{RPC}/0"), "{}"), "2.01");
    assert_eq!(end.recv().unwrap(), Ok(RpcEnd::Answer("{}".into())));
}

#[test]
fn too_many_and_too_long_calls_are_refused() {
    let bench = Bench::new();
    let send = |new: &NewRpc| bench.hub.send_rpc(bench.device, new, Box::new(|_| ()));
    let invalid = |result| matches!(result, Err(RpcRefusal::Invalid(_)));
    assert!(invalid(send(&NewRpc::default())));
    assert!(invalid(send(&NewRpc {
        method: "m".repeat(100_000),
        ..NewRpc::default()
    })));
    let large = NewRpc {
        method: "m".repeat(30_000),
        ..NewRpc::default()
    };
    let taken = (0..100).take_while(|_| send(&large).is_ok()).count();
    assert!((30..40).contains(&taken), "{taken}");
    assert_eq!(send(&large), Err(RpcRefusal::TooMany));
    let nobody = bench.hub.send_rpc(DeviceId(999), &large, Box::new(|_| ()));
    assert_eq!(nobody, Err(RpcRefusal::NoDevice));
}

#[test]
fn a_long_call_is_fetched_block_by_block() {
    let bench = Bench::new();
    bench.observe(RPC);
    let new = NewRpc {
        method: "m".repeat(3000),
        ..NewRpc::default()
    };
    bench.call(&new);
    bench.call(&call(r#"{"method":"next"}"#));
    let sent = bench.notifications();
    assert_eq!(sent.len(), 1, "the next one waits for it");
    let mut block = bench.request(GET, RPC, "");
    block.message.block2 = Some(Block {
        num: 1,
        more: false,
        size_exponent: 6,
    });
    assert_eq!(bench.ask(&block).as_ref(), Some(&sent[0].response));
    // Of another peer, or without anything to fetch, it is a read, which there is none of.
    let mut stranger = block.clone();
    stranger.peer.slot += 1;
    assert_eq!(text(&bench.ask(&stranger).unwrap()), "4.00");
    bench.event(&sent[0], true);
    assert_eq!(bench.methods()[0].0, "next");
}

#[test]
fn a_persistent_call_goes_through_its_states() {
    let bench = Bench::new();
    let kept = bench.call(&persistent("m"));
    assert!(kept.try_recv().is_err(), "it is not durable yet");
    bench.commit();
    assert_eq!(kept.recv().unwrap(), Ok(RpcEnd::Kept(0)));
    assert_eq!(bench.state(0), RpcState::Queued);
    bench.observe(RPC);
    let sent = bench.methods();
    bench.event(&sent[0].1, false);
    assert_eq!(bench.state(0), RpcState::Sent);
    bench.event(&sent[0].1, true);
    assert_eq!(bench.state(0), RpcState::Delivered);
    bench.commit();
    // The reply is acknowledged once it is durable.
    let reply = bench.request(POST, &format!("{RPC}/0"), r#"{"done":true}"#);
    assert_eq!(bench.ask(&reply), None);
    bench.commit();
    let created = bench.verdict().unwrap();
    assert_eq!(
        (created.exchange, code_text(created.response.code)),
        (reply.exchange, "2.01".into())
    );
    let calls = bench.hub.calls(bench.device).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].state, RpcState::Successful);
    assert_eq!(
        calls[0].response.as_ref().unwrap().get(),
        r#"{"done":true}"#
    );
}

#[test]
fn a_one_way_call_that_is_kept_ends_delivered() {
    let bench = Bench::new();
    bench.observe(RPC);
    let one_way = NewRpc {
        mode: RpcMode::OneWay,
        ..persistent("m")
    };
    bench.call(&one_way);
    assert_eq!(bench.received().len(), 1);
    bench.commit();
    assert_eq!(bench.state(0), RpcState::Delivered);
    bench.pass_ms(10_000_000);
    assert_eq!(bench.state(0), RpcState::Delivered);
}

#[test]
fn a_restart_keeps_persistent_calls_and_their_numbers() {
    let bench = Bench::new();
    let (_, _relation) = bench.observe(RPC);
    bench.call(&persistent("first"));
    bench.call(&persistent("second"));
    let sent = bench.methods();
    bench.event(&sent[0].1, true);
    bench.event(&sent[1].1, false);
    bench.commit();
    let bench = bench.restart(HubSettings::default());
    assert_eq!(bench.state(0), RpcState::Delivered);
    assert_eq!(bench.state(1), RpcState::Sent);
    // What the device has is not sent again; what it may not have is.
    bench.observe(RPC);
    let again = bench.methods();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].0, "second");
    // A reply needs no live subscription and finds the call of before.
    let reply = bench.request(POST, &format!("{RPC}/0"), "{}");
    assert_eq!(bench.ask(&reply), None);
    bench.commit();
    assert_eq!(bench.state(0), RpcState::Successful);
    bench.call(&persistent("third"));
    assert_eq!(bench.state(2), RpcState::Queued);
}

#[test]
fn attempts_are_counted_and_a_call_fails_after_the_last() {
    let bench = Bench::new();
    let new = NewRpc {
        retries: Some(2),
        ..persistent("m")
    };
    bench.call(&new);
    for attempt in 0..3 {
        let (_, relation) = bench.observe(RPC);
        let sent = bench.methods();
        assert_eq!(sent.len(), 1, "attempt {attempt}");
        bench.event(&sent[0].1, false);
        // Without an acknowledgement the state says so, and the shard goes on trying.
        bench.pass_ms(10_000);
        assert_eq!(bench.state(0), RpcState::Timeout);
        bench.ended(relation, RelationEnd::TimedOut);
        bench.commit();
    }
    assert_eq!(bench.state(0), RpcState::Failed);
    bench.observe(RPC);
    assert!(bench.methods().is_empty());
}

#[test]
fn a_late_acknowledgement_counts() {
    let bench = Bench::new();
    bench.observe(RPC);
    bench.call(&persistent("m"));
    let sent = bench.methods();
    bench.event(&sent[0].1, false);
    bench.pass_ms(20_000);
    assert_eq!(bench.state(0), RpcState::Timeout);
    bench.event(&sent[0].1, true);
    assert_eq!(bench.state(0), RpcState::Delivered);
}

#[test]
fn a_subscription_is_ended_on_a_delivery_timeout_if_asked_for() {
    let bench = Bench::with(HubSettings {
        close_on_delivery_timeout: true,
        ..HubSettings::default()
    });
    let (_, relation) = bench.observe(RPC);
    bench.call(&persistent("m"));
    let sent = bench.methods();
    bench.event(&sent[0].1, false);
    bench.pass_ms(10_000);
    let farewell = bench.notifications();
    assert_eq!(farewell.len(), 1);
    assert_eq!((farewell[0].relation, farewell[0].last), (relation, true));
    bench.observe(RPC);
    assert_eq!(bench.methods().len(), 1, "it is queued again");
}

#[test]
fn an_expired_call_is_not_sent() {
    let bench = Bench::new();
    let new = NewRpc {
        expiration_ms: Some(START_MS + 20_000),
        ..persistent("m")
    };
    bench.call(&new);
    bench.commit();
    bench.pass_ms(20_000);
    bench.commit();
    assert_eq!(bench.state(0), RpcState::Expired);
    bench.observe(RPC);
    assert!(bench.methods().is_empty());
    // One whose time ran out while the server did not run.
    bench.call(&NewRpc {
        expiration_ms: Some(START_MS + 30_000),
        ..persistent("m")
    });
    bench.commit();
    let bench = bench.restart(HubSettings::default());
    bench.now_ms.fetch_add(100_000, Ordering::Relaxed);
    let _ = bench.hub.calls(bench.device).unwrap();
    bench.hub.step();
    assert_eq!(bench.state(1), RpcState::Expired);
}

#[test]
fn sequential_calls_wait_for_the_acknowledgement_or_the_response() {
    for (submit, after_ack) in [
        (SubmitStrategy::SequentialOnAck, 1),
        (SubmitStrategy::SequentialOnResponse, 0),
    ] {
        let bench = Bench::with(HubSettings {
            submit,
            ..HubSettings::default()
        });
        bench.observe(RPC);
        bench.call(&persistent("first"));
        bench.call(&persistent("second"));
        // A call that is not kept does not wait for those that are.
        bench.call(&call(r#"{"method":"light"}"#));
        let sent = bench.methods();
        let names: Vec<_> = sent.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["first", "light"]);
        bench.event(&sent[0].1, true);
        assert_eq!(bench.methods().len(), after_ack, "{submit:?}");
        let reply = bench.request(POST, &format!("{RPC}/0"), "{}");
        assert_eq!(bench.ask(&reply), None);
        assert_eq!(bench.methods().len(), 1 - after_ack, "{submit:?}");
    }
}

#[test]
fn a_response_that_does_not_come_is_an_attempt_of_the_sequence() {
    let bench = Bench::with(HubSettings {
        submit: SubmitStrategy::SequentialOnResponse,
        ..HubSettings::default()
    });
    bench.observe(RPC);
    bench.call(&NewRpc {
        retries: Some(1),
        ..persistent("first")
    });
    bench.call(&persistent("second"));
    for _ in 0..2 {
        let sent = bench.methods();
        assert_eq!((sent.len(), &*sent[0].0), (1, "first"));
        bench.event(&sent[0].1, true);
        bench.pass_ms(30_000);
    }
    assert_eq!(bench.state(0), RpcState::Failed);
    assert_eq!(bench.methods()[0].0, "second");
}

#[test]
fn a_burst_is_sent_at_once() {
    let bench = Bench::new();
    for number in 0..5 {
        bench.call(&persistent(&format!("m{number}")));
    }
    bench.observe(RPC);
    let names: Vec<_> = bench.methods().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
}

#[test]
fn a_deleted_call_is_gone_whatever_its_state() {
    let bench = Bench::new();
    let waiting = bench.call(&call(r#"{"method":"m"}"#));
    bench.call(&persistent("kept"));
    bench.commit();
    let delete = |id| {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |result: Result<(), StoreError>| sender.send(result).unwrap());
        let found = bench.hub.delete_rpc(bench.device, id, done).unwrap();
        bench.commit();
        assert_eq!(receiver.try_recv().is_ok(), found);
        found
    };
    assert!(delete(0));
    assert_eq!(waiting.recv().unwrap(), Ok(RpcEnd::Deleted));
    assert!(delete(1));
    assert!(!delete(1));
    assert!(!delete(77));
    assert!(bench.hub.calls(bench.device).unwrap().is_empty());
    bench.observe(RPC);
    assert!(bench.methods().is_empty());
}

#[test]
fn records_of_done_calls_are_bounded() {
    let bench = Bench::new();
    bench.observe(RPC);
    let one_way = NewRpc {
        mode: RpcMode::OneWay,
        ..persistent("m")
    };
    for _ in 0..RECORDS_MAX + 20 {
        bench.call(&one_way);
        assert_eq!(bench.received().len(), 1);
        bench.commit();
        bench.commit();
    }
    let calls = bench.hub.calls(bench.device).unwrap();
    assert_eq!(calls.len(), RECORDS_MAX);
    assert_eq!(calls[0].id, 20);
}

/// A device answers with as much as it likes; whoever asks for its calls reads all of that.
#[test]
fn records_of_done_calls_are_bounded_in_bytes() {
    const PARAMS: usize = 30_000;
    let bench = Bench::new();
    bench.observe(RPC);
    let text = format!("\"{}\"", "x".repeat(PARAMS));
    let long = NewRpc {
        mode: RpcMode::OneWay,
        params: Some(RawValue::from_string(text).unwrap()),
        ..persistent("m")
    };
    for _ in 0..100 {
        bench.call(&long);
        assert_eq!(bench.received().len(), 1);
        bench.commit();
        bench.commit();
    }
    let calls = bench.hub.calls(bench.device).unwrap();
    assert_eq!(calls.len(), RECORDS_BYTES_MAX / PARAMS + 1);
    assert_eq!(calls.last().unwrap().id, 99);
}

#[test]
fn a_change_that_the_store_refused_is_written_later() {
    let bench = Bench::new();
    bench.observe(RPC);
    bench.call(&persistent("m"));
    bench.commit();
    bench.store.is_overloaded.store(true, Ordering::Relaxed);
    assert_eq!(bench.received().len(), 1);
    let reply = bench.request(POST, &format!("{RPC}/0"), "{}");
    assert_eq!(code_text(bench.ask(&reply).unwrap().code), "5.03");
    bench.store.is_overloaded.store(false, Ordering::Relaxed);
    bench.pass_ms(100);
    bench.commit();
    let bench = bench.restart(HubSettings::default());
    assert_eq!(bench.state(0), RpcState::Delivered);
}

#[test]
fn a_removed_device_leaves_nothing() {
    let bench = Bench::new();
    bench.observe(RPC);
    let end = bench.call(&call(r#"{"method":"m"}"#));
    bench.registry.remove("token").unwrap();
    assert_eq!(end.recv().unwrap(), Ok(RpcEnd::Deleted));
    bench.commit();
    let _ = bench.notifications();
    assert_eq!(bench.hub.devices(), 0);
}

/// A program of the operator, whose calls come by a channel.
struct TestProgram(mpsc::Sender<OfferedCall>, Arc<AtomicBool>);

impl Program for TestProgram {
    fn take(self: Box<Self>, calls: Vec<OfferedCall>) -> Result<(), Vec<OfferedCall>> {
        if self.is_gone() {
            return Err(calls);
        }
        for call in calls {
            self.0.send(call).unwrap();
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl Bench {
    fn program(&self) -> (mpsc::Receiver<OfferedCall>, Arc<AtomicBool>) {
        let (sender, receiver) = mpsc::channel();
        let gone = Arc::new(AtomicBool::new(false));
        let program = Box::new(TestProgram(sender, Arc::clone(&gone)));
        assert!(self.hub.offer_calls(10, program));
        (receiver, gone)
    }
}

#[test]
fn vector_12_a_device_calls_and_is_answered_by_a_program() {
    let bench = Bench::new();
    assert_eq!(bench.post(RPC, "{}"), "5.00");
    assert_eq!(bench.post(RPC, "{"), "5.00");
    let plain = bench.ask(&bench.request(GET, RPC, "")).unwrap();
    assert_eq!(code_text(plain.code), "4.00");

    // A program waits first.
    let (offered, _) = bench.program();
    let time = bench.request(POST, RPC, r#"{"method":"getTime","params":{}}"#);
    assert_eq!(bench.ask(&time), None, "the answer waits");
    let offer = offered.try_recv().unwrap();
    assert_eq!(
        (&*offer.device, &*offer.method, offer.params.get()),
        ("token", "getTime", "{}")
    );
    let answer = serde_json::from_str(r#"{"reply":{"time":1}}"#).unwrap();
    assert!(bench.hub.answer_call(offer.id, &answer));
    let verdict = bench.verdict().unwrap();
    assert_eq!(verdict.exchange, time.exchange);
    assert_eq!(text(&verdict.response), r#"2.05 50 {"time":1}"#);
    assert!(!bench.hub.answer_call(offer.id, &answer), "once only");

    // The call comes first; an error.
    let second = bench.request(POST, RPC, r#"{"method":"x"}"#);
    assert_eq!(bench.ask(&second), None);
    let (offered, _) = bench.program();
    let offer = offered.try_recv().unwrap();
    let answer = serde_json::from_str(r#"{"error":"no such method"}"#).unwrap();
    assert!(bench.hub.answer_call(offer.id, &answer));
    let error = bench.verdict().unwrap().response;
    assert_eq!(text(&error), r#"2.05 50 {"error":"no such method"}"#);
}

#[test]
fn a_call_that_nobody_answers_is_5_04_after_its_time() {
    let bench = Bench::new();
    let request = bench.request(POST, RPC, r#"{"method":"x"}"#);
    assert_eq!(bench.ask(&request), None);
    bench.pass_ms(9999);
    assert!(bench.verdict().is_none());
    bench.pass_ms(1);
    let gone = bench.verdict().unwrap();
    assert_eq!(gone.exchange, request.exchange);
    assert_eq!(code_text(gone.response.code), "5.04");
    let (offered, _) = bench.program();
    assert!(
        offered.try_recv().is_err(),
        "it is offered to nobody any more"
    );
}

#[test]
fn a_program_that_is_gone_takes_no_call_with_it() {
    let bench = Bench::new();
    let (_, gone) = bench.program();
    gone.store(true, Ordering::Relaxed);
    let (offered, _) = bench.program();
    let request = bench.request(POST, RPC, r#"{"method":"x"}"#);
    assert_eq!(bench.ask(&request), None);
    assert_eq!(&*offered.try_recv().unwrap().method, "x");
}

#[test]
fn calls_of_a_device_and_of_a_shard_are_bounded() {
    let bench = Bench::with(HubSettings {
        client_calls_max: 10,
        ..HubSettings::default()
    });
    let call = |token: &str| {
        let uri = format!("/api/v1/{token}/rpc");
        let request = bench.request(POST, &uri, r#"{"method":"x"}"#);
        bench.ask(&request).map(|refused| code_text(refused.code))
    };
    let refused = Some("5.03".to_owned());
    for _ in 0..8 {
        assert_eq!(call("ACCESS01"), None);
    }
    assert_eq!(call("ACCESS01"), refused);
    assert_eq!([call("ACCESS02"), call("ACCESS02")], [None, None]);
    assert_eq!(call("ACCESS02"), refused);
    bench.hub.refuse_client_calls();
    let verdicts = std::iter::from_fn(|| bench.verdict());
    assert_eq!(
        verdicts.filter(|v| v.response.max_age.is_some()).count(),
        10
    );
    assert_eq!(call("ACCESS01"), refused, "the server stops");
}
