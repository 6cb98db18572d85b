//! Device profiles, and what is set for single devices: operations and their routes.

use crate::admin::LocalOperations;
use crate::admin::api::{self, Answer, Failure, Shares};
use crate::admin::operations::{ErrorKind, OperationError};
use crate::admin::remote::{RemoteOperations, device_path, percent_encoded};
use crate::registry::profile::{Profile, ProfileSettings};
use crate::registry::{DeviceOptions, RegistryError};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A profile as it is shown, and as it is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileView {
    /// Its name: unique, 1 to 255 characters, no control characters.
    pub name: String,
    /// All else. In lists without the provisioning secret.
    #[serde(default)]
    pub settings: ProfileSettings,
}

/// Defined profiles, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileList {
    /// The profiles.
    pub profiles: Vec<ProfileView>,
}

/// What an administrator can do to profiles. A change is durable when a call returns, and holds for
/// the very next request.
pub trait ProfileOperations: Send + Sync {
    /// All defined profiles, without secrets.
    ///
    /// # Errors
    ///
    /// When the registry fails.
    fn profiles(&self) -> Result<ProfileList, OperationError> {
        Err(not_offered())
    }

    /// A profile with its secret; the default one is always there.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the registry fails.
    fn profile(&self, name: &str) -> Result<ProfileView, OperationError> {
        let _ = name;
        Err(not_offered())
    }

    /// Defines a profile.
    ///
    /// # Errors
    ///
    /// When the name is taken or the settings cannot be used, or the registry fails.
    fn add_profile(&self, profile: &ProfileView) -> Result<ProfileView, OperationError> {
        let _ = profile;
        Err(not_offered())
    }

    /// Changes a profile's settings by a JSON merge patch (RFC 7396), as a whole or not at all.
    ///
    /// # Errors
    ///
    /// When there is none of that name, the result cannot be used, or the registry fails.
    fn change_profile(&self, name: &str, patch: &Value) -> Result<ProfileView, OperationError> {
        let _ = (name, patch);
        Err(not_offered())
    }

    /// Removes a profile that no device has.
    ///
    /// # Errors
    ///
    /// When there is none of that name, a device has it, or the registry fails.
    fn remove_profile(&self, name: &str) -> Result<(), OperationError> {
        let _ = name;
        Err(not_offered())
    }

    /// What is set for a device alone.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the registry fails.
    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        let _ = name;
        Err(not_offered())
    }

    /// Changes it by a JSON merge patch: `powerSaving` and `provisioned`; the rest has operations
    /// of its own.
    ///
    /// # Errors
    ///
    /// When there is no such device, the result cannot be used, or the registry fails.
    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
        let _ = (name, patch);
        Err(not_offered())
    }
}

/// Of an implementation without profiles.
pub(super) fn not_offered() -> OperationError {
    OperationError::new(ErrorKind::Failed, "this is not offered here", "")
}

fn view(profile: &Profile) -> ProfileView {
    ProfileView {
        name: profile.name.to_string(),
        settings: profile.settings.clone(),
    }
}

impl ProfileOperations for LocalOperations {
    fn profiles(&self) -> Result<ProfileList, OperationError> {
        let all = self.registry.profiles().list();
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
            crate::registry::DEFAULT_PROFILE => Some(profiles.of(name)),
            _ => profiles.find(name),
        };
        let found = found.ok_or_else(|| RegistryError::UnknownProfile(name.to_owned()))?;
        Ok(view(&found))
    }

    fn add_profile(&self, profile: &ProfileView) -> Result<ProfileView, OperationError> {
        let settings = profile.settings.clone();
        let added = self.registry.add_profile(&profile.name, settings)?;
        Ok(view(&added))
    }

    fn change_profile(&self, name: &str, patch: &Value) -> Result<ProfileView, OperationError> {
        let invalid = |problem: serde_json::Error| {
            RegistryError::ProfileSettings(name.to_owned(), problem.to_string())
        };
        let changed = self.registry.change_profile(name, &mut |settings| {
            let settings = patched(settings, patch).map_err(invalid)?;
            Ok(settings)
        })?;
        Ok(view(&changed))
    }

    fn remove_profile(&self, name: &str) -> Result<(), OperationError> {
        Ok(self.registry.remove_profile(name)?)
    }

    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        let device = self.find(name)?;
        Ok(DeviceOptions::clone(&self.registry.options(device.id)))
    }

    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
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
                return Err(invalid(&"packages are assigned by `ota assign`, customers by a claim"));
            }
            *options = after;
            Ok(())
        })?;
        Ok(DeviceOptions::clone(&changed))
    }
}

