//! Profiles, packages and claims, on a registry and a store on disk; each once at hand and once over
//! the socket.

mod bulk;

use super::super::operations::claims::{Claim, ClaimOperations as _};
use super::super::operations::ota::{Assignment, OtaOperations as _};
use super::super::operations::profiles::{ProfileOperations as _, ProfileView};
use super::*;
use crate::auth::downlink::{Hub, HubThread};
use crate::registry::Registry as _;
use crate::registry::claim::Claims;
use crate::registry::packages::{ChecksumAlgorithm, NewPackage, PackageKind};
use crate::store::Store as _;
use crate::store::embedded::{Opened, StoreSettings, open};
use std::collections::BTreeMap;

struct Bench {
    local: LocalOperations,
    remote: RemoteOperations,
    claims: Arc<Claims>,
    opened: Opened,
    admin: Admin,
    _hub_thread: HubThread,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let quick = StoreSettings {
            commit_interval: Duration::ZERO,
            ..StoreSettings::default()
        };
        let opened = open(&directory.path().join("data"), &quick).unwrap();
        let claims = Arc::new(Claims::default());
        let clock = Box::new(|| 1_700_000_000_000);
        let hub = Hub::without_shards(opened.registry.clone(), opened.store.clone(), clock);
        let hub_thread = HubThread::start(&hub).unwrap();
        let local = LocalOperations::new(opened.registry.clone(), opened.store.clone(), hub)
            .with_packages(opened.packages.clone())
            .with_claims(claims.clone());
        let socket = directory.path().join("admin.sock");
        let settings = AdminSettings {
            bind: Some("127.0.0.1:0".parse().unwrap()),
            socket: Some(socket.clone()),
            token: token(),
            remote_api: false,
        };
        let status = Arc::new(FakeStatus {
            shards: Vec::new(),
            failure: Mutex::new(None),
        });
        let admin = spawn(&settings, Arc::new(local.clone()), status).unwrap();
        Self {
            remote: RemoteOperations::connect(&socket).unwrap().unwrap(),
            local,
            claims,
            opened,
            admin,
            _hub_thread: hub_thread,
            _directory: directory,
        }
    }

    fn both(&self) -> [(&'static str, &dyn Operations); 2] {
        [("local", &self.local), ("remote", &self.remote)]
    }

    fn shared(&self, device: &str) -> BTreeMap<String, String> {
        let attributes = self.local.attributes(device).unwrap();
        let text = |(key, reading): (String, Reading)| (key, reading.value.get().to_owned());
        attributes.shared.into_iter().map(text).collect()
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, OperationError>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn profiles_are_defined_changed_and_removed() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        let made: ProfileView = serde_json::from_value(json!({
            "name": name,
            "settings": {
                "rateLimits": { "messages": "10:1" },
                "provisioning": { "key": format!("k-{name}"), "secret": "s" },
            },
        }))
        .unwrap();
        assert_eq!(operations.add_profile(&made).unwrap(), made);
        assert_eq!(kind(operations.add_profile(&made)), ErrorKind::Conflict);
        assert_eq!(operations.profile(name).unwrap(), made);
        let listed = operations.profiles().unwrap().profiles;
        let listed = listed.iter().find(|profile| profile.name == name).unwrap();
        assert_eq!(listed.settings.provisioning.secret, None, "not in lists");
        let patch = json!({
            "powerSaving": { "mode": "PSM" },
            "rateLimits": { "messages": null },
            "provisioning": { "strategy": "ALLOW_CREATE_NEW_DEVICES" },
        });
        let changed = operations.change_profile(name, &patch).unwrap();
        assert_eq!(changed.settings.rate_limits.messages, "");
        assert_eq!(changed.settings.provisioning.secret.as_deref(), Some("s"));
        for wrong in [
            json!({"nope": 1}),
            json!({"rateLimits": { "messages": "x" }}),
            json!({"provisioning": { "key": null }}),
            json!({"firmware": 99}),
            json!(5),
        ] {
            assert!(operations.change_profile(name, &wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            operations.profile(name).unwrap(),
            changed,
            "nothing of them"
        );
        // The key is taken.
        let other = json!({"provisioning": { "key": format!("k-{name}") }});
        assert_eq!(
            kind(operations.change_profile("default", &other)),
            ErrorKind::Invalid
        );
        // A profile with devices stays.
        let device = NewDevice {
            profile: Some(name.to_owned()),
            ..device(&format!("d-{name}"))
        };
        let device = NewDevice {
            token: None,
            ..device
        };
        operations.add(&device).unwrap();
        assert_eq!(kind(operations.remove_profile(name)), ErrorKind::Conflict);
        operations.remove(&device.name).unwrap();
        operations.remove_profile(name).unwrap();
        assert_eq!(kind(operations.remove_profile(name)), ErrorKind::NotFound);
        assert_eq!(kind(operations.profile(name)), ErrorKind::NotFound);
        assert_eq!(
            kind(operations.change_profile(name, &patch)),
            ErrorKind::NotFound
        );
    }
    // The default one is there before it is defined, and goes back to what it was.
    let patch = json!({"payloadType": "JSON", "description": "all"});
    bench.remote.change_profile("default", &patch).unwrap();
    bench.remote.remove_profile("default").unwrap();
    assert_eq!(
        bench
            .remote
            .profile("default")
            .unwrap()
            .settings
            .description,
        ""
    );
}

#[test]
fn what_is_set_for_a_device_alone_survives_and_goes_with_it() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        operations
            .add(&NewDevice {
                name: name.into(),
                ..NewDevice::default()
            })
            .unwrap();
        let patch = json!({"powerSaving": {"mode": "E_DRX", "pagingTransmissionWindow": 5000}});
        let changed = operations.change_options(name, &patch).unwrap();
        assert_eq!(operations.options(name).unwrap(), changed);
        let id = bench.opened.registry.device_by_name(name).unwrap().id;
        let power = bench.opened.registry.power_saving(id);
        assert_eq!(power.paging_transmission_window, Some(5000));
        for wrong in [
            json!({"firmware": 1}),
            json!({"customer": "me"}),
            json!({"powerSaving": {"edrxCycle": u64::MAX}}),
            json!({"x": 1}),
        ] {
            assert_eq!(
                kind(operations.change_options(name, &wrong)),
                ErrorKind::Invalid
            );
        }
        // The device's mode before its profile's, and the profile's where it has none.
        let psm = json!({"powerSaving": {"mode": "PSM"}});
        operations.change_profile("default", &psm).unwrap();
        assert_eq!(bench.opened.registry.power_saving(id), power);
        operations
            .change_options(name, &json!({"powerSaving": null}))
            .unwrap();
        let mode = bench.opened.registry.power_saving(id).mode;
        assert_eq!(mode, Some(crate::registry::profile::PowerMode::Psm));
        operations.remove(name).unwrap();
        assert_eq!(kind(operations.options(name)), ErrorKind::NotFound);
    }
}

