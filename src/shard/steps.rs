//! The steps of a shard's turn.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::driver::{Counts, Handler, Received};
use super::handover::Neighbours;
use super::socket::{BATCH, Datagram};
use super::{Shard, State, downlink};
use crate::drop_reason::DropReason;
use crate::endpoint::{AHEAD, Endpoint, Local, Note, Outbox, Port};
use crate::metrics::Counter;
use crate::time::Now;

/// Verdicts handled in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// Full batches in a row from which on the sockets count as under pressure.
const PRESSURE_BATCHES: u32 = 8;
/// Peers looked at in one turn when a credential has ended.
const REVOCATION_SLOTS_PER_TURN: u32 = 4096;
/// Datagrams of other shards handled in one turn: as many as a socket's turn has.
const HANDOVERS_PER_TURN: u64 = BATCH as u64;
/// Log lines about peers that a shard writes in one second.
const NOTES_PER_SECOND: u32 = 10;

/// The datagrams of a turn on their way to the endpoint.
struct Arrivals<'a> {
    shard: &'a Shard,
    endpoint: &'a mut Endpoint,
    outbox: &'a mut Outbox,
    neighbours: &'a mut Neighbours,
    /// Read when the first one comes.
    now: Option<Now>,
    datagrams: [u64; 2],
    bytes: [u64; 2],
}

impl Handler for Arrivals<'_> {
    fn foresee(&mut self, arrivals: &mut dyn Iterator<Item = (SocketAddr, Local)>) {
        self.endpoint.foresee(arrivals);
    }

    fn handle(&mut self, port: Port, datagram: Datagram<'_>) {
        let shard = self.shard;
        let now = *self.now.get_or_insert_with(|| shard.clock.now());
        let Datagram {
            from,
            at,
            bytes,
            truncated,
        } = datagram;
        self.datagrams[port as usize] += 1;
        if truncated {
            shard.metrics.count_drop(DropReason::DatagramTruncated);
            return;
        }
        self.bytes[port as usize] += bytes.len() as u64;
        self.neighbours.count_arrival(port, bytes, &shard.metrics);
        let local = Local { port, address: at };
        shard.handle_datagram(now, from, local, bytes, self.endpoint, self.outbox);
    }
}

impl Shard {
    /// Handles a batch of datagrams, and reads the clock for the turn.
    pub(super) fn receive(&self, state: &mut State) -> io::Result<(Now, Received)> {
        let State {
            endpoint,
            outbox,
            full_batches,
            driver,
            neighbours,
            losses,
            ..
        } = state;
        endpoint.begin_turn(*full_batches > PRESSURE_BATCHES);
        let mut arrivals = Arrivals {
            shard: self,
            endpoint,
            outbox,
            neighbours,
            now: None,
            datagrams: [0; 2],
            bytes: [0; 2],
        };
        let received = driver.receive(&mut arrivals)?;
        let Arrivals {
            now: read,
            datagrams,
            bytes,
            ..
        } = arrivals;
        let now = read.unwrap_or_else(|| self.clock.now());
        *full_batches = if received.is_empty {
            0
        } else {
            *full_batches + 1
        };
        if received.datagrams > 0 {
            let metrics = &self.metrics;
            metrics.increment(Counter::ReceiveBatches);
            metrics.add(Counter::DatagramsReceivedCoap, datagrams[0]);
            metrics.add(Counter::DatagramsReceivedCoaps, datagrams[1]);
            metrics.add(Counter::BytesReceivedCoap, bytes[0]);
            metrics.add(Counter::BytesReceivedCoaps, bytes[1]);
            neighbours.hand_over(&mut outbox.handovers, metrics);
            losses.on_received(now.instant, metrics);
            self.submit(now, endpoint, outbox);
        }
        Ok((now, received))
    }

    /// Handles handshake datagrams that wait, as long as there is time; whether any wait still.
    pub(super) fn handle_waiting(
        &self,
        turn: Now,
        received: Received,
        state: &mut State,
    ) -> io::Result<bool> {
        if !state.endpoint.has_waiting() {
            return Ok(false);
        }
        let State {
            endpoint,
            outbox,
            share,
            ..
        } = &mut *state;
        let mut now = self.clock.now();
        let time = now.instant.saturating_duration_since(turn.instant);
        share.on_batch(now.instant, time, received.is_empty, endpoint.last_data());
        while share.is_left() {
            let Some(mut datagram) = endpoint.next_waiting(now) else {
                break;
            };
            let from = datagram.from();
            self.guarded_datagram(from, datagram.local(), endpoint, |endpoint| {
                endpoint.handle_waiting(now, &mut datagram, outbox);
            });
            let end = self.clock.now();
            share.spend(end.instant.saturating_duration_since(now.instant));
            now = end;
        }
        let more = endpoint.has_waiting();
        self.submit(now, endpoint, outbox);
        self.flush(state)?;
        Ok(more)
    }

