//! How the operations of a ring end: with the ring, or to begin anew after completions were lost.

use std::io;
use std::mem;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};

use super::{GROUP, RingDriver};

/// How long an end waits for operations that are under way, in all.
const QUIESCE_STEP: Duration = Duration::from_millis(20);
const QUIESCE_STEPS: u32 = 50;

impl RingDriver {
    /// Completions that the kernel dropped and that were not seen to.
    pub(super) fn dropped(&mut self) -> u32 {
        let dropped = self.ring.completion().overflow();
        dropped.wrapping_sub(self.dropped_known)
    }

    /// Goes on after completions were lost. Datagrams that have arrived stay; those in buffers of lost
    /// completions are lost as on the way, and sends that nobody told of the end of count as refused.
    #[cold]
    pub(super) fn recover(&mut self) -> io::Result<()> {
        self.counts.completions_overflowed += 1;
        self.losses += 1;
        if self.losses.is_power_of_two() {
            tracing::warn!(
                times = self.losses,
                "the kernel dropped completions of the ring for want of memory: its operations begin \
                 anew"
            );
        }
        if !self.end_operations() {
            return Err(io::Error::other(
                "completions of the ring were lost, and its operations do not end",
            ));
        }
        self.dropped_known = self.ring.completion().overflow();
        self.under_way = 0;
        self.wake_armed = false;
        for port in &mut self.ports {
            port.armed = false;
        }
        for flight in &mut self.memory.flights {
            self.counts.refused += mem::take(&mut flight.under_way) as u64;
        }
        self.ring.submitter().unregister_buf_ring(GROUP)?;
        self.begin()
    }

    /// Ends every operation and waits until the kernel has let go of [`Memory`]; whether it did.
    pub(super) fn quiesce(&mut self) -> bool {
        self.closing = true;
        let has_ended = self.end_operations();
        // Without operations nobody looks at the buffers, whatever these say. The port is free at once
        // when the ring lets go of its sockets here: it ends later than the descriptor.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        let _ = self.ring.submitter().unregister_files();
        has_ended
    }

    /// Ends every operation; whether none is left.
    fn end_operations(&mut self) -> bool {
        // What is queued must be under way before it can be cancelled.
        let mut is_well = self.enter_once(0, None).is_ok();
        let step = Timespec::from(QUIESCE_STEP);
        for _ in 0..QUIESCE_STEPS {
            if self.under_way == 0 || !is_well {
                break;
            }
            let before = self.progress();
            // May fail when nothing is left to cancel, or what is left takes its time: that is counted.
            let submitter = self.ring.submitter();
            let cancelled = submitter.register_sync_cancel(Some(step), CancelBuilder::any());
            is_well = self.enter_once(0, Some(Duration::ZERO)).is_ok();
            // The kernel has taken all that was queued and found nothing to cancel, and what it has not
            // told the end of is no more than what it dropped.
            let found_all = cancelled.is_ok() || is_not_found(&cancelled);
            let is_still = found_all && before == self.progress();
            let is_taken = self.ring.submission().is_empty();
            if is_well && is_still && is_taken && self.under_way <= self.dropped() as usize {
                return true;
            }
            if self.under_way > 0 {
                is_well &= self.enter_once(1, Some(QUIESCE_STEP)).is_ok();
            }
        }
        self.under_way == 0
    }

    /// What changes with every completion, be it seen or dropped.
    fn progress(&mut self) -> (usize, usize, u32) {
        (self.under_way, self.arrivals.len(), self.dropped())
    }
}

fn is_not_found(result: &io::Result<()>) -> bool {
    let error = result.as_ref().err().and_then(io::Error::raw_os_error);
    error == Some(libc::ENOENT)
}
