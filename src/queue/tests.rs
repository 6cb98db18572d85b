#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of the tests themselves"
)]

use super::*;
use crate::auth::request::{PeerRef, Response};
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

fn request(shard: u16, exchange: u32) -> Request {
    Request {
        peer: PeerRef {
            shard,
            slot: 0,
            generation: 0,
        },
        exchange,
        identity: crate::auth::request::Identity::Anonymous,
        secure: false,
        received_unix_ms: 0,
        message: crate::auth::request::RequestMessage::default(),
    }
}

fn verdict(exchange: u32) -> Verdict {
    Verdict {
        peer: request(0, 0).peer,
        exchange,
        response: Response::empty(0x41),
        buffer: Vec::new(),
    }
}

#[test]
fn a_full_queue_gives_the_request_back() {
    let (queues, _workers) = RequestQueues::new(1, 2, 1);
    let shard = queues.shard(0).unwrap();
    assert!(queues.shard(1).is_none());
    assert_eq!(shard.submit(request(0, 1)), Ok(()));
    assert_eq!(shard.submit(request(0, 2)), Ok(()));
    assert_eq!(shard.submit(request(0, 3)), Err(Full(request(0, 3))));
    assert_eq!((shard.len(), queues.len()), (2, 2));
}

#[test]
fn shards_are_served_in_turn() {
    let (queues, mut workers) = RequestQueues::new(2, 1000, 1);
    let (busy, quiet) = (queues.shard(0).unwrap(), queues.shard(1).unwrap());
    for exchange in 0..500 {
        busy.submit(request(0, exchange)).unwrap();
    }
    for exchange in 0..10 {
        quiet.submit(request(1, exchange)).unwrap();
    }
    let mut taken = Vec::new();
    assert_eq!(workers[0].take_now(&mut taken), TAKE_MAX);
    let of_quiet = taken
        .iter()
        .filter(|request| request.peer.shard == 1)
        .count();
    assert_eq!(of_quiet, 10, "a busy shard leaves the others their part");
    // What the quiet shard left over goes to the busy one.
    assert_eq!(taken.len(), TAKE_MAX);
}

#[test]
fn workers_end_when_closed_and_not_before_the_queues_are_empty() {
    let (queues, mut workers) = RequestQueues::new(1, 1000, 1);
    let shard = queues.shard(0).unwrap();
    for exchange in 0..200 {
        shard.submit(request(0, exchange)).unwrap();
    }
    queues.close();
    let mut taken = Vec::new();
    while workers[0].take(&mut taken) {}
    assert_eq!(taken.len(), 200);
}

