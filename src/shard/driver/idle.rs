//! Sleeping in the executor, for a shard that has nothing to do.
//!
//! The executor makes a timer for each sleep, and an operation for each that datagrams end: a handful
//! of allocations, which nobody waits for, as a shard gets here only after it had nothing to do for a
//! while (`LINGER`). A shard with work sleeps in [`super::Driver::wait`], which allocates nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;

use crate::shard::socket::{Socket, event_in_executor, in_executor};

type Pending = Pin<Box<dyn Future<Output = ()>>>;

/// What ends the sleep: operations on the executor's ring, each begun when it is first needed and
/// kept from one sleep to the next.
pub(in crate::shard) struct Sleeper(Vec<Source>);

struct Source {
    begin: Box<dyn Fn() -> Pending>,
    pending: Option<Pending>,
}

impl Source {
    fn new<F: Future<Output = ()> + 'static>(begin: impl Fn() -> F + 'static) -> Self {
        Self {
            begin: Box::new(move || Box::pin(begin())),
            pending: None,
        }
    }
}

impl Sleeper {
    /// Sleeps on sockets: a datagram stays where it is. An error (such as a port unreachable that came
    /// back) is consumed by the wait.
    pub(super) fn on_sockets<'a>(sockets: impl Iterator<Item = &'a Socket>) -> io::Result<Self> {
        let source = |socket: &Socket| {
            let socket = Rc::new(in_executor(socket)?);
            Ok(Source::new(move || {
                let socket = Rc::clone(&socket);
                async move { drop(socket.peek_from(&mut [0; 1]).await) }
            }))
        };
        sockets.map(source).collect::<io::Result<_>>().map(Self)
    }

    /// Sleeps on an event, and clears it.
    pub(super) fn on_event(event: &std::fs::File) -> io::Result<Self> {
        let event = Rc::new(event_in_executor(event)?);
        Ok(Self(vec![Source::new(move || {
            let event = Rc::clone(&event);
            async move { drop(event.read_at(0, 8).await) }
        })]))
    }

    /// Sleeps until something happens or the task is woken, at most `time`.
    pub(in crate::shard) async fn sleep(&mut self, time: Duration) {
        let mut timer = Timer::new(time);
        let mut is_first = true;
        poll_fn(|context| {
            let mut is_over = Pin::new(&mut timer).poll(context).is_ready();
            for source in &mut self.0 {
                let pending = source.pending.get_or_insert_with(|| (source.begin)());
                if pending.as_mut().poll(context).is_ready() {
                    source.pending = None;
                    is_over = true;
                }
            }
            // Polled again without any of these: whoever woke the task wants it awake.
            if is_over || !std::mem::take(&mut is_first) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
