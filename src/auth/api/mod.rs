//! The device API.

use crate::auth::request::{Request, Response};
use crate::registry::Registry;
use crate::store::{Batch, Store};
use std::sync::Arc;

/// What of the device API can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// `JSON_TYPE_CAST_ENABLED`: strings that look like numbers become numbers.
    pub type_cast: bool,
    /// `JSON_MAX_STRING_VALUE_LENGTH`: most characters of a string value; 0 = any number.
    pub string_value_length_max: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            type_cast: true,
            string_value_length_max: 0,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer, at once.
    Respond(Response),
    /// The answer once what was added to the batch is durable.
    Durable(Response),
}

/// The device API: from a request to its answer.
pub struct Api {
    registry: Arc<dyn Registry>,
    store: Arc<dyn Store>,
    settings: ApiSettings,
}

impl Api {
    /// The API on this registry and store.
    pub fn new(registry: Arc<dyn Registry>, store: Arc<dyn Store>, settings: ApiSettings) -> Self {
        Self {
            registry,
            store,
            settings,
        }
    }

    /// Answers a request. What it writes is added to `batch`, which is left as it was unless the
    /// outcome is [`Outcome::Durable`].
    pub fn handle(&self, request: &Request, batch: &mut Batch) -> Outcome {
        let _ = (request, batch, &self.registry, &self.store, &self.settings);
        unimplemented!()
    }
}
