//! What the server's messages mean to a device.

use tidegate::coap::client::ClientInput;
use tidegate::drop_reason::DropReason;
use tidegate::time::Instant;

use super::{Device, State, with_context};
use crate::fleet;
use crate::kit::Kit;
use crate::stats::{record, tally};

impl Device {
    pub(super) fn on_message(&mut self, now: Instant, message: &[u8], kit: &mut Kit<'_>) {
        let Self {
            exchange,
            link,
            way,
            ..
        } = self;
        let input = with_context(link, way, kit, |context| {
            exchange.handle_message(message, context)
        });
        match input {
            ClientInput::Acknowledged => {}
            ClientInput::Notification {
                code,
                observe,
                payload,
                ..
            } => {
                let payload = message.get(payload).unwrap_or_default();
                self.on_notification(now, (code, observe), payload, kit);
            }
            ClientInput::Answer { code, observe, .. } if kit.observes() => {
                self.on_registered(now, (code, observe), kit);
            }
            ClientInput::Answer { code, .. } => self.on_answer(now, code, kit),
            ClientInput::Reset => {
                kit.sample.counters.resets += 1;
                kit.sample.counters.failed += 1;
                self.on_request_over(now, kit);
            }
            ClientInput::Dropped(reason) => {
                kit.sample.counters.drops += 1;
                if is_wrong(reason) {
                    kit.sample.counters.wrong += 1;
                }
            }
        }
    }

    /// The registration as an observer was answered.
    fn on_registered(
        &mut self,
        now: Instant,
        (code, observe): (u8, Option<u32>),
        kit: &mut Kit<'_>,
    ) {
        let counters = &mut kit.sample.counters;
        if code >> 5 == 2 && observe.is_some() {
            counters.observers += 1;
        } else {
            counters.failed += 1;
            tally(&mut counters.codes, code);
        }
        self.on_request_over(now, kit);
    }

    /// A notification: of the next update, of one that was told already, or of the end.
    fn on_notification(
        &mut self,
        now: Instant,
        (code, observe): (u8, Option<u32>),
        payload: &[u8],
        kit: &mut Kit<'_>,
    ) {
        let update = fleet::number_of(payload).filter(|_| code >> 5 == 2);
        let issued = update.and_then(|number| Some((number, kit.control.update_issued(number)?)));
        let in_time = kit.is_measured(now);
        let counters = &mut kit.sample.counters;
        counters.observations_ended += u64::from(observe.is_none());
        let Some((number, issued)) = issued else {
            // The end of an observation need not tell of anything.
            counters.wrong += u64::from(observe.is_some());
            return;
        };
        if number <= self.last_update {
            let again = number == self.last_update;
            counters.repeated += u64::from(again);
            counters.disordered += u64::from(!again);
            return;
        }
        self.last_update = number;
        counters.ok += 1;
        counters.ok_in_time += u64::from(in_time);
        record(
            &mut kit.sample.latency,
            now.saturating_duration_since(issued),
        );
    }

    fn on_answer(&mut self, now: Instant, code: u8, kit: &mut Kit<'_>) {
        let is_success = code >> 5 == 2;
        // A refusal is quick: among the latencies it would flatter a server that cannot keep up.
        if let State::Busy { since, sent } = self.state
            && is_success
        {
            let latency = now.saturating_duration_since(since);
            if kit.is_quiet(now) {
                record(&mut kit.sample.quiet, latency);
            } else {
                record(&mut kit.sample.latency, latency);
                if !kit.work.load.is_closed() {
                    let service = now.saturating_duration_since(sent);
                    record(&mut kit.sample.service, service);
                }
            }
        }
        let in_time = kit.is_measured(now);
        let counters = &mut kit.sample.counters;
        if is_success {
            counters.rebinds_ok += u64::from(std::mem::take(&mut self.rebound));
            counters.ok += 1;
            counters.ok_in_time += u64::from(in_time);
        } else {
            counters.failed += 1;
            tally(&mut counters.codes, code);
        }
        self.on_request_over(now, kit);
    }

    pub(super) fn on_request_over(&mut self, now: Instant, kit: &mut Kit<'_>) {
        if matches!(self.state, State::Busy { .. }) {
            self.state = State::Ready;
            self.settle(kit);
            self.end_operation(now, kit);
        }
    }
}

/// Whether no correct server sends such a message. What is merely late or doubled is not wrong.
const fn is_wrong(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::CoapMalformed | DropReason::CoapCode | DropReason::CoapOption
    )
}
