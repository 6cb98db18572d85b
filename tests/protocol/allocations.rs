//! The way of application data allocates nothing.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::ClientConfig;
use tidegate::dtls::{Context, CookieJar, NoRevocations};
use tidegate::random::SeededRandom;
use tidegate::wire::DatagramSink;

use crate::link::{PEER, World};
use crate::support::server_config;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count per thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` with the arguments as they came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Takes datagrams and keeps nothing.
struct Discard;

impl DatagramSink for Discard {
    fn push_datagram(&mut self, datagram: &[u8]) {
        black_box(datagram);
    }
}

/// Records in and out of an established session, forged and replayed ones too, and the stateless
/// door: no allocation by us. (What the cryptographic library does in C is not seen here.)
#[test]
fn neither_data_nor_noise_allocates() {
    assert_eq!(
        allocations(|| drop(black_box(Box::new(1)))),
        1,
        "the count works"
    );
    for &suite in &CipherSuite::ALL[..7] {
        let config = ClientConfig {
            cipher_suites: vec![suite],
            ..ClientConfig::default()
        };
        let mut world = World::new(1, server_config(), &Arc::new(config));
        let hello = world.log[0].1.clone();
        assert!(world.establish());
        let mut datagrams: Vec<Vec<u8>> = (0..10).map(|_| world.client.seal(b"reading")).collect();
        let mut association = world.server.association.take().unwrap();
        let config = Arc::new(server_config());
        let cookies = CookieJar::new([1; 32]);
        let mut cx = Context {
            config: &config,
            cookies: &cookies,
            sessions: &tidegate::dtls::NO_SESSIONS,
            revocations: &NoRevocations,
            admit_handshakes: true,
            random: &mut SeededRandom::new(1),
            out: &mut Discard,
            drops: &mut |_| {},
        };
        let now = world.clock();
        // The first record frees the last flight and finds the keys expanded.
        association.handle_datagram(now, PEER, &mut datagrams[0], &mut cx);
        let (prefix, suffix) = association.record_overhead();
        let mut answer = vec![0; prefix + 40 + suffix];
        let mut forged = datagrams[9].clone();
        *forged.last_mut().unwrap() ^= 1;
        let mut read = 0;
        let count = allocations(|| {
            for datagram in &mut datagrams {
                read += association
                    .handle_datagram(now, PEER, datagram, &mut cx)
                    .plaintexts
                    .len();
                association.seal_application_data(&mut answer).unwrap();
            }
            association.handle_datagram(now, PEER, &mut forged, &mut cx);
        });
        assert_eq!((read, count), (9, 0), "{suite:?}");
        let mut hello = hello;
        let count = allocations(|| {
            tidegate::dtls::accept(now, PEER, &mut hello, &mut cx);
        });
        assert_eq!(count, 0, "the door");
    }
}