    /// Hands one datagram to the endpoint.
    fn handle_datagram(
        &self,
        now: Now,
        from: SocketAddr,
        local: Local,
        datagram: &mut [u8],
        endpoint: &mut Endpoint,
        outbox: &mut Outbox,
    ) {
        self.guarded_datagram(from, local, endpoint, |endpoint| {
            endpoint.handle_datagram(now, from, local, datagram, outbox);
        });
    }

    /// Runs what one datagram leads to. Should it panic, which is a defect of ours, the peer goes, and
    /// the shard and all others stay; what is in the outbox stays, and requests there go to the pool, as
    /// each holds a permit.
    pub(super) fn guarded_datagram(
        &self,
        from: SocketAddr,
        local: Local,
        endpoint: &mut Endpoint,
        handle: impl FnOnce(&mut Endpoint),
    ) {
        if catch_unwind(AssertUnwindSafe(|| handle(endpoint))).is_err() {
            tracing::error!(shard = self.index, peer = %from, "handling a datagram panicked");
            endpoint.forget(from, local);
        }
    }

    /// Hands the requests of a step to the pool.
    fn submit(&self, now: Now, endpoint: &mut Endpoint, outbox: &mut Outbox) {
        if outbox.requests.is_empty() && outbox.credential_requests.is_empty() {
            return;
        }
        let mut requests = std::mem::take(&mut outbox.requests);
        for request in requests.drain(..) {
            if let Err(full) = self.queue.submit(request) {
                endpoint.handle_refusal(now, full.0, outbox);
            }
        }
        outbox.requests = requests;
        for request in outbox.credential_requests.drain(..) {
            if let Err(full) = self.queue.submit_credential(request) {
                endpoint.handle_credential_refusal(&full.0);
            }
        }
        self.queue.notify();
    }

    /// Answers one question of an administrator; whether there was one.
    pub(super) fn take_inspection(&self, now: Now, state: &mut State) -> bool {
        let Some(inspection) = self.inbox.pop_inspection() else {
            return false;
        };
        self.guarded("looking at sessions", now, state, |state| {
            state.endpoint.inspect(now, inspection, &mut state.outbox);
        });
        true
    }

    /// One turn of the search for sessions whose credential has ended; whether there is more to do.
    pub(super) fn drop_revoked(&self, now: Now, state: &mut State) -> bool {
        let since = self.inbox.take_revoked_since();
        let mut more = false;
        self.guarded("dropping sessions", now, state, |state| {
            if let Some(since) = since {
                state.endpoint.revoke_since(since);
            }
            more = state
                .endpoint
                .drop_revoked(REVOCATION_SLOTS_PER_TURN, &mut state.outbox);
        });
        more
    }

    /// One turn of the inbox; whether there was anything in it.
    pub(super) fn take_verdicts(&self, now: Now, state: &mut State) -> bool {
        let mut taken = 0;
        self.guarded("taking verdicts", now, state, |state| {
            state.downlink.take(&self.inbox);
            while taken < VERDICTS_PER_TURN
                && let Some(verdict) = self.inbox.pop_credential()
            {
                taken += 1;
                state
                    .endpoint
                    .handle_credential_verdict(now, &verdict, &mut state.outbox);
            }
            while taken < VERDICTS_PER_TURN {
                let verdicts = &mut state.verdicts;
                verdicts.extend(std::iter::from_fn(|| self.inbox.pop()).take(AHEAD));
                if verdicts.is_empty() {
                    break;
                }
                taken += verdicts.len();
                state.endpoint.foresee_verdicts(verdicts);
                // Taken one by one, so that a panic leaves the others: each returns a permit.
                verdicts.reverse();
                while let Some(verdict) = state.verdicts.pop() {
                    state
                        .endpoint
                        .handle_verdict(now, verdict, &mut state.outbox);
                }
            }
            if self.inbox.is_empty() {
                for notification in state.downlink.release() {
                    taken += 1;
                    state
                        .endpoint
                        .handle_notification(now, notification, &mut state.outbox);
                }
            }
        });
        state.pace.add(taken);
        taken > 0
    }

