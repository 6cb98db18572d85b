//! MQTT_BASIC credentials, as devices may ask for by provisioning (TB section 7.6).
//!
//! They are kept and given out for whatever speaks MQTT. Nobody proves them here: neither a user's
//! name nor a client id is an access token (TB section 4.2).

use std::fmt;

/// Longest of the three, bytes.
const PART_BYTES_MAX: usize = 255;

/// Client id, user and password; empty where absent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MqttBasic {
    /// The client's id.
    pub client_id: Box<str>,
    /// The user's name.
    pub user_name: Box<str>,
    /// The password; a secret.
    pub password: Box<str>,
}

impl MqttBasic {
    /// What no two devices may have the same of: client id and user name.
    pub fn id(&self) -> String {
        format!("{}|{}", self.client_id, self.user_name)
    }

    /// Whether the parts can be used together.
    ///
    /// # Errors
    ///
    /// Says why not, without the parts.
    pub fn check(&self) -> Result<(), &'static str> {
        let parts = [&self.client_id, &self.user_name, &self.password];
        if parts.iter().any(|part| part.len() > PART_BYTES_MAX) {
            Err("a part is longer than 255 bytes")
        } else if self.client_id.is_empty() && self.user_name.is_empty() {
            Err("neither client id nor user name is given")
        } else if self.user_name.is_empty() && !self.password.is_empty() {
            Err("there is a password and no user name")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for MqttBasic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttBasic")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}
