#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of the tests themselves"
)]

use super::*;
use crate::auth::api::ApiSettings;
use crate::auth::request::{Identity, PeerRef, RequestMessage};
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::registry::revocation::RevocationList;
use crate::registry::{Device, DeviceId, NewCredential, NewDevice, Registry, RegistryError};
use crate::store::embedded::{Opened, StoreSettings, open};
use crate::store::{Attribute, AttributeScope, HistoryQuery, Point, StoreStatus, Value};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn request(shard: u16, exchange: u32, token: &str, payload: &str) -> Request {
    Request {
        peer: PeerRef {
            shard,
            slot: exchange,
            generation: 9,
        },
        exchange,
        identity: Identity::Anonymous,
        secure: false,
        received_unix_ms: u64::from(exchange),
        message: RequestMessage::new(2)
            .with_path(["api", "v1", token, "telemetry"])
            .with_payload(payload),
    }
}

struct Running {
    pool: Pool,
    queues: Arc<RequestQueues>,
    inboxes: Arc<[Arc<Inbox>]>,
}

impl Running {
    fn new(registry: Arc<dyn Registry>, store: Arc<dyn Store>) -> Self {
        let (queues, workers) = RequestQueues::new(2, 4096, 2);
        let inboxes: Arc<[Arc<Inbox>]> = (0..2).map(|_| Arc::new(Inbox::new(8192))).collect();
        let hub = Hub::without_shards(Arc::clone(&registry), Arc::clone(&store), Box::new(|| 1));
        let api = Arc::new(Api::new(
            registry,
            Arc::clone(&store),
            hub,
            ApiSettings::default(),
        ));
        let pool = Pool::start(
            Arc::clone(&queues),
            workers,
            Arc::clone(&inboxes),
            api,
            store,
        )
        .unwrap();
        Self {
            pool,
            queues,
            inboxes,
        }
    }

    fn submit(&self, request: Request) {
        let queue = self.queues.shard(usize::from(request.peer.shard)).unwrap();
        queue.submit(request).unwrap();
        queue.notify();
    }

    /// The next verdict for a shard.
    fn verdict(&self, shard: usize) -> Verdict {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(verdict) = self.inboxes[shard].pop() {
                return verdict;
            }
            assert!(Instant::now() < deadline, "no verdict came");
            std::thread::yield_now();
        }
    }
}

fn embedded() -> (TempDir, Opened) {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &StoreSettings::default()).unwrap();
    let device = NewDevice {
        name: "d".into(),
        profile: None,
        credential: NewCredential::AccessToken("T".into()),
    };
    opened.registry.add(device).unwrap();
    (directory, opened)
}

#[test]
fn every_request_is_answered_once_to_its_shard_and_stored() {
    let (_directory, opened) = embedded();
    let running = Running::new(opened.registry.clone(), opened.store.clone());
    let mut expected = HashMap::new();
    for exchange in 0..2000 {
        let (token, payload, code) = match exchange % 4 {
            0 => ("T", "{", code::BAD_REQUEST),
            1 => ("X", "{}", code::UNAUTHORIZED),
            _ => ("T", "{a:1}", code::CREATED),
        };
        let shard = u16::from(exchange % 3 == 0);
        expected.insert((usize::from(shard), exchange), code);
        running.submit(request(shard, exchange, token, payload));
    }
    running.pool.stop();
    opened.store.close();
    for shard in 0..2 {
        while let Some(verdict) = running.inboxes[shard].pop() {
            assert_eq!(
                (verdict.peer.slot, verdict.peer.generation),
                (verdict.exchange, 9)
            );
            let code = expected.remove(&(shard, verdict.exchange));
            assert_eq!(code, Some(verdict.response.code));
        }
    }
    assert!(expected.is_empty(), "{} without an answer", expected.len());
    let counts = running.pool.counts();
    assert_eq!((counts.requests, counts.panics), (2000, 0));
    let responses = [
        (code::CREATED, 1000),
        (code::BAD_REQUEST, 500),
        (code::UNAUTHORIZED, 500),
    ];
    assert_eq!(counts.responses, responses);
    let device = opened.registry.device_by_name("d").unwrap().id;
    let query = HistoryQuery {
        limit: usize::MAX,
        ..HistoryQuery::default()
    };
    let stored = opened.store.history(device, "a", query).unwrap();
    assert_eq!(stored.len(), 1000);
    assert!(stored.iter().all(|point| point.value == Value::Long(1)));
}

/// A registry that panics for one token, as a defect would.
struct Panicking(Arc<dyn Registry>);

