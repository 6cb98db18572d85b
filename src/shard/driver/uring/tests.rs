//! What only a ring has: buffers and queues that run out, and memory that the kernel holds.

use std::net::UdpSocket;

use io_uring::squeue;

use super::*;
use crate::shard::clock::Clock;
use crate::shard::driver::tests::each;

const PATIENCE: Duration = Duration::from_secs(20);

fn open(sizes: RingSizes) -> (RingDriver, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let ports = vec![(Port::Secure, Socket::from(socket))];
    let wake = Arc::new(Wake::new().unwrap());
    (RingDriver::open(ports, wake, sizes).unwrap(), client)
}

/// Takes `count` datagrams, whose first byte must count up from 0.
fn receive_in_order(driver: &mut RingDriver, count: u8) {
    let mut next = 0;
    let clock = Clock::start();
    let end = clock.instant() + PATIENCE;
    while next < count {
        assert!(clock.instant() < end, "{next} of {count}");
        driver
            .receive(&mut each(|_, datagram| {
                assert_eq!(datagram.bytes, [next; 40]);
                next += 1;
            }))
            .unwrap();
        driver.wait(Duration::from_millis(1)).unwrap();
    }
}

#[test]
fn when_the_buffers_run_out_datagrams_wait_in_the_socket() {
    let (mut driver, client) = open(RingSizes {
        buffers: 4,
        submissions: 8,
        completions: 16,
    });
    for round in 0..3 {
        for number in 0..100 {
            client.send(&[number; 40]).unwrap();
        }
        receive_in_order(&mut driver, 100);
        let counts = driver.take_counts();
        assert!(counts.buffers_exhausted > 0, "round {round}: {counts:?}");
        assert_eq!(counts.receive_errors, 0);
    }
}

/// What handshakes may take of the time depends on it.
#[test]
fn a_socket_counts_as_empty_only_when_nothing_is_left_in_it() {
    for sizes in [
        RingSizes::default(),
        RingSizes {
            buffers: 16,
            submissions: 8,
            completions: 32,
        },
    ] {
        let (mut driver, client) = open(sizes);
        for _ in 0..3 {
            for number in 0..150 {
                client.send(&[number; 40]).unwrap();
            }
            let mut taken = 0;
            loop {
                let received = driver.receive(&mut each(|_, _| {})).unwrap();
                taken += received.datagrams;
                if received.is_empty {
                    break;
                }
                driver.wait(Duration::from_millis(1)).unwrap();
            }
            assert_eq!(taken, 150, "{sizes:?}");
        }
    }
}

#[test]
fn when_the_completion_queue_is_full_the_kernel_keeps_the_rest() {
    let (mut driver, client) = open(RingSizes {
        buffers: 128,
        submissions: 4,
        completions: 8,
    });
    for round in 0..3 {
        for number in 0..100 {
            client.send(&[number; 40]).unwrap();
        }
        receive_in_order(&mut driver, 100);
        let counts = driver.take_counts();
        assert!(
            counts.completions_overflowed > 0,
            "round {round}: {counts:?}"
        );
    }
}

#[test]
fn an_outbox_longer_than_the_submission_queue_is_sent_whole() {
    let (mut driver, client) = open(RingSizes {
        buffers: 4,
        submissions: 4,
        completions: 8,
    });
    let mut outbox = Outbox::default();
    let to = client.local_addr().unwrap();
    for number in 0..100 {
        outbox.push(to, Port::Secure, &[number; 40]);
    }
    driver.send(&mut outbox).unwrap();
    for number in 0..100 {
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number; 40]);
    }
    driver.wait(Duration::ZERO).unwrap();
    driver.receive(&mut each(|_, _| {})).unwrap();
    assert_eq!(driver.take_counts().sent[Port::Secure as usize], 100);
    assert_eq!(driver.memory.free_flight(), Some(0));
}

