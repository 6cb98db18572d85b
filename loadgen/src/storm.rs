//! The storm over a fleet: another fleet that reconnects at once, and strangers ([`crate::flood`]).
//! It has threads, phases and counters of its own.

use std::sync::Arc;
use std::thread::Scope;

use tidegate::coap;
use tidegate::dtls::client::ClientConfig;

use crate::arguments::{Load, Plan, Scenario, Storm};
use crate::clock::Clock;
use crate::control::Control;
use crate::flood::{Flood, STRANGERS};
use crate::kit::Work;
use crate::run::divide;
use crate::sockets;
use crate::worker::{self, Assignment, DeviceSpec};

/// What is needed to let it loose.
pub(crate) struct StormFleet {
    pub(crate) control: Control,
    storm: Storm,
    work: Work,
    specs: Vec<DeviceSpec>,
    /// What the strangers offer.
    stranger: Arc<ClientConfig>,
    /// Threads of the reconnecting fleet; one more is the strangers'.
    threads: usize,
}

impl StormFleet {
    /// A storm over the fleet of `specs`, whose credentials the reconnecting devices show too.
    ///
    /// # Errors
    ///
    /// When the fleet has no device with DTLS.
    pub(crate) fn new(plan: &Plan, storm: Storm, specs: &[DeviceSpec]) -> Result<Self, String> {
        let first = specs.first().and_then(|spec| spec.security.as_ref());
        let stranger = first.ok_or("a storm needs a fleet with DTLS")?;
        let stranger = ClientConfig {
            credentials: None,
            ..ClientConfig::clone(stranger)
        };
        let threads = plan.threads.min(storm.devices);
        Ok(Self {
            control: Control::new(threads + 1, None),
            storm,
            work: Work {
                scenario: Scenario::Handshake,
                load: Load::Closed,
                rebind_every: None,
                storm: None,
                shared_sockets: sockets::are_shared(plan.target.address, plan.shared_sockets),
                payload: Vec::new(),
                answer_timeout: plan.answer_timeout,
                coap: coap::Settings::default(),
            },
            specs: specs.iter().cycle().take(storm.devices).cloned().collect(),
            stranger: Arc::new(stranger),
            threads,
        })
    }

    /// Sockets of a storm.
    pub(crate) fn sockets(storm: Storm) -> u64 {
        let strangers = if storm.hellos_per_s > 0.0 {
            STRANGERS
        } else {
            0
        };
        (storm.devices + strangers) as u64
    }

    /// Starts the threads, which wait for the control's phase; `devices` is the size of the fleet.
    pub(crate) fn spawn<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        clock: Clock,
        plan: &'env Plan,
        devices: usize,
    ) {
        let name = |name: String| std::thread::Builder::new().name(name);
        let failed = |error: std::io::Error| {
            let message = format!("a thread cannot be started: {error}; use fewer --threads");
            self.control.fail(message);
        };
        let mut first_device = devices;
        let parts = match self.threads {
            0 => Vec::new(),
            threads => divide(self.specs.clone(), threads),
        };
        for (thread, specs) in parts.into_iter().enumerate() {
            let next = first_device + specs.len();
            let assignment = Assignment {
                work: &self.work,
                control: &self.control,
                thread,
                clock,
                target: plan.target.address,
                specs,
                first_device,
                fleet: self.storm.devices,
                ramp: tidegate::time::Duration::ZERO,
                seed: plan.seed.wrapping_add(1),
            };
            first_device = next;
            if let Err(error) =
                name(format!("storm-{thread}")).spawn_scoped(scope, || worker::run(assignment))
            {
                failed(error);
            }
        }
        if self.storm.hellos_per_s > 0.0 {
            let flood = Flood {
                control: &self.control,
                thread: self.threads,
                clock,
                target: plan.target.address,
                config: Arc::clone(&self.stranger),
                rate: self.storm.hellos_per_s,
                seed: plan.seed,
            };
            if let Err(error) = name("flood".to_owned()).spawn_scoped(scope, move || flood.run()) {
                failed(error);
            }
        }
    }
}