impl Registry for Panicking {
    fn device_by_token(&self, token: &str) -> Option<Arc<Device>> {
        assert!(token != "PANIC", "on purpose");
        self.0.device_by_token(token)
    }
    fn device_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<Arc<Device>> {
        self.0.device_by_fingerprint(fingerprint)
    }
    fn identify_psk_identity(&self, identity_hash: &[u8; 32]) -> Option<DeviceId> {
        self.0.identify_psk_identity(identity_hash)
    }
    fn pre_shared_key(&self, identity_hash: &[u8; 32]) -> Option<Arc<PreSharedKey>> {
        assert!(*identity_hash != [0xff; 32], "on purpose");
        self.0.pre_shared_key(identity_hash)
    }
    fn has_pre_shared_keys(&self) -> bool {
        self.0.has_pre_shared_keys()
    }
    fn device_by_name(&self, name: &str) -> Option<Arc<Device>> {
        self.0.device_by_name(name)
    }
    fn device(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.0.device(id)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Device>> {
        self.0.list(after, limit)
    }
    fn certificate(&self, name: &str) -> Result<Option<String>, RegistryError> {
        self.0.certificate(name)
    }
    fn add_many(&self, devices: Vec<NewDevice>) -> Vec<Result<Arc<Device>, RegistryError>> {
        self.0.add_many(devices)
    }
    fn revocations(&self) -> &Arc<RevocationList> {
        self.0.revocations()
    }
    fn remove(&self, name: &str) -> Result<Arc<Device>, RegistryError> {
        self.0.remove(name)
    }
    fn set_credential(
        &self,
        name: &str,
        credential: NewCredential,
    ) -> Result<Arc<Device>, RegistryError> {
        self.0.set_credential(name, credential)
    }
}

#[test]
fn a_panic_is_answered_and_harms_no_other_request() {
    let (_directory, opened) = embedded();
    let registry = Arc::new(Panicking(opened.registry.clone()));
    let running = Running::new(registry, opened.store.clone());
    for round in 0..10 {
        running.submit(request(0, round * 3, "T", "{a:1}"));
        running.submit(request(0, round * 3 + 1, "PANIC", "{a:1}"));
        running.submit(request(0, round * 3 + 2, "T", "{a:1}"));
    }
    for _ in 0..30 {
        let verdict = running.verdict(0);
        let expected = match verdict.exchange % 3 {
            1 => code::INTERNAL_SERVER_ERROR,
            _ => code::CREATED,
        };
        assert_eq!(verdict.response.code, expected);
    }
    assert_eq!(running.pool.counts().panics, 10);
    running.pool.stop();
}

/// A store that does one thing with every batch.
struct Refusing(Option<StoreError>);

impl Store for Refusing {
    fn append(&self, _: Batch, completion: Box<dyn Completion>) -> Result<(), Overloaded> {
        match &self.0 {
            Some(error) => {
                completion.complete(Err(error));
                Ok(())
            }
            None => Err(Overloaded(completion)),
        }
    }
    fn latest(&self, _: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError> {
        Err(StoreError::Closed)
    }
    fn history(&self, _: DeviceId, _: &str, _: HistoryQuery) -> Result<Vec<Point>, StoreError> {
        Err(StoreError::Closed)
    }
    fn export(
        &self,
        _: DeviceId,
        _: &mut dyn FnMut(&str, Point) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn attributes(
        &self,
        _: DeviceId,
        _: AttributeScope,
        _: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError> {
        Err(StoreError::Closed)
    }
    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }
    fn close(&self) {}
}

#[test]
fn what_the_store_refuses_is_not_acknowledged() {
    let (_directory, opened) = embedded();
    let later = (code::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_S));
    for (error, (code, max_age)) in [
        (None, later),
        (Some(StoreError::Full("x".into())), later),
        (Some(StoreError::Failed("x".into())), later),
        (Some(StoreError::Closed), later),
        (
            Some(StoreError::Read("x".into())),
            (code::INTERNAL_SERVER_ERROR, None),
        ),
    ] {
        let running = Running::new(opened.registry.clone(), Arc::new(Refusing(error)));
        running.submit(request(1, 7, "T", "{a:1}"));
        let verdict = running.verdict(1);
        assert_eq!(
            (verdict.response.code, verdict.response.max_age),
            (code, max_age)
        );
        // Attributes that cannot be read.
        let mut read = request(1, 8, "T", "");
        read.message = RequestMessage::new(1).with_path(["api", "v1", "T", "attributes"]);
        running.submit(read);
        assert_eq!(
            running.verdict(1).response.code,
            code::INTERNAL_SERVER_ERROR
        );
        running.pool.stop();
    }
}

#[test]
fn look_ups_are_answered_and_a_panic_in_one_is_a_key_that_nobody_has() {
    use crate::crypto::pre_shared_key::psk_identity_hash;

    let (_directory, opened) = embedded();
    let device = NewDevice {
        name: "psk".into(),
        profile: None,
        credential: NewCredential::PreSharedKey {
            identity: "meter".into(),
            key: None,
        },
    };
    opened.registry.add(device).unwrap();
    let registry = Arc::new(Panicking(opened.registry.clone()));
    let running = Running::new(registry, opened.store.clone());
    let identities = [psk_identity_hash(b"meter"), [0; 32], [0xff; 32]];
    let queue = running.queues.shard(1).unwrap();
    for (handshake, identity) in (0..).zip(identities) {
        let peer = request(1, 5, "T", "").peer;
        let lookup = CredentialRequest {
            peer,
            handshake,
            identity,
        };
        queue.submit_credential(lookup).unwrap();
    }
    // A request beside them is not held up.
    running.submit(request(0, 1, "T", "{a:1}"));
    assert_eq!(running.verdict(0).response.code, code::CREATED);
    queue.notify();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.extend(running.inboxes[1].pop_credential());
        assert!(Instant::now() < deadline, "no answer came");
        std::thread::yield_now();
    }
    answers.sort_by_key(|answer| answer.request.handshake);
    let known = opened.registry.pre_shared_key(&identities[0]);
    assert!(known.is_some());
    assert_eq!(answers[0].key, known);
    assert_eq!(answers[1].key, None);
    assert_eq!(answers[2].key, None);
    assert_eq!(running.pool.counts().panics, 1);
    running.pool.stop();
}