fn package(version: &str) -> NewPackage {
    NewPackage {
        kind: PackageKind::Firmware,
        title: "T & t".into(),
        version: version.into(),
        tag: Some("x=y".into()),
        url: None,
        algorithm: ChecksumAlgorithm::Crc32,
        checksum: None,
    }
}

fn assignment(package: Option<u64>, device: Option<&str>, profile: Option<&str>) -> Assignment {
    Assignment {
        kind: PackageKind::Firmware,
        package,
        device: device.map(Into::into),
        profile: profile.map(Into::into),
    }
}

#[test]
fn packages_are_assigned_and_devices_are_told() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        let bytes = vec![7; 300_000];
        let added = operations
            .add_package(&package(name), &mut &bytes[..])
            .unwrap();
        assert_eq!((added.size, &*added.title), (300_000, "T & t"));
        assert_eq!(operations.packages().unwrap().packages.last(), Some(&added));
        assert_eq!(
            bench.opened.packages.read(added.id, 299_999, 9).unwrap(),
            [7]
        );
        let again = operations.add_package(&package(name), &mut &bytes[..]);
        assert_eq!(kind(again), ErrorKind::Conflict);
        let wrong = NewPackage {
            checksum: Some("00".into()),
            ..package("other")
        };
        assert_eq!(
            kind(operations.add_package(&wrong, &mut &bytes[..])),
            ErrorKind::Invalid
        );

        let device = |suffix: &str| NewDevice {
            name: format!("{name}-{suffix}"),
            profile: Some(name.to_owned()),
            ..NewDevice::default()
        };
        let (first, late) = (device("first"), device("late"));
        operations.add(&first).unwrap();
        let profile = ProfileView {
            name: name.into(),
            ..ProfileView::default()
        };
        operations.add_profile(&profile).unwrap();
        let told = operations.assign_package(&assignment(Some(added.id), None, Some(name)));
        assert_eq!(told.unwrap().devices, 1);
        let expected = BTreeMap::from(
            [
                ("fw_checksum", format!("\"{}\"", added.checksum)),
                ("fw_checksum_algorithm", "\"CRC32\"".into()),
                ("fw_size", "300000".into()),
                ("fw_tag", "\"x=y\"".into()),
                ("fw_title", "\"T & t\"".into()),
                ("fw_version", format!("\"{name}\"")),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        assert_eq!(bench.shared(&first.name), expected);
        let latest = operations.latest(&first.name).unwrap();
        assert_eq!(latest["fw_state"].value.get(), "\"INITIATED\"");
        assert_eq!(
            latest["target_fw_version"].value.get(),
            format!("\"{name}\"")
        );
        let states = operations.history(&first.name, "fw_state", ALL).unwrap();
        assert_eq!(states[0].value.get(), "\"QUEUED\"");
        // A device that comes later is told, too.
        operations.add_all(std::slice::from_ref(&late)).unwrap();
        assert_eq!(bench.shared(&late.name), expected);
        // One of its own, elsewhere; then its profile's again.
        let url = NewPackage {
            url: Some("https://example.com/x".into()),
            ..package(&format!("{name} elsewhere"))
        };
        let url = operations.add_package(&url, &mut std::io::empty()).unwrap();
        let own = assignment(Some(url.id), Some(&late.name), None);
        assert_eq!(operations.assign_package(&own).unwrap().devices, 1);
        assert_eq!(
            operations.assign_package(&own).unwrap().devices,
            0,
            "as it was"
        );
        let shared = bench.shared(&late.name);
        assert_eq!(shared["fw_url"], "\"https://example.com/x\"");
        assert!(!shared.contains_key("fw_size") && !shared.contains_key("fw_checksum"));
        assert_eq!(kind(operations.remove_package(url.id)), ErrorKind::Conflict);
        assert_eq!(
            kind(operations.remove_package(added.id)),
            ErrorKind::Conflict
        );
        operations
            .assign_package(&assignment(None, Some(&late.name), None))
            .unwrap();
        assert_eq!(bench.shared(&late.name), expected);
        operations.remove_package(url.id).unwrap();
        // None at all.
        let none = operations.change_profile(name, &json!({"firmware": null}));
        assert_eq!(none.unwrap().settings.firmware, None);
        assert!(bench.shared(&first.name).is_empty() && bench.shared(&late.name).is_empty());
        operations.remove_package(added.id).unwrap();
        assert_eq!(
            kind(operations.remove_package(added.id)),
            ErrorKind::NotFound
        );
        for wrong in [
            assignment(Some(added.id), None, Some(name)),
            assignment(None, Some("nobody"), None),
            assignment(None, None, Some("nobody")),
            assignment(None, None, None),
            assignment(None, Some(&first.name), Some(name)),
        ] {
            assert!(operations.assign_package(&wrong).is_err(), "{wrong:?}");
        }
    }
}

