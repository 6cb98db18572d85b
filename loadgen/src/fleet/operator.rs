//! The operator of the scenario observe: sets an attribute of the whole fleet.

use serde_json::{Value, json};

use super::admin::Admin;
use super::profile_name;
use crate::arguments::{CredentialSource, Plan};

/// The attribute that is set.
const KEY: &str = "loadgenUpdate";

/// The number of the update that a notification tells of.
pub(crate) fn number_of(payload: &[u8]) -> Option<u64> {
    let changes: Value = serde_json::from_slice(payload).ok()?;
    changes.get(KEY)?.as_u64()
}

/// A connection to the admin interface.
pub(crate) struct Operator {
    admin: Admin,
    profile: String,
}

impl Operator {
    /// The operator of a plan; `None` when its devices are not registered at an interface.
    ///
    /// # Errors
    ///
    /// The interface's address or token cannot be used.
    pub(crate) fn new(plan: &Plan) -> Result<Option<Self>, String> {
        let (Some(profile), CredentialSource::Admin(url)) = (profile_name(plan), &plan.credentials)
        else {
            return Ok(None);
        };
        let admin = Admin::open(url, plan.admin_token_file.as_deref())?;
        Ok(Some(Self { admin, profile }))
    }

    /// Sets the attribute of all devices; returns how many they are, once that is durable.
    ///
    /// # Errors
    ///
    /// The interface refused, or cannot be reached.
    pub(crate) fn update(&mut self, number: u64) -> Result<u64, String> {
        let attributes = json!({ KEY: number });
        self.admin.set_of_profile(&self.profile, &attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_read() {
        assert_eq!(number_of(json!({ KEY: 7 }).to_string().as_bytes()), Some(7));
        for other in [&b"{}"[..], b"", b"{\"loadgenUpdate\":\"x\"}", b"[1]"] {
            assert_eq!(number_of(other), None);
        }
    }
}
