//! Profiles of the registry of this process.

use super::LocalOperations;
use super::attributes::PROVISION_STATE;
use crate::admin::operations::profiles::{Changed, ProfileList, ProfileOperations, ProfileView};
use crate::admin::operations::{ErrorKind, NewAttributes, OperationError};
use crate::registry::packages::PackageKind;
use crate::registry::profile::{Profile, ProfileSettings};
use crate::registry::{DEFAULT_PROFILE, DeviceOptions, RegistryError};
use crate::store::AttributeScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

fn view(profile: &Profile) -> ProfileView {
    ProfileView {
        name: profile.name.to_string(),
        settings: profile.settings.clone(),
    }
}

impl ProfileOperations for LocalOperations {
    fn profiles(&self) -> Result<ProfileList, OperationError> {
        let known = self.registry.profiles();
        let mut all = known.list();
        if all.iter().all(|profile| *profile.name != *DEFAULT_PROFILE) {
            all.push(known.of(DEFAULT_PROFILE));
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let profiles = all.iter().map(|profile| {
            let mut view = view(profile);
            view.settings.provisioning.secret = None;
            view
        });
        Ok(ProfileList {
            profiles: profiles.collect(),
        })
    }

    fn profile(&self, name: &str) -> Result<ProfileView, OperationError> {
        let profiles = self.registry.profiles();
        let found = match name {
            DEFAULT_PROFILE => Some(profiles.of(name)),
            _ => profiles.find(name),
        };
        let found = found.ok_or_else(|| RegistryError::UnknownProfile(name.to_owned()))?;
        Ok(view(&found))
    }

    fn add_profile(&self, profile: &ProfileView) -> Result<ProfileView, OperationError> {
        let settings = profile.settings.clone();
        self.check_packages(settings.firmware, settings.software)?;
        let added = self.registry.add_profile(&profile.name, settings)?;
        Ok(view(&added))
    }

    fn change_profile(&self, name: &str, patch: &Value) -> Result<ProfileView, OperationError> {
        let invalid = |problem: serde_json::Error| {
            RegistryError::ProfileSettings(name.to_owned(), problem.to_string())
        };
        // What is refused here is known before anything changes, and said by the operation's own error.
        let mut refused = None;
        let mut before = ProfileSettings::default();
        let changed = self.registry.change_profile(name, &mut |settings| {
            before.clone_from(settings);
            let settings = patched(settings, patch).map_err(invalid)?;
            let checked = self.check_packages(settings.firmware, settings.software);
            checked.map_err(|error| {
                let problem = error.to_string();
                refused = Some(error);
                RegistryError::ProfileSettings(name.to_owned(), problem)
            })?;
            Ok::<ProfileSettings, _>(settings)
        });
        let changed = changed.map_err(|error| refused.unwrap_or_else(|| error.into()))?;
        if before.firmware != changed.settings.firmware {
            self.tell_profile(name, PackageKind::Firmware)?;
        }
        if before.software != changed.settings.software {
            self.tell_profile(name, PackageKind::Software)?;
        }
        Ok(view(&changed))
    }

    fn remove_profile(&self, name: &str) -> Result<(), OperationError> {
        let removed = self.registry.remove_profile(name);
        removed.map_err(|error| match error {
            RegistryError::UnknownProfile(_) if name == DEFAULT_PROFILE => OperationError::new(
                ErrorKind::Conflict,
                "the default profile is always there, and nothing is set in it",
                "",
            ),
            error => error.into(),
        })
    }

    fn set_profile_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<Changed, OperationError> {
        let profile = self.profile(name)?;
        self.write_profile_attributes(&profile.name, scope, attributes)
    }

    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        let device = self.find(name)?;
        Ok(DeviceOptions::clone(&self.registry.options(device.id)))
    }

    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
        let mut was_provisioned = false;
        let changed = self.registry.change_options(name, &mut |options| {
            let invalid = |problem: &dyn std::fmt::Display| {
                RegistryError::Options(format!("the settings of {name:?}: {problem}"))
            };
            let after: DeviceOptions = patched(options, patch).map_err(|e| invalid(&e))?;
            let power = after.power_saving;
            power.check().map_err(|problem| invalid(&problem))?;
            let rest = DeviceOptions {
                power_saving: power,
                provisioned: after.provisioned,
                ..options.clone()
            };
            if rest != after {
                return Err(invalid(
                    &"packages are assigned by `ota assign`, customers by a claim",
                ));
            }
            was_provisioned = options.provisioned;
            *options = after;
            Ok(())
        })?;
        if was_provisioned && !changed.provisioned {
            let key = PROVISION_STATE.to_owned();
            self.remove_attributes(name, AttributeScope::Server, &[key])?;
        }
        Ok(DeviceOptions::clone(&changed))
    }
}

/// `value` after a JSON merge patch.
pub(crate) fn patched<T>(value: &T, patch: &Value) -> serde_json::Result<T>
where
    T: Serialize + DeserializeOwned,
{
    let mut document = serde_json::to_value(value)?;
    merge(&mut document, patch);
    serde_json::from_value(document)
}

/// RFC 7396 section 2. The patch was read with serde_json's bound on nesting.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_are_merged_as_rfc_7396_says() {
        // Examples of RFC 7396 appendix A.
        for (mut target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            merge(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }
}
