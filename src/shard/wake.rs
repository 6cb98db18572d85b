//! Waking a shard from other threads, whichever way it sleeps.
//!
//! A shard that expects to be needed soon sleeps in a system call of its own, on its sockets and on
//! an event descriptor; one that does not sleeps in the executor. The first way costs one system call,
//! the second a dozen, so that only a shard that is idle goes there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;

use super::socket::event_descriptor;

/// Wakes one shard.
#[derive(Debug)]
pub(super) struct Wake {
    event: File,
    /// The shard sleeps in the executor, or is about to.
    in_executor: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: event_descriptor()?,
            in_executor: AtomicBool::new(false),
            waker: OnceLock::new(),
        })
    }

    /// Readable after [`Self::wake`], unless the shard slept in the executor.
    pub(super) const fn event(&self) -> &File {
        &self.event
    }

    /// Takes what [`Self::wake`] wrote. Waits when it wrote nothing.
    pub(super) fn clear(&self) {
        // A descriptor of our own that is there to be read.
        let _ = (&self.event).read(&mut [0; 8]);
    }

    /// Sets how the executor is told. Only the first call counts.
    pub(super) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Says where the shard is about to sleep. Called by the shard before it announces its sleep
    /// ([`crate::queue::Inbox::prepare_sleep`], which has the fence that this one faces).
    pub(super) fn sleep_in_executor(&self, in_executor: bool) {
        self.in_executor.store(in_executor, Ordering::SeqCst);
    }

    /// Wakes the shard, or keeps it from going to sleep.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        match self.waker.get() {
            Some(waker) if self.in_executor.load(Ordering::SeqCst) => waker.wake_by_ref(),
            // The counter never gets full, so the write neither fails nor waits.
            _ => drop((&self.event).write(&1_u64.to_ne_bytes())),
        }
    }
}