    /// One turn of the datagrams that other shards received and this one owns; whether there were any.
    pub(super) fn take_handovers(&self, now: Now, state: &mut State) -> bool {
        let State {
            endpoint, outbox, ..
        } = state;
        let mut taken = 0;
        while taken < HANDOVERS_PER_TURN
            && let Some(mut handover) = self.inbox.pop_handover()
        {
            taken += 1;
            let (from, local) = (handover.from, handover.local);
            self.handle_datagram(now, from, local, &mut handover.datagram, endpoint, outbox);
        }
        if taken == 0 {
            return false;
        }
        self.metrics.add(Counter::HandoversReceived, taken);
        // Never a second time, or two shards that disagree would pass it to and fro.
        for _ in outbox.handovers.drain(..) {
            self.metrics.count_drop(DropReason::HandoverAstray);
        }
        self.submit(now, endpoint, outbox);
        true
    }

    /// Does what is due; whether anything was.
    pub(super) fn handle_timeouts(&self, now: Now, state: &mut State) -> bool {
        if state.endpoint.next_timeout() > now.instant {
            return false;
        }
        self.guarded("handling timeouts", now, state, |state| {
            if let Some(sweep) = state.endpoint.handle_timeout(now, &mut state.outbox) {
                tracing::info!(
                    shard = self.index,
                    dropped = sweep.dropped,
                    sessions = sweep.sessions,
                    "swept idle sessions"
                );
            }
        });
        true
    }

    /// Runs a step that concerns many peers. Should it panic, which is a defect of ours, nobody
    /// knows which peer's state is broken: the shard goes on without any, and with all its permits.
    pub(super) fn guarded(
        &self,
        step_name: &str,
        now: Now,
        state: &mut State,
        step: impl FnOnce(&mut State),
    ) {
        if catch_unwind(AssertUnwindSafe(|| step(state))).is_err() {
            tracing::error!(
                shard = self.index,
                "{step_name} panicked: all sessions are dropped"
            );
            let lost = std::mem::take(&mut state.outbox);
            state.endpoint.forget_all(now);
            for request in lost.requests {
                state
                    .endpoint
                    .handle_refusal(now, request, &mut state.outbox);
            }
            for request in &lost.credential_requests {
                state.endpoint.handle_credential_refusal(request);
            }
            while let Some(verdict) = state.verdicts.pop() {
                state
                    .endpoint
                    .handle_verdict(now, verdict, &mut state.outbox);
            }
        }
    }

    /// Sends what the steps left in the outbox.
    pub(super) fn flush(&self, state: &mut State) -> io::Result<()> {
        let State {
            endpoint,
            outbox,
            driver,
            ..
        } = state;
        for note in outbox.take_notes() {
            self.log(note);
        }
        driver.send(outbox)?;
        self.count(driver.take_counts());
        state.report_due = downlink::report(endpoint, &self.queue, &self.clock);
        Ok(())
    }

    fn count(&self, counts: Counts) {
        if counts == Counts::default() {
            return;
        }
        let metrics = &self.metrics;
        metrics.add(Counter::DatagramsSentCoap, counts.sent[0]);
        metrics.add(Counter::DatagramsSentCoaps, counts.sent[1]);
        metrics.add(Counter::BytesSentCoap, counts.sent_bytes[0]);
        metrics.add(Counter::BytesSentCoaps, counts.sent_bytes[1]);
        metrics.add(Counter::ReceiveErrors, counts.receive_errors);
        metrics.add(Counter::BuffersExhausted, counts.buffers_exhausted);
        metrics.add(
            Counter::CompletionsOverflowed,
            counts.completions_overflowed,
        );
        for _ in 0..counts.refused {
            metrics.count_drop(DropReason::SendFailed);
        }
    }

    /// Logs what a peer did, a bounded number of times a second: peers decide how often it happens. Not so
    /// what the endpoint itself says seldom.
    fn log(&self, note: Note) {
        if let Note::SessionsFull(sessions) = note {
            tracing::warn!(
                shard = self.index,
                sessions,
                "the shard holds as many sessions as it may, and none was found that gives way: new devices find no room \
                 until some end; raise TIDEGATE_SESSIONS_MAX, or lower TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT"
            );
            return;
        }
        let second = self.clock.instant().as_micros() / 1_000_000;
        let (last, logged) = self.notes_logged.get();
        let logged = if last == second { logged } else { 0 };
        if logged >= NOTES_PER_SECOND {
            return;
        }
        self.notes_logged.set((second, logged + 1));
        match note {
            Note::Failed(peer, error) => tracing::info!(%peer, %error, "DTLS ended"),
            Note::Alert(peer, alert) => tracing::info!(%peer, %alert, "the peer sent an alert"),
            Note::SessionsFull(_) => {}
        }
    }
}