#[test]
fn when_all_flights_are_under_way_an_outbox_is_lost_and_counted() {
    let (mut driver, client) = open(RingSizes::default());
    let to = client.local_addr().unwrap();
    let mut outbox = Outbox::default();
    for flight in &mut driver.memory.flights {
        flight.under_way += 1;
    }
    outbox.push(to, Port::Secure, b"lost");
    driver.send(&mut outbox).unwrap();
    assert!(outbox.is_sent());
    assert_eq!(driver.take_counts().refused, 1);
    driver.memory.end_send(2);
    outbox.push(to, Port::Secure, b"sent");
    driver.send(&mut outbox).unwrap();
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"sent");
}

/// Sends that the kernel's own threads carry on while the ring ends.
#[test]
fn memory_of_sends_outlives_their_end() {
    for _ in 0..20 {
        let (mut driver, client) = open(RingSizes::default());
        let to = client.local_addr().unwrap();
        let mut outbox = Outbox::default();
        for number in 0..50 {
            outbox.push(to, Port::Secure, &[number; 1000]);
        }
        driver.memory.flights[0].load(&mut outbox, |_| None);
        for index in 0..50 {
            let entry = driver.memory.flights[0]
                .entry(index, 0, libc::MSG_NOSIGNAL)
                .flags(squeue::Flags::ASYNC)
                .user_data(send(0, 0).encode());
            // SAFETY: as in `RingDriver::send`.
            unsafe { driver.ring.submission().push(&entry) }.unwrap();
            driver.memory.flights[0].under_way += 1;
            driver.under_way += 1;
        }
        driver.enter(0, None).unwrap();
        assert!(driver.quiesce(), "{} are left", driver.under_way);
        assert_eq!(driver.memory.free_flight(), Some(0));
        let counts = driver.take_counts();
        let sent = counts.sent[Port::Secure as usize];
        assert_eq!(sent + counts.refused, 50);
        drop(driver);
        for _ in 0..sent {
            let mut buffer = [0; 2000];
            let length = loop {
                // What the kernel does for a ring that ends may interrupt.
                match client.recv(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    received => break received.unwrap(),
                }
            };
            assert_eq!(buffer[..length], [buffer[0]; 1000]);
        }
    }
}

#[test]
fn a_ring_that_ends_frees_its_port() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let ports = vec![(Port::Plain, Socket::from(socket))];
    let wake = Arc::new(Wake::new().unwrap());
    let driver = RingDriver::open(ports, wake, RingSizes::default()).unwrap();
    assert!(UdpSocket::bind(address).is_err());
    drop(driver);
    UdpSocket::bind(address).unwrap();
}

