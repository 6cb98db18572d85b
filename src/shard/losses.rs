//! Datagrams that the kernel dropped because a socket's buffer was full: a shard that is slower than its
//! senders loses them there, before it ever sees them.
//!
//! The kernel counts them for each socket, and is asked once a second while datagrams come, and
//! before the shard goes to sleep in its executor. So an idle shard asks nothing, and what is shown is
//! never old by more than that.

use std::io;
use std::time::Duration;

use super::socket::Socket;
use crate::endpoint::Port;
use crate::metrics::{Counter, ShardMetrics};
use crate::time::Instant;

const PERIOD: Duration = Duration::from_secs(1);

/// What a shard's sockets lost; by default, it has none.
#[derive(Default)]
pub(super) struct Losses {
    sockets: Vec<Watched>,
    asked_at: Instant,
    /// Datagrams came since.
    is_stale: bool,
}

struct Watched {
    counter: Counter,
    socket: Socket,
    /// The kernel's count, of 32 bits, when it was asked last.
    seen: u32,
}

impl Losses {
    /// Watches second descriptors of the sockets.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn watch(sockets: &[(Port, Socket)], now: Instant) -> io::Result<Self> {
        let watch = |(port, socket): &(Port, Socket)| {
            Ok(Watched {
                counter: match port {
                    Port::Plain => Counter::SocketDropsCoap,
                    Port::Secure => Counter::SocketDropsCoaps,
                },
                socket: socket.try_clone()?,
                seen: 0,
            })
        };
        Ok(Self {
            sockets: sockets.iter().map(watch).collect::<io::Result<_>>()?,
            asked_at: now,
            is_stale: true,
        })
    }

    /// Datagrams were received.
    pub(super) fn on_received(&mut self, now: Instant, metrics: &ShardMetrics) {
        self.is_stale = true;
        if now.saturating_duration_since(self.asked_at) >= PERIOD {
            self.ask(now, metrics);
        }
    }

    /// The shard is about to sleep, perhaps for long.
    pub(super) fn on_idle(&mut self, now: Instant, metrics: &ShardMetrics) {
        if self.is_stale {
            self.ask(now, metrics);
        }
    }

    fn ask(&mut self, now: Instant, metrics: &ShardMetrics) {
        self.asked_at = now;
        self.is_stale = false;
        for watched in &mut self.sockets {
            // A kernel that does not say leaves the count as it is.
            if let Ok(count) = watched.socket.drops() {
                let new = count.wrapping_sub(watched.seen);
                watched.seen = count;
                metrics.add(watched.counter, new.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_finds_no_room_in_a_socket_is_counted_once() {
        let socket = Socket::bind_group("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        let overfill = || {
            let before = socket.drops().unwrap();
            while socket.drops().unwrap() < before + 10 {
                client.send(&[0; 1000]).unwrap();
            }
            u64::from(socket.drops().unwrap())
        };
        let (metrics, start) = (ShardMetrics::new(), Instant::from_micros(5_000_000));
        let count = || metrics.value(Counter::SocketDropsCoaps);
        let sockets = [(Port::Secure, socket.try_clone().unwrap())];
        let mut losses = Losses::watch(&sockets, start).unwrap();
        let lost = overfill();
        losses.on_received(start + PERIOD / 2, &metrics);
        assert_eq!(count(), 0, "asked too soon");
        losses.on_received(start + PERIOD, &metrics);
        assert_eq!(count(), lost);
        let lost = overfill();
        losses.on_idle(start + PERIOD, &metrics);
        assert_ne!(
            count(),
            lost,
            "asked, though nothing came that was received"
        );
        losses.on_received(start + PERIOD, &metrics);
        losses.on_idle(start + PERIOD, &metrics);
        assert_eq!(count(), lost);
        assert_eq!(metrics.value(Counter::SocketDropsCoap), 0);
    }
}
