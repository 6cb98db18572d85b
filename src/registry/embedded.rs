//! The embedded registry.

use super::*;

/// Devices and credentials in the data directory.
pub struct EmbeddedRegistry {}

impl Registry for EmbeddedRegistry {
    fn device_by_token(&self, _: &str) -> Option<Arc<Device>> {
        unimplemented!()
    }
    fn device_by_fingerprint(&self, _: &[u8; 32]) -> Option<Arc<Device>> {
        unimplemented!()
    }
    fn device_by_name(&self, _: &str) -> Option<Arc<Device>> {
        unimplemented!()
    }
    fn device(&self, _: DeviceId) -> Option<Arc<Device>> {
        unimplemented!()
    }
    fn len(&self) -> usize {
        unimplemented!()
    }
    fn list(&self, _: Option<DeviceId>, _: usize) -> Vec<Arc<Device>> {
        unimplemented!()
    }
    fn add_many(&self, _: Vec<NewDevice>) -> Vec<Result<Arc<Device>, RegistryError>> {
        unimplemented!()
    }
    fn remove(&self, _: &str) -> Result<Arc<Device>, RegistryError> {
        unimplemented!()
    }
    fn set_credential(&self, _: &str, _: NewCredential) -> Result<Arc<Device>, RegistryError> {
        unimplemented!()
    }
}
