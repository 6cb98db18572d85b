//! Packages of a running server.

use super::{RemoteOperations, percent_encoded};
use crate::admin::operations::ota::{Assigned, Assignment, OtaOperations, PackageList};
use crate::admin::operations::{ErrorKind, OperationError};
use crate::registry::packages::{NewPackage, PACKAGE_BYTES_MAX, Package};
use hyper::Method;
use hyper::body::Bytes;
use std::fmt::Write as _;
use std::io::Read;

impl OtaOperations for RemoteOperations {
    fn packages(&self) -> Result<PackageList, OperationError> {
        self.get("/api/ota")
    }

    fn add_package(
        &self,
        package: &NewPackage,
        source: &mut dyn Read,
    ) -> Result<Package, OperationError> {
        let mut body = Vec::new();
        if package.url.is_none() {
            let mut source = source.take(PACKAGE_BYTES_MAX + 1);
            source.read_to_end(&mut body).map_err(|error| {
                let message = format!("the package cannot be read: {error}");
                OperationError::new(ErrorKind::Failed, message, "")
            })?;
        }
        let target = format!("/api/ota?{}", query(package)?);
        let answer = self.exchange_bytes(Method::POST, &target, body.into())?;
        self.read(&answer)
    }

    fn remove_package(&self, id: u64) -> Result<(), OperationError> {
        self.exchange(Method::DELETE, &format!("/api/ota/{id}"), Bytes::new())
            .map(drop)
    }

    fn assign_package(&self, assignment: &Assignment) -> Result<Assigned, OperationError> {
        self.post("/api/ota/assign", assignment)
    }
}

/// The description as a query, member by member.
fn query(package: &NewPackage) -> Result<String, OperationError> {
    let members = serde_json::to_value(package).map_err(|error| {
        OperationError::new(ErrorKind::Invalid, error.to_string(), String::new())
    })?;
    let mut query = String::new();
    for (name, value) in members.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let _ = write!(query, "{name}={}&", percent_encoded(text));
    }
    query.pop();
    Ok(query)
}
