//! `/efento/c`: the sensor's configuration, each field an attribute of its name, fields that are not
//! set with their default.

use super::{NotOne, Read};
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

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<Read, NotOne> {
    let Named { cloud_token: token } = Named::decode(bytes).map_err(|_| NotOne)?;
    let schema = SCHEMA.as_ref().ok_or(NotOne)?;
    let json = schema.to_json(bytes).map_err(|_| NotOne)?;
    Ok(Read { token, json })
}
