//! What is done in the scenario observe while devices listen: an attribute of all of them is set, at
//! a pace.

use hdrhistogram::Histogram;
use tidegate::time::{Duration, Instant};

use crate::arguments::Plan;
use crate::clock::Clock;
use crate::control::Control;
use crate::fleet::Operator;
use crate::stats::{histogram, record};

/// The updates of a run.
pub(crate) struct Updates {
    operator: Operator,
    every: Duration,
    next_at: Option<Instant>,
    issued: u64,
    /// From the call of the interface to its answer: then all is durable. Microseconds.
    pub(crate) calls: Histogram<u64>,
}

impl Updates {
    /// Those of a plan, if it has any.
    ///
    /// # Errors
    ///
    /// The interface's address or token cannot be used.
    pub(crate) fn new(plan: &Plan) -> Result<Option<Self>, String> {
        let (Some(every), Some(operator)) = (plan.update_every, Operator::new(plan)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            operator,
            every,
            next_at: None,
            issued: 0,
            calls: histogram(),
        }))
    }

    /// Most that a plan can have.
    pub(crate) fn most(plan: &Plan) -> usize {
        let count = |every: Duration| plan.duration.as_micros() / every.as_micros().max(1) + 1;
        let most = plan.update_every.map_or(0, count);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Issues the next one if it is due, and waits until the interface has answered; whether it did.
    /// An update is issued from the moment its call is begun.
    ///
    /// # Errors
    ///
    /// The interface refused, or there are other devices of the profile than the fleet's `devices`.
    pub(crate) fn issue_due(
        &mut self,
        clock: Clock,
        devices: u64,
        control: &Control,
    ) -> Result<bool, String> {
        let now = clock.instant();
        let next_at = *self.next_at.get_or_insert(now);
        if now < next_at || !control.issue_update(self.issued + 1, now) {
            return Ok(false);
        }
        self.issued += 1;
        let reached = self.operator.update(self.issued)?;
        let answered = clock.instant();
        record(&mut self.calls, answered.saturating_duration_since(now));
        // A call that takes too long delays those after it, and none is made up for.
        self.next_at = Some((next_at + self.every).max(answered));
        if reached == devices {
            return Ok(true);
        }
        Err(format!(
            "the profile of this run's devices has {reached} devices, and not {devices}: take another \
             --seed, or remove those of an earlier run"
        ))
    }
}
