//! Profiles of a running server.

use super::{RemoteOperations, device_path, percent_encoded};
use crate::admin::operations::profiles::{Changed, ProfileList, ProfileOperations, ProfileView};
use crate::admin::operations::{NewAttributes, OperationError};
use crate::registry::DeviceOptions;
use crate::store::AttributeScope;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

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

    fn set_profile_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<Changed, OperationError> {
        let target = format!("{}/attributes/{}", profile_path(name), scope.name());
        self.send(Method::PUT, &target, attributes)
    }

    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        self.get(&format!("{}/options", device_path(name)))
    }

    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
        self.send(
            Method::PATCH,
            &format!("{}/options", device_path(name)),
            patch,
        )
    }
}

fn profile_path(name: &str) -> String {
    format!("/api/profiles/{}", percent_encoded(name))
}