#[test]
fn an_upload_that_is_cut_off_is_no_package() {
    let bench = Bench::new();
    let port = bench.admin.address().unwrap().port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "POST /api/ota?type=FIRMWARE&title=T&version=1 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: 1000\r\n\r\nhalf of it"
    );
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    // Another upload, which ends after the first has been taken note of.
    let added = bench
        .remote
        .add_package(&package("2"), &mut &b"whole"[..])
        .unwrap();
    let all = bench.remote.packages().unwrap().packages;
    assert_eq!(all, [added]);
    // Of a type that a foreign page can send: refused.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "POST /api/ota?type=FIRMWARE&title=T&version=3 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {TOKEN}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: 1\r\n\r\nx"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn devices_are_claimed_by_their_secret_and_taken_back() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        operations
            .add(&NewDevice {
                name: name.into(),
                ..NewDevice::default()
            })
            .unwrap();
        let id = bench.opened.registry.device_by_name(name).unwrap().id;
        let claim = |customer: &str, secret: &str| {
            let claim = Claim {
                customer: customer.into(),
                secret_key: secret.into(),
            };
            operations.claim(name, &claim)
        };
        assert_eq!(operations.claim_state(name).unwrap(), Default::default());
        assert_eq!(kind(claim("C", "s")), ErrorKind::Conflict);
        bench
            .claims
            .offer(id, "s", 3_600_000, super::super::local::now_ms())
            .unwrap();
        assert!(
            operations
                .claim_state(name)
                .unwrap()
                .claimable_until_ms
                .is_some()
        );
        assert_eq!(kind(claim("C", "x")), ErrorKind::Forbidden);
        assert_eq!(kind(claim(" ", "s")), ErrorKind::Invalid);
        let claimed = claim("C", "s").unwrap();
        assert_eq!(claimed.customer.as_deref(), Some("C"));
        assert_eq!(operations.claim_state(name).unwrap(), claimed);
        // Somebody else's, as long as it is not taken back.
        bench
            .claims
            .offer(id, "s", 3_600_000, super::super::local::now_ms())
            .unwrap();
        assert!(claim("D", "s").is_err());
        assert_eq!(operations.reclaim(name).unwrap(), Default::default());
        assert_eq!(
            kind(claim("D", "s")),
            ErrorKind::Conflict,
            "the offer ended"
        );
        assert_eq!(operations.claim_state(name).unwrap(), Default::default());
    }
    assert_eq!(kind(bench.local.reclaim("nobody")), ErrorKind::NotFound);
    bench.opened.store.close();
}

