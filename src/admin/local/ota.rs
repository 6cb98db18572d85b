//! Packages of this process's data directory.

use super::{LocalOperations, now_ms};
use crate::admin::operations::ota::{Assigned, Assignment, OtaOperations, PackageList};
use crate::admin::operations::{ErrorKind, OperationError};
use crate::auth::downlink::Delta;
use crate::registry::packages::{
    NewPackage, Package, PackageError, PackageKind, Packages, announcement, withdrawal, write_state,
};
use crate::registry::{Device, Registry};
use crate::store::AttributeScope;
use std::io::Read;
use std::sync::Arc;

impl LocalOperations {
    fn packages_here(&self) -> Result<&Packages, OperationError> {
        self.packages
            .as_deref()
            .ok_or_else(OperationError::not_offered)
    }

    /// The package that is to be assigned: it must be of the kind.
    fn assignable(
        &self,
        id: Option<u64>,
        kind: PackageKind,
    ) -> Result<Option<Arc<Package>>, OperationError> {
        let Some(id) = id else { return Ok(None) };
        let found = self.packages_here()?.find(id);
        let package = found.ok_or(PackageError::Unknown(id))?;
        if package.kind == kind {
            return Ok(Some(package));
        }
        let message = format!("package {id} is not of the type that is assigned");
        Err(OperationError::new(
            ErrorKind::Invalid,
            message,
            "name its own type",
        ))
    }

    /// Sees to it that what a profile names is there.
    pub(super) fn check_packages(
        &self,
        firmware: Option<u64>,
        software: Option<u64>,
    ) -> Result<(), OperationError> {
        self.assignable(firmware, PackageKind::Firmware)?;
        self.assignable(software, PackageKind::Software).map(drop)
    }

    fn assign_to_device(
        &self,
        name: &str,
        kind: PackageKind,
        package: Option<u64>,
    ) -> Result<Assigned, OperationError> {
        let device = self.find(name)?;
        let before = self.registry.assigned_package(device.id, kind);
        self.registry.change_options(name, &mut |options| {
            match kind {
                PackageKind::Firmware => options.firmware = package,
                PackageKind::Software => options.software = package,
            }
            Ok(())
        })?;
        let mut told = Assigned::default();
        if before != self.registry.assigned_package(device.id, kind) {
            self.tell(&[device], kind)?;
            told.devices = 1;
        }
        Ok(told)
    }

    fn assign_to_profile(
        &self,
        name: &str,
        kind: PackageKind,
        package: Option<u64>,
    ) -> Result<Assigned, OperationError> {
        let mut before = None;
        self.registry.change_profile(name, &mut |settings| {
            let mut settings = settings.clone();
            let field = match kind {
                PackageKind::Firmware => &mut settings.firmware,
                PackageKind::Software => &mut settings.software,
            };
            before = std::mem::replace(field, package);
            Ok(settings)
        })?;
        if before == package {
            return Ok(Assigned::default());
        }
        self.tell_profile(name, kind)
    }

    /// Tells the devices of a profile of its package, but for those that have one of their own.
    pub(super) fn tell_profile(
        &self,
        profile: &str,
        kind: PackageKind,
    ) -> Result<Assigned, OperationError> {
        let mut told = Assigned::default();
        self.of_profile(profile, &mut |mut devices| {
            devices.retain(|device| !has_own(&*self.registry, device, kind));
            self.tell(&devices, kind)?;
            told.devices += devices.len() as u64;
            Ok(())
        })?;
        Ok(told)
    }

    /// Tells devices which package they have now, if any, and waits until that is durable.
    pub(super) fn tell(
        &self,
        devices: &[Arc<Device>],
        kind: PackageKind,
    ) -> Result<(), OperationError> {
        let now_ms = i64::try_from(now_ms()).unwrap_or(i64::MAX);
        let changes = devices.iter().map(|device| {
            let package = self.package_of(device, kind);
            let values = package.map_or_else(|| withdrawal(kind), |package| announcement(&package));
            let mut changes = Delta::default();
            for (key, value) in values {
                changes.insert(key.into(), value);
            }
            (&**device, changes)
        });
        let told = self.write_states(devices, kind, now_ms);
        told.and_then(|()| self.change_many(AttributeScope::Shared, changes))
            .map_err(|reason| {
                let message =
                    format!("the package is assigned, but its devices were not told: {reason}");
                OperationError::new(ErrorKind::Failed, message, "assign none, then it again")
            })
    }