/// `value` after a JSON merge patch.
fn patched<T>(value: &T, patch: &Value) -> serde_json::Result<T>
where
    T: Serialize + serde::de::DeserializeOwned,
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
        *target = Value::Object(serde_json::Map::new());
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

impl ProfileOperations for RemoteOperations {
    fn profiles(&self) -> Result<ProfileList, OperationError> {
        self.get("/api/profiles")
    }

    fn profile(&self, name: &str) -> Result<ProfileView, OperationError> {
        self.get(&profile_path(name))
    }

    fn add_profile(&self, profile: &ProfileView) -> Result<ProfileView, OperationError> {
        self.post("/api/profiles", profile)
    }

    fn change_profile(&self, name: &str, patch: &Value) -> Result<ProfileView, OperationError> {
        self.send(Method::PATCH, &profile_path(name), patch)
    }

    fn remove_profile(&self, name: &str) -> Result<(), OperationError> {
        self.exchange(Method::DELETE, &profile_path(name), Bytes::new())
            .map(drop)
    }

    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        self.get(&format!("{}/options", device_path(name)))
    }

    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
        self.send(Method::PATCH, &format!("{}/options", device_path(name)), patch)
    }
}

fn profile_path(name: &str) -> String {
    format!("/api/profiles/{}", percent_encoded(name))
}

/// Longest body that holds a profile: four schemas.
const BODY_MAX: usize = 1 << 20;

/// The routes of profiles.
pub(super) fn routes() -> Router<Arc<api::Shared>> {
    Router::new()
        .route("/api/profiles", get(list).post(add))
        .route(
            "/api/profiles/{name}",
            get(show).patch(change).delete(remove),
        )
        .route(
            "/api/devices/{name}/options",
            get(show_options).patch(change_options),
        )
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
}

async fn list(State(shared): Shares) -> Answer<ProfileList> {
    Ok(Json(
        api::run(shared, |operations| operations.profiles()).await?,
    ))
}

async fn add(
    State(shared): Shares,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ProfileView>), Failure> {
    let profile: ProfileView = api::read_json(&headers, body)?;
    let view = api::run(shared, move |operations| operations.add_profile(&profile)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn show(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<ProfileView> {
    let name = api::read_name(name)?;
    Ok(Json(
        api::run(shared, move |operations| operations.profile(&name)).await?,
    ))
}

async fn change(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<ProfileView> {
    let name = api::read_name(name)?;
    let patch: Value = api::read_json(&headers, body)?;
    let change = move |operations: &dyn crate::admin::Operations| {
        operations.change_profile(&name, &patch)
    };
    Ok(Json(api::run(shared, change).await?))
}

async fn remove(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let name = api::read_name(name)?;
    api::run(shared, move |operations| operations.remove_profile(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_options(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<DeviceOptions> {
    let name = api::read_name(name)?;
    Ok(Json(
        api::run(shared, move |operations| operations.options(&name)).await?,
    ))
}

async fn change_options(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<DeviceOptions> {
    let name = api::read_name(name)?;
    let patch: Value = api::read_json(&headers, body)?;
    let change = move |operations: &dyn crate::admin::Operations| {
        operations.change_options(&name, &patch)
    };
    Ok(Json(api::run(shared, change).await?))
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
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
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
