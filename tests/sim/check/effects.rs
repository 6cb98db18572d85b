//! One effect per message, one end per request, and identities that never mix.
//!
//! Every request to store carries a value of its own, so what is on the disk tells which request
//! stored it, on whose behalf, and how often.

use std::collections::HashMap;

use tidegate::coap::code;
use tidegate::registry::DeviceId;

use crate::fleet::{Asked, End, VALUES_PER_DEVICE};
use crate::store::Stored;
use crate::summary::Ends;

struct Request {
    asked: Asked,
    /// How often state of plain CoAP peers was lost before it was sent.
    losses: u64,
    secure: bool,
    stored: u64,
    end: Option<End>,
}

/// The checker.
pub(crate) struct Effects {
    /// The registry's number of each device.
    devices: Vec<DeviceId>,
    /// By value.
    requests: HashMap<u64, Request>,
    pub(crate) ends: Ends,
}

impl Effects {
    pub(crate) fn new(devices: Vec<DeviceId>) -> Self {
        Self {
            devices,
            requests: HashMap::new(),
            ends: Ends::default(),
        }
    }

    /// Requests sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.len() as u64
    }

    /// A device sends a request. `losses` counts how often a server's memory of plain CoAP messages
    /// was lost: after that RFC 7252 section 4.5 cannot be kept, and a repetition counts anew.
    pub(crate) fn began(&mut self, asked: Asked, secure: bool, losses: u64) {
        let (Asked::Store(value) | Asked::Read(value)) = asked;
        let request = Request {
            asked,
            losses,
            secure,
            stored: 0,
            end: None,
        };
        let before = self.requests.insert(value, request);
        assert!(before.is_none(), "a value is sent twice");
    }

    /// Readings reached the disk.
    pub(crate) fn stored(&mut self, readings: &[Stored], losses: u64) {
        for reading in readings {
            let device = usize::try_from(reading.value / VALUES_PER_DEVICE).expect("small");
            assert_eq!(
                self.devices.get(device),
                Some(&reading.device),
                "value {} is stored for another device",
                reading.value
            );
            let request = self.requests.get_mut(&reading.value);
            let request = request.expect("a value that nobody sent is stored");
            assert_eq!(request.asked, Asked::Store(reading.value));
            request.stored += 1;
            let most = if request.secure {
                1
            } else {
                1 + losses - request.losses
            };
            assert!(
                request.stored <= most,
                "value {} is stored {} times",
                reading.value,
                request.stored
            );
        }
    }

    /// A request of a device ended.
    pub(crate) fn ended(&mut self, asked: Asked, end: End) {
        let (Asked::Store(value) | Asked::Read(value)) = asked;
        let request = self.requests.get_mut(&value).expect("it was sent");
        assert_eq!(request.end.replace(end), None, "request {value} ends twice");
        let ends = &mut self.ends;
        match (asked, end) {
            (Asked::Store(_), End::Answer(code::CREATED)) => {
                assert!(
                    request.stored > 0,
                    "2.01 for value {value}, which is not on the disk"
                );
                ends.stored += 1;
            }
            (Asked::Read(_), End::Answer(code::CONTENT)) => ends.read += 1,
            // The path or the session names no device any more; a plain message may be cut.
            (_, End::Answer(answer)) if answer >> 5 == 4 => ends.refused += 1,
            (_, End::Answer(code::SERVICE_UNAVAILABLE)) => ends.overloaded += 1,
            (_, End::Answer(code::INTERNAL_SERVER_ERROR)) => ends.failed += 1,
            // A plain message that is cut can be another request.
            (Asked::Store(_), End::Answer(code::CONTENT)) if !request.secure => ends.read += 1,
            (_, End::Answer(answer)) => panic!("an answer {answer:#x} to request {value}"),
            (_, End::Reset) => ends.reset += 1,
            (_, End::TimedOut) => ends.timed_out += 1,
            (_, End::Abandoned) => ends.abandoned += 1,
        }
    }

    /// Nothing is under way any more: every request has ended.
    pub(crate) fn check_end(&self) {
        for (value, request) in &self.requests {
            assert!(request.end.is_some(), "request {value} never ended");
        }
    }
}