    fn package_of(&self, device: &Device, kind: PackageKind) -> Option<Arc<Package>> {
        let id = self.registry.assigned_package(device.id, kind)?;
        self.packages.as_ref()?.find(id)
    }

    /// Writes that the devices are told of their packages.
    fn write_states(
        &self,
        devices: &[Arc<Device>],
        kind: PackageKind,
        now_ms: i64,
    ) -> Result<(), String> {
        let packages: Vec<_> = devices
            .iter()
            .filter_map(|device| Some((device.id, self.package_of(device, kind)?)))
            .collect();
        if packages.is_empty() {
            return Ok(());
        }
        self.write(|batch| {
            for (device, package) in &packages {
                batch.begin();
                write_state(package, *device, now_ms, batch);
            }
        })
    }

    /// Tells new devices of the packages of their profiles.
    pub(super) fn tell_new(&self, devices: &[Arc<Device>]) -> Result<(), OperationError> {
        for kind in PackageKind::ALL {
            let concerned: Vec<_> = devices
                .iter()
                .filter(|device| self.registry.assigned_package(device.id, kind).is_some())
                .cloned()
                .collect();
            self.tell(&concerned, kind)?;
        }
        Ok(())
    }

    /// Who has the package: a profile or a device.
    fn user_of(&self, id: u64) -> Option<String> {
        let has = |firmware, software| firmware == Some(id) || software == Some(id);
        let profiles = self.registry.profiles().list();
        let profile = profiles.iter().find(|profile| {
            let settings = &profile.settings;
            has(settings.firmware, settings.software)
        });
        if let Some(profile) = profile {
            return Some(format!("profile {:?}", profile.name));
        }
        let device = self.registry.device_with_package(id)?;
        let device = self.registry.device(device)?;
        Some(format!("device {:?}", device.name))
    }
}

fn has_own(registry: &dyn Registry, device: &Device, kind: PackageKind) -> bool {
    let options = registry.options(device.id);
    match kind {
        PackageKind::Firmware => options.firmware.is_some(),
        PackageKind::Software => options.software.is_some(),
    }
}

impl OtaOperations for LocalOperations {
    fn packages(&self) -> Result<PackageList, OperationError> {
        let all = self.packages_here()?.list();
        let packages = all.iter().map(|package| Package::clone(package)).collect();
        Ok(PackageList { packages })
    }

    fn add_package(
        &self,
        package: &NewPackage,
        source: &mut dyn Read,
    ) -> Result<Package, OperationError> {
        let packages = self.packages_here()?;
        let added = packages.add(package, source, now_ms())?;
        Ok(Package::clone(&added))
    }

    fn remove_package(&self, id: u64) -> Result<(), OperationError> {
        let packages = self.packages_here()?;
        if let Some(user) = self.user_of(id) {
            let message = format!("package {id} is assigned, to {user} for one");
            let remedy = "assign another or none first";
            return Err(OperationError::new(ErrorKind::Conflict, message, remedy));
        }
        Ok(packages.remove(id)?)
    }

    fn assign_package(&self, assignment: &Assignment) -> Result<Assigned, OperationError> {
        let Assignment { kind, package, .. } = *assignment;
        self.assignable(package, kind)?;
        match (&assignment.device, &assignment.profile) {
            (Some(device), None) => self.assign_to_device(device, kind, package),
            (None, Some(profile)) => self.assign_to_profile(profile, kind, package),
            _ => Err(OperationError::new(
                ErrorKind::Invalid,
                "a device or a profile must be named, and not both",
                "",
            )),
        }
    }
}

impl From<PackageError> for OperationError {
    fn from(error: PackageError) -> Self {
        let (kind, remedy) = match &error {
            PackageError::Invalid(_) => (ErrorKind::Invalid, ""),
            PackageError::Taken(_) => (ErrorKind::Conflict, "give it another version"),
            PackageError::Unknown(_) => (
                ErrorKind::NotFound,
                "`tidegate ota list` shows those there are",
            ),
            PackageError::Storage(_) => {
                (ErrorKind::Failed, "look at the disk of TIDEGATE_DATA_DIR")
            }
        };
        Self::new(kind, error.to_string(), remedy)
    }
}
