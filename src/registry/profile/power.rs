//! Power saving: when a device can be reached (TB section 8.4).

use serde::{Deserialize, Serialize};

/// Longest time in any of the fields: a year.
const MILLIS_MAX: u64 = 366 * 86_400_000;

/// How a device saves power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerMode {
    /// Power saving mode: reachable for a while after each uplink.
    #[serde(rename = "PSM")]
    Psm,
    /// Discontinuous reception: always reachable.
    #[serde(rename = "DRX")]
    Drx,
    /// Extended discontinuous reception.
    #[serde(rename = "E_DRX")]
    EDrx,
}

impl PowerMode {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Psm => "PSM",
            Self::Drx => "DRX",
            Self::EDrx => "E_DRX",
        }
    }
}

/// A device's, or a profile's, way of saving power. Times in milliseconds; 0 is as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PowerSaving {
    /// `None`: always reachable; of a device: as its profile says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PowerMode>,
    /// PSM: how long a device is awake after an uplink; `COAP_PSM_ACTIVITY_TIMER` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psm_activity_timer: Option<u64>,
    /// eDRX: how often it listens. Kept for other transports; CoAP does not use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edrx_cycle: Option<u64>,
    /// eDRX: how long it listens after an uplink; `COAP_PAGING_TRANSMISSION_WINDOW` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paging_transmission_window: Option<u64>,
}

impl PowerSaving {
    /// Whether the times are possible ones.
    ///
    /// # Errors
    ///
    /// Says what is not.
    pub fn check(&self) -> Result<(), &'static str> {
        let times = [
            self.psm_activity_timer,
            self.edrx_cycle,
            self.paging_transmission_window,
        ];
        if times.into_iter().flatten().any(|time| time > MILLIS_MAX) {
            return Err("a time is longer than a year; they are milliseconds");
        }
        Ok(())
    }

    /// This one of a device, or its profile's where the device has no mode of its own.
    pub fn or(self, profile: Self) -> Self {
        if self.mode.is_some() { self } else { profile }
    }
}
