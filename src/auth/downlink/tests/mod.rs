//! The hub with a scripted shard's side, a store whose commits the test decides, and its own clock.

mod calls;
mod observe;
mod power;
mod reports;

use super::device::{CHANGES_MAX, RECORDS_BYTES_MAX, RECORDS_MAX};
use super::slot::WINDOW;
use super::*;
use crate::auth::api::{Api, ApiSettings, Outcome};
use crate::auth::request::{
    Block, Identity, Notification, PeerRef, RelationEnd, RelationEvent, RelationEventKind, Request,
    RequestMessage, Response, Verdict,
};
use crate::registry::embedded::EmbeddedRegistry;
use crate::registry::{DeviceChange, NewCredential, NewDevice};
use crate::store::batch::{AttributeItems, Record, Records};
use crate::store::embedded::StoreSettings;
use crate::store::{
    Attribute, AttributeScope, Batch, Completion, HistoryQuery, Overloaded, Point, StoreError,
    StoreStatus, Value,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use tempfile::TempDir;

const GET: u8 = 1;
const POST: u8 = 2;
const START_MS: u64 = 1_700_000_000_000;

type Attributes = BTreeMap<(DeviceId, AttributeScope, Box<str>), (i64, Value)>;

/// Attributes in memory; what is appended takes effect when the test commits it.
#[derive(Default)]
struct ScriptedStore {
    stored: Mutex<Attributes>,
    waiting: Mutex<Vec<(Batch, Box<dyn Completion>)>>,
    is_overloaded: AtomicBool,
}

impl ScriptedStore {
    /// Makes everything that waits durable; completions are called after all of it is visible, as a
    /// group commit does.
    fn commit(&self) {
        let group = std::mem::take(&mut *lock(&self.waiting));
        for (batch, _) in &group {
            self.apply(batch);
        }
        for (_, completion) in group {
            completion.complete(Ok(()));
        }
    }

    fn fail(&self) {
        let group = std::mem::take(&mut *lock(&self.waiting));
        for (_, completion) in group {
            completion.complete(Err(&StoreError::Closed));
        }
    }

    fn apply(&self, batch: &Batch) {
        let mut stored = lock(&self.stored);
        for record in Records(batch.as_bytes()) {
            match record.unwrap() {
                Record::Attributes(device, body) => {
                    for item in AttributeItems(body) {
                        let key = (device, item.scope, item.key.into());
                        match item.value {
                            Some(value) => {
                                stored.insert(key, (item.updated_ms, value.to_value()));
                            }
                            None => {
                                stored.remove(&key);
                            }
                        }
                    }
                }
                Record::DeviceRemoved(device) => stored.retain(|(owner, ..), _| *owner != device),
                Record::Telemetry(..) => {}
            }
        }
    }
}

impl Store for ScriptedStore {
    fn append(&self, batch: Batch, completion: Box<dyn Completion>) -> Result<(), Overloaded> {
        if self.is_overloaded.load(Ordering::Relaxed) {
            return Err(Overloaded(completion));
        }
        lock(&self.waiting).push((batch, completion));
        Ok(())
    }

    fn latest(&self, _: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError> {
        Ok(Vec::new())
    }

    fn history(&self, _: DeviceId, _: &str, _: HistoryQuery) -> Result<Vec<Point>, StoreError> {
        Ok(Vec::new())
    }

    fn export(
        &self,
        _: DeviceId,
        _: &mut dyn FnMut(&str, Point) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn attributes(
        &self,
        device: DeviceId,
        scope: AttributeScope,
        keys: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError> {
        let stored = lock(&self.stored);
        let of_device = stored.iter().filter(|((owner, of, key), _)| {
            *owner == device && *of == scope && keys.is_none_or(|keys| keys.contains(&&**key))
        });
        Ok(of_device
            .map(|((_, _, key), (updated_ms, value))| Attribute {
                key: key.clone(),
                updated_ms: *updated_ms,
                value: value.clone(),
            })
            .collect())
    }

    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }

    fn close(&self) {}
}

/// What a test sets for all devices.
struct Fixed(Mutex<Reach>);

impl Policies for Arc<Fixed> {
    fn reach(&self, _: DeviceId) -> Reach {
        *lock(&self.0)
    }
}

struct Bench {
    hub: Arc<Hub>,
    api: Api,
    store: Arc<ScriptedStore>,
    registry: Arc<EmbeddedRegistry>,
    inboxes: Arc<[Arc<Inbox>]>,
    policy: Arc<Fixed>,
    now_ms: Arc<AtomicU64>,
    device: DeviceId,
    exchanges: AtomicU64,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(HubSettings::default())
    }

    fn with(settings: HubSettings) -> Self {
        let directory = TempDir::new().unwrap();
        let opened = crate::store::embedded::open(directory.path(), &StoreSettings::default());
        let registry = opened.unwrap().registry;
        let add = |name: &str, token: &str| {
            registry.add(NewDevice {
                name: name.into(),
                profile: None,
                credential: NewCredential::AccessToken(token.into()),
            })
        };
        let device = add("token", "ACCESS01").unwrap().id;
        add("other", "ACCESS02").unwrap();
        Self::on(settings, Arc::default(), registry, device, directory)
    }

    fn on(
        settings: HubSettings,
        store: Arc<ScriptedStore>,
        registry: Arc<EmbeddedRegistry>,
        device: DeviceId,
        directory: TempDir,
    ) -> Self {
        let inboxes: Arc<[Arc<Inbox>]> = (0..2).map(|_| Arc::new(Inbox::new(64))).collect();
        let policy = Arc::new(Fixed(Mutex::new(Reach::Always)));
        let now_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = Arc::clone(&now_ms);
        let hub = Hub::new(HubParts {
            registry: registry.clone(),
            store: store.clone(),
            inboxes: Arc::clone(&inboxes),
            settings,
            policies: Box::new(Arc::clone(&policy)),
            clock: Box::new(move || clock.load(Ordering::Relaxed)),
        });
        let observer = Arc::downgrade(&hub);
        registry.set_observer(Box::new(move |device, change| {
            let hub = observer.upgrade().unwrap();
            match change {
                DeviceChange::Credential => hub.end_subscriptions(device),
                DeviceChange::Removed => hub.device_removed(device),
            }
        }));
        let api = Api::new(
            registry.clone(),
            store.clone(),
            Arc::clone(&hub),
            ApiSettings::default(),
        );
        Self {
            hub,
            api,
            store,
            registry,
            inboxes,
            policy,
            now_ms,
            device,
            exchanges: AtomicU64::new(0),
            _directory: directory,
        }
    }

    /// The same data after a restart of the process.
    fn restart(self, settings: HubSettings) -> Self {
        let Self {
            store,
            device,
            _directory,
            registry,
            now_ms,
            ..
        } = self;
        // The observer of the first life holds on to nothing.
        let new = Self::on(settings, store, registry, device, _directory);
        new.now_ms
            .store(now_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        new
    }

    fn pass_ms(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
        self.hub.step();
    }

    /// Makes durable what was written, and lets the hub hear of it.
    fn commit(&self) {
        self.store.commit();
        self.hub.step();
    }

    fn request(&self, method: u8, uri: &str, payload: &str) -> Request {
        let exchange = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let (path, queries) = uri.split_once('?').unwrap_or((uri, ""));
        Request {
            peer: PeerRef {
                shard: 1,
                slot: 3,
                generation: 7,
            },
            exchange: u32::try_from(exchange).unwrap(),
            identity: Identity::Anonymous,
            secure: false,
            received_unix_ms: self.now_ms.load(Ordering::Relaxed),
            message: RequestMessage::new(method)
                .with_path(path.split('/').filter(|segment| !segment.is_empty()))
                .with_queries(queries.split('&').filter(|query| !query.is_empty()))
                .with_payload(payload),
        }
    }

    /// The answer to a request, if it is there already.
    fn ask(&self, request: &Request) -> Option<Response> {
        let mut batch = Batch::new();
        match self.api.handle(request, &mut batch) {
            Outcome::Respond(response) => Some(response),
            Outcome::Durable(response) => {
                self.store
                    .append(batch, Box::new(|_: Result<(), &StoreError>| ()))
                    .ok();
                Some(response)
            }
            Outcome::Elsewhere => self.verdict().map(|verdict| {
                assert_eq!(verdict.exchange, request.exchange);
                verdict.response
            }),
        }
    }

    /// Handles a request; returns whatever verdict is in the inbox then.
    fn ask_any(&self, request: &Request) -> Option<Verdict> {
        let outcome = self.api.handle(request, &mut Batch::new());
        assert_eq!(outcome, Outcome::Elsewhere);
        self.verdict()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.inboxes[1].pop()
    }

    fn post(&self, uri: &str, payload: &str) -> String {
        let answer = self.ask(&self.request(POST, uri, payload)).unwrap();
        code_text(answer.code)
    }

    /// Observes; returns the first answer and the relation.
    fn observe(&self, uri: &str) -> (String, RelationId) {
        let mut request = self.request(GET, uri, "");
        request.message.observe = Some(0);
        let answer = self.ask(&request).expect("an answer");
        (text(&answer), answer.relation.expect("a relation"))
    }

    fn notifications(&self) -> Vec<Notification> {
        std::iter::from_fn(|| self.inboxes[1].pop_notification()).collect()
    }

    /// The notifications' payloads and codes; they are acknowledged.
    fn received(&self) -> Vec<String> {
        let notifications = self.notifications();
        for notification in &notifications {
            self.event(notification, true);
        }
        notifications.iter().map(|n| text(&n.response)).collect()
    }

    /// Reports what became of a notification: sent, and acknowledged as well.
    fn event(&self, notification: &Notification, acknowledged: bool) {
        let delivery = notification.delivery;
        let event = |kind| RelationEvent {
            peer: notification.peer,
            relation: notification.relation,
            kind,
        };
        self.hub.on_event(event(RelationEventKind::Sent {
            delivery,
            confirmable: true,
        }));
        if acknowledged {
            self.hub
                .on_event(event(RelationEventKind::Acknowledged { delivery }));
        }
    }

    fn ended(&self, relation: RelationId, end: RelationEnd) {
        self.hub.on_event(RelationEvent {
            peer: self.request(GET, "", "").peer,
            relation,
            kind: RelationEventKind::Ended(end),
        });
    }

    /// Sets shared attributes, without a commit; `None` deletes.
    fn set(&self, changes: &[(&str, Option<Value>)]) {
        let mut delta = Delta::default();
        for (key, value) in changes {
            delta.insert((*key).into(), value.clone());
        }
        let done = Box::new(|_| ());
        let set = self
            .hub
            .set(self.device, AttributeScope::Shared, delta, done);
        set.unwrap();
    }

    fn set_number(&self, key: &str, number: i64) {
        self.set(&[(key, Some(Value::Long(number)))]);
    }

    /// Calls the device; how it ended comes by the channel.
    fn call(&self, new: &NewRpc) -> mpsc::Receiver<Result<RpcEnd, RpcRefusal>> {
        let (sender, receiver) = mpsc::channel();
        // Many a test does not care how it ends.
        let waiter = Box::new(move |end| drop(sender.send(end)));
        self.hub.send_rpc(self.device, new, waiter).unwrap();
        receiver
    }

    fn server_attribute(&self, key: &str) -> Option<Value> {
        let scope = AttributeScope::Server;
        let found = self.store.attributes(self.device, scope, Some(&[key]));
        found.unwrap().pop().map(|attribute| attribute.value)
    }
}

fn code_text(code: u8) -> String {
    format!("{}.{:02}", code >> 5, code & 31)
}

/// Code, Content-Format and payload.
fn text(response: &Response) -> String {
    let format = response
        .content_format
        .map_or_else(String::new, |f| format!(" {f}"));
    let payload = String::from_utf8(response.payload.clone()).unwrap();
    let payload = if payload.is_empty() {
        payload
    } else {
        format!(" {payload}")
    };
    format!("{}{format}{payload}", code_text(response.code))
}