/// A connected socket hears of a port unreachable, as an error of its receive.
#[test]
fn a_receive_that_fails_is_counted_and_asked_for_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = gone.local_addr().unwrap();
    socket.connect(to).unwrap();
    drop(gone);
    let ports = vec![(Port::Secure, Socket::from(socket))];
    let wake = Arc::new(Wake::new().unwrap());
    let mut driver = RingDriver::open(ports, wake, RingSizes::default()).unwrap();
    let clock = Clock::start();
    let end = clock.instant() + PATIENCE;
    let mut outbox = Outbox::default();
    outbox.push(to, Port::Secure, b"nobody is there");
    driver.send(&mut outbox).unwrap();
    while driver.hears() {
        assert!(clock.instant() < end);
        driver.wait(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(driver.take_counts().receive_errors, 1);
    // Whoever does not hear sleeps neither long nor in the executor.
    assert!(!driver.prepare_idle().unwrap());
    driver.wait(PATIENCE).unwrap();
    assert!(clock.instant() < end);
    let client = UdpSocket::bind(to).unwrap();
    client.send_to(&[0; 40], server).unwrap();
    receive_in_order(&mut driver, 1);
    assert!(driver.hears());
    assert_eq!(driver.take_counts().receive_errors, 0);
}

/// Takes completions as a kernel drops them that has no memory to keep them in, beside `others` that
/// never were; returns how many.
fn lose_completions(driver: &mut RingDriver, others: u32) -> u32 {
    let lost = u32::try_from(driver.ring.completion().count()).unwrap() + others;
    driver.dropped_known = driver.dropped_known.wrapping_sub(lost);
    lost
}

/// Has the kernel complete what it can, so that the completions can be lost.
fn complete_unseen(driver: &RingDriver) {
    driver.ring.submit_and_wait(1).unwrap();
}

/// The kernel drops completions under want of memory only, so the test takes them away.
#[test]
fn completions_that_are_lost_cost_datagrams_but_not_the_ring() {
    let sizes = RingSizes {
        buffers: 4,
        submissions: 8,
        completions: 16,
    };
    let (mut driver, client) = open(sizes);
    for round in 0..20 {
        // All buffers are filled, the receive ends for want of more, a send ends, somebody wakes the
        // shard, and nobody is told of any of it.
        for _ in 0..8 {
            client.send(b"lost with its buffer").unwrap();
        }
        driver.wake.wake();
        driver.memory.flights[1].under_way += 1;
        driver.under_way += 1;
        complete_unseen(&driver);
        let lost = lose_completions(&mut driver, 1);
        assert!(lost >= 6, "round {round}: {lost}");
        assert!(driver.hears() && driver.wake_armed, "so it believes");
        driver.recover().unwrap();
        let counts = driver.take_counts();
        assert_eq!(counts.refused, 1, "the send is given up");
        assert!(counts.completions_overflowed > 0);
        assert_eq!(driver.memory.free_flight(), Some(0));
        assert!(driver.wake_armed);
        // Those that found no buffer waited in the socket.
        let mut waited = 0;
        let clock = Clock::start();
        let end = clock.instant() + PATIENCE;
        while waited < 4 {
            assert!(clock.instant() < end, "{waited} of 4");
            let count = &mut waited;
            driver.receive(&mut each(|_, _| *count += 1)).unwrap();
            driver.wait(Duration::from_millis(1)).unwrap();
        }
        for number in 0..100 {
            client.send(&[number; 40]).unwrap();
        }
        receive_in_order(&mut driver, 100);
    }
    assert!(driver.quiesce(), "{} are left", driver.under_way);
}

/// EBADR is how the kernel tells whoever waits that it dropped completions.
#[test]
fn only_errors_that_nothing_can_be_done_about_end_the_ring() {
    let failed = |error| outcome(Err(io::Error::from_raw_os_error(error)));
    assert_eq!(failed(libc::EBADR).unwrap(), Entered::Lost);
    for passing in [libc::ETIME, libc::EINTR, libc::EAGAIN, libc::EBUSY] {
        assert_eq!(failed(passing).unwrap(), Entered::Well);
    }
    let error = failed(libc::EBADF).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

/// Whoever sleeps in the executor does not wait on the ring, nor does a shard that always has something to
/// do: both are told by the count alone.
#[test]
fn a_shard_that_does_not_wait_on_the_ring_notices_what_was_lost() {
    let sleeps = |driver: &mut RingDriver| {
        driver.prepare_idle().unwrap();
        driver.end_idle();
    };
    let goes_on = |driver: &mut RingDriver| driver.enter(0, None).unwrap();
    for look in [sleeps as fn(&mut RingDriver), goes_on] {
        let (mut driver, client) = open(RingSizes::default());
        client.send(b"lost").unwrap();
        complete_unseen(&driver);
        assert_eq!(lose_completions(&mut driver, 0), 1);
        look(&mut driver);
        assert_eq!(driver.dropped(), 0);
        assert_eq!(driver.take_counts().completions_overflowed, 1);
        client.send(&[0; 40]).unwrap();
        receive_in_order(&mut driver, 1);
    }
}