/// Submits one at a time and waits until it is taken, so that workers go to sleep in between at
/// every possible moment: a lost wake-up would stop it.
#[test]
fn no_wake_up_is_lost_when_workers_come_and_go() {
    for workers_count in [1, 3] {
        let (queues, workers) = RequestQueues::new(2, 64, workers_count);
        let handled = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let handled = Arc::clone(&handled);
                thread::spawn(move || {
                    let mut taken = Vec::new();
                    while worker.take(&mut taken) {
                        let count = u32::try_from(taken.len()).unwrap();
                        taken.clear();
                        handled.fetch_add(count, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut sent = 0;
        for round in 0..20_000_u32 {
            let shard = queues.shard(round as usize % 2).unwrap();
            for _ in 0..=round % 3 {
                shard.submit(request(0, sent)).unwrap();
                sent += 1;
            }
            shard.notify();
            if round % 5 == 0 {
                continue;
            }
            while handled.load(Ordering::SeqCst) != sent {
                assert!(
                    Instant::now() < deadline,
                    "a request waits and nobody comes"
                );
                thread::yield_now();
            }
        }
        queues.close();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(handled.load(Ordering::SeqCst), sent);
    }
}

/// While one worker is inside `blocking`, what is submitted is handled by another.
#[test]
fn a_blocked_worker_is_not_counted_on() {
    let (queues, workers) = RequestQueues::new(1, 64, 2);
    let shard = queues.shard(0).unwrap();
    let (entered, was_entered) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let handled = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let (entered, released) = (entered.clone(), Arc::clone(&released));
            let handled = Arc::clone(&handled);
            thread::spawn(move || {
                let mut taken = Vec::new();
                while worker.take(&mut taken) {
                    for request in taken.drain(..) {
                        if request.exchange == 0 {
                            worker.blocking(|| {
                                entered.send(()).unwrap();
                                released.lock().unwrap().recv().unwrap();
                            });
                        } else {
                            handled.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    shard.submit(request(0, 0)).unwrap();
    shard.notify();
    was_entered.recv().unwrap();
    for exchange in 1..=100 {
        shard.submit(request(0, exchange)).unwrap();
        shard.notify();
        let deadline = Instant::now() + Duration::from_secs(20);
        while handled.load(Ordering::SeqCst) != exchange {
            assert!(Instant::now() < deadline, "the other worker sleeps on");
            thread::yield_now();
        }
    }
    release.send(()).unwrap();
    queues.close();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn an_inbox_wakes_only_a_sleeper_and_only_once() {
    let inbox = Inbox::new(4);
    let wakes = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&wakes);
    inbox.set_waker(Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    inbox.push(verdict(1));
    inbox.wake();
    assert_eq!(wakes.load(Ordering::SeqCst), 0, "the shard is awake");
    assert!(!inbox.prepare_sleep(), "there is a verdict");
    assert_eq!(inbox.pop(), Some(verdict(1)));
    assert!(inbox.prepare_sleep());
    inbox.push(verdict(2));
    inbox.wake();
    inbox.push(verdict(3));
    inbox.wake();
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
    assert!(inbox.pop().is_some() && inbox.pop().is_some());
    assert!(inbox.prepare_sleep());
    inbox.awake();
    inbox.push(verdict(4));
    inbox.wake();
    assert_eq!(wakes.load(Ordering::SeqCst), 1, "it woke by itself");
    inbox.wake_always();
    assert_eq!(wakes.load(Ordering::SeqCst), 2);
}

#[test]
fn a_verdict_too_many_is_counted() {
    let inbox = Inbox::new(1);
    inbox.push(verdict(1));
    inbox.push(verdict(2));
    assert_eq!((inbox.len(), inbox.overflows()), (1, 1));
}

/// A shard that sleeps as soon as it may, against writers that wake it: it must always wake.
#[test]
fn no_wake_up_is_lost_on_the_way_back() {
    const ROUNDS: u32 = 30_000;
    let inbox = Arc::new(Inbox::new(8));
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    inbox.set_waker(Box::new(move || unparker.unpark()));
    let received = Arc::new(AtomicU32::new(0));
    let writer = {
        let (inbox, received) = (Arc::clone(&inbox), Arc::clone(&received));
        thread::spawn(move || {
            for round in 0..ROUNDS {
                inbox.push(verdict(round));
                inbox.wake();
                if round % 7 != 0 || inbox.len() > 4 {
                    while received.load(Ordering::SeqCst) != round + 1 {
                        thread::yield_now();
                    }
                }
            }
        })
    };
    let mut next = 0;
    while next < ROUNDS {
        while let Some(verdict) = inbox.pop() {
            assert_eq!(verdict.exchange, next);
            next += 1;
            received.store(next, Ordering::SeqCst);
        }
        if next < ROUNDS && inbox.prepare_sleep() {
            let before = Instant::now();
            parker.park_timeout(Duration::from_secs(20));
            assert!(
                before.elapsed() < Duration::from_secs(20),
                "nobody woke the shard"
            );
            inbox.awake();
        }
    }
    writer.join().unwrap();
    assert_eq!(inbox.overflows(), 0);
}

#[test]
fn any_number_of_revocations_is_one_message_that_is_never_lost() {
    let inbox = Inbox::new(1);
    assert_eq!(inbox.take_revoked_since(), None);
    for at in [70, 50, 90] {
        inbox.revoke_since(at);
    }
    assert!(!inbox.prepare_sleep(), "there is something to do");
    assert_eq!(inbox.take_revoked_since(), Some(50));
    assert_eq!(inbox.take_revoked_since(), None);
    assert!(inbox.prepare_sleep());
    let woken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&woken);
    inbox.set_waker(Box::new(move || flag.store(true, Ordering::SeqCst)));
    inbox.revoke_since(60);
    assert!(woken.load(Ordering::SeqCst));
}

fn lookup(shard: u16, handshake: u64) -> crate::auth::request::CredentialRequest {
    crate::auth::request::CredentialRequest {
        peer: request(shard, 0).peer,
        handshake,
        identity: [1; 32],
    }
}

#[test]
fn look_ups_have_bounded_queues_of_their_own_and_shards_take_turns() {
    let (queues, mut workers) = RequestQueues::new(2, 3, 1);
    let (busy, quiet) = (queues.shard(0).unwrap(), queues.shard(1).unwrap());
    for handshake in 0..3 {
        busy.submit_credential(lookup(0, handshake)).unwrap();
    }
    assert_eq!(
        busy.submit_credential(lookup(0, 3)),
        Err(Full(lookup(0, 3)))
    );
    busy.submit(request(0, 1)).unwrap();
    quiet.submit_credential(lookup(1, 9)).unwrap();
    assert!(!queues.is_empty());
    let worker = &mut workers[0];
    let first: Vec<_> = (0..2).filter_map(|_| worker.pop_credential()).collect();
    assert!(first.contains(&lookup(1, 9)), "{first:?}");
    let rest = std::iter::from_fn(|| worker.pop_credential()).count();
    assert_eq!(rest, 2);
    let mut requests = Vec::new();
    assert_eq!(worker.take_now(&mut requests), 1);
    assert!(queues.is_empty());
}

/// A worker that sleeps is woken by a look-up alone, and closing leaves none unanswered.
#[test]
fn a_look_up_wakes_a_worker() {
    let (queues, mut workers) = RequestQueues::new(1, 8, 1);
    let mut worker = workers.pop().unwrap();
    let thread = thread::spawn(move || {
        let (mut requests, mut answered) = (Vec::new(), 0);
        while worker.take(&mut requests) {
            while worker.pop_credential().is_some() {
                answered += 1;
            }
        }
        (requests.len(), answered)
    });
    let shard = queues.shard(0).unwrap();
    shard.submit_credential(lookup(0, 1)).unwrap();
    shard.notify();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !queues.is_empty() {
        assert!(Instant::now() < deadline, "nobody took it");
        thread::sleep(Duration::from_millis(1));
    }
    shard.submit_credential(lookup(0, 2)).unwrap();
    queues.close();
    assert_eq!(thread.join().unwrap(), (0, 2));
}

#[test]
fn an_answer_keeps_a_shard_awake() {
    let inbox = Inbox::new(1);
    assert!(inbox.prepare_sleep());
    let verdict = crate::auth::request::CredentialVerdict {
        request: lookup(0, 1),
        key: None,
    };
    inbox.push_credential(verdict.clone());
    assert!(!inbox.prepare_sleep());
    assert_eq!(inbox.pop_credential(), Some(verdict));
    assert!(inbox.prepare_sleep());
}
