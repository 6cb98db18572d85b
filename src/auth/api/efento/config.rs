//! `/efento/c`: the sensor's configuration, each field an attribute of its name, fields that are not
//! set with their default.

use super::NotOne;
use crate::registry::profile::Schema;
use prost::Message;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let schema = Schema::compile(include_str!("config.proto"));
    schema
        .inspect_err(|error| tracing::error!(%error, "Efento's schema is damaged: a defect"))
        .ok()
});

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "24")]
    cloud_token: String,
}

/// The token that a message names.
pub(super) fn token(bytes: &[u8]) -> Result<String, NotOne> {
    let named = Named::decode(bytes).map_err(|_| NotOne)?;
    Ok(named.cloud_token)
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<String, NotOne> {
    let schema = SCHEMA.as_ref().ok_or(NotOne)?;
    schema.to_json(bytes).map_err(|_| NotOne)
}