#[test]
fn attributes_are_set_for_all_devices_of_a_profile() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        let profile = ProfileView {
            name: name.to_owned(),
            ..ProfileView::default()
        };
        operations.add_profile(&profile).unwrap();
        // More than are looked at at a time, and as many of another profile between them.
        let devices: Vec<NewDevice> = (0..2100)
            .map(|number| NewDevice {
                name: format!("{name}-{number:04}"),
                profile: (number % 2 == 0).then(|| name.to_owned()),
                ..NewDevice::default()
            })
            .collect();
        for part in devices.chunks(500) {
            let added = operations.add_all(part).unwrap();
            assert!(added.iter().all(Result::is_ok));
        }
        let values = json!({"interval": 60, "on": true});
        let values = values.as_object().unwrap();
        let shared = AttributeScope::Shared;
        let changed = operations.set_profile_attributes(name, shared, values);
        assert_eq!(changed.unwrap().devices, 1050);
        for number in [0, 1000, 2098] {
            let found = bench.shared(&format!("{name}-{number:04}"));
            assert_eq!(found["interval"], "60");
            assert_eq!(found["on"], "true");
        }
        assert!(bench.shared(&format!("{name}-0001")).is_empty());
        let unknown = operations.set_profile_attributes("nope", shared, values);
        assert_eq!(kind(unknown), ErrorKind::NotFound);
        let wrong = json!({"interval": null});
        let wrong = operations.set_profile_attributes(name, shared, wrong.as_object().unwrap());
        assert_eq!(kind(wrong), ErrorKind::Invalid);
    }
}
