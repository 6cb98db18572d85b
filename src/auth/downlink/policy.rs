//! What the operator has set for a device that concerns how it is reached.

use crate::registry::profile::PowerMode;
use crate::registry::{DeviceId, Registry};
use std::sync::Arc;

/// When a device can be reached (TB section 8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// At any time: no power mode, or DRX.
    #[default]
    Always,
    /// Power saving mode: for some time after each uplink.
    Psm {
        /// That time in milliseconds; `None`: `COAP_PSM_ACTIVITY_TIMER`.
        awake_ms: Option<u64>,
    },
    /// eDRX: for some time after each uplink, and once more later.
    Edrx {
        /// That time in milliseconds; `None`: `COAP_PAGING_TRANSMISSION_WINDOW`.
        window_ms: Option<u64>,
    },
}

/// Where a device's settings come from.
pub trait Policies: Send + Sync {
    /// When the device can be reached.
    fn reach(&self, device: DeviceId) -> Reach;
}

/// As registered: by the device's own settings, else by its profile's.
pub struct Registered(pub Arc<dyn Registry>);

impl Policies for Registered {
    fn reach(&self, device: DeviceId) -> Reach {
        let power = self.0.power_saving(device);
        match power.mode {
            None | Some(PowerMode::Drx) => Reach::Always,
            Some(PowerMode::Psm) => Reach::Psm {
                awake_ms: power.psm_activity_timer,
            },
            Some(PowerMode::EDrx) => Reach::Edrx {
                window_ms: power.paging_transmission_window,
            },
        }
    }
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registered")
    }
}

/// Every device can be reached at any time.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysReachable;

impl Policies for AlwaysReachable {
    fn reach(&self, _: DeviceId) -> Reach {
        Reach::Always
    }
}
