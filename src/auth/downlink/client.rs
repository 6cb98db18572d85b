//! Calls of devices to the server (TB section 7.5): offered to the operator's programs, answered by
//! them.
//!
//! ```text
//! POST rpc -> waiting --a program asks--> handed out --its reply--> 2.05
//!                \------------------ time over -----------------> 5.04
//! ```
//!
//! A call holds the permit of its request until it is answered, so their number is bounded, and a
//! single device's share of it is small.

use super::delta::Encoding;
use super::{Hub, lock};
use crate::auth::api::code;
use crate::auth::api::proto::{self, ClientCallAnswer};
use crate::auth::json::{self, Json};
use crate::auth::pool::RETRY_AFTER_S;
use crate::auth::request::{PeerRef, Request, Response, Verdict};
use crate::auth::tally::Tallied;
use crate::registry::DeviceId;
use crate::store::value::write_json_string;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Content-Format application/json.
const JSON: u16 = 50;
/// Most calls of one device that wait at a time.
const PER_DEVICE_MAX: u32 = 8;
/// Most programs that wait for calls at a time.
const PROGRAMS_MAX: usize = 256;

/// A device's call as a program sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferedCall {
    /// Its number, for the reply.
    pub id: u64,
    /// The name of the device.
    pub device: String,
    /// What is called.
    pub method: String,
    /// Its parameters; `{}` when it has none.
    pub params: Box<RawValue>,
}

/// What a program says to a call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallAnswer {
    /// The answer, any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Box<RawValue>>,
    /// Why there is none: the device gets `{"error":"..."}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A program of the operator that waits for calls.
pub trait Program: Send {
    /// Takes the calls, or gives them back when it is gone.
    ///
    /// # Errors
    ///
    /// It is gone.
    fn take(self: Box<Self>, calls: Vec<OfferedCall>) -> Result<(), Vec<OfferedCall>>;

    /// Whether it waits no longer.
    fn is_gone(&self) -> bool;
}

/// Calls that wait.
pub(super) struct ClientCalls {
    state: Mutex<Calls>,
    per_shard_max: usize,
    /// When the oldest one ends.
    next_end_ms: AtomicU64,
}

#[derive(Default)]
struct Calls {
    next_id: u64,
    /// By number, which is also the order in which their time is over.
    open: BTreeMap<u64, Call>,
    /// Not handed out yet, oldest first.
    waiting: VecDeque<u64>,
    programs: VecDeque<Box<dyn Program>>,
    per_device: HashMap<DeviceId, u32>,
    per_shard: Vec<usize>,
    /// The server stops: no more are taken.
    closed: bool,
}

struct Call {
    device: DeviceId,
    peer: PeerRef,
    exchange: u32,
    encoding: Encoding,
    content_format: Option<u16>,
    ends_ms: u64,
    offer: Option<OfferedCall>,
}

impl ClientCalls {
    pub(super) fn new(per_shard_max: usize, shards: usize) -> Self {
        Self {
            state: Mutex::new(Calls {
                per_shard: vec![0; shards],
                ..Calls::default()
            }),
            per_shard_max,
            next_end_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl Calls {
    /// Takes a call out.
    fn take(&mut self, id: u64) -> Option<Call> {
        let call = self.open.remove(&id)?;
        if let Some(count) = self.per_device.get_mut(&call.device) {
            *count -= 1;
            if *count == 0 {
                self.per_device.remove(&call.device);
            }
        }
        if let Some(count) = self.per_shard.get_mut(usize::from(call.peer.shard)) {
            *count -= 1;
        }
        Some(call)
    }

    /// Takes up to `limit` calls that nobody has yet.
    fn offers(&mut self, limit: usize) -> Vec<OfferedCall> {
        let mut offers = Vec::new();
        while offers.len() < limit
            && let Some(id) = self.waiting.pop_front()
        {
            let call = self.open.get_mut(&id);
            offers.extend(call.and_then(|call| call.offer.take()));
        }
        offers
    }

    /// Puts calls back that no program took.
    fn put_back(&mut self, offers: Vec<OfferedCall>) {
        for offer in offers.into_iter().rev() {
            if let Some(call) = self.open.get_mut(&offer.id) {
                self.waiting.push_front(offer.id);
                call.offer = Some(offer);
            }
        }
    }

    /// Hands calls to programs while there are both.
    fn hand_out(&mut self) {
        while !self.waiting.is_empty()
            && let Some(program) = self.programs.pop_front()
        {
            let offers = self.offers(1);
            if offers.is_empty() {
                self.programs.push_front(program);
                return;
            }
            if let Err(offers) = program.take(offers) {
                self.put_back(offers);
            }
        }
    }
}

impl Call {
    fn verdict(self, response: Response) -> Verdict {
        Verdict {
            peer: self.peer,
            exchange: self.exchange,
            response,
            buffer: Vec::new(),
        }
    }
}

impl Hub {
    /// Takes a device's call: `{"method":"m","params":...}`. The answer comes later, unless it is
    /// returned: it is none, or too many wait.
    pub fn client_call(&self, device: DeviceId, request: &Request) -> Option<Response> {
        let encoding = self.encoding(device);
        let (method, params) = match read_call(request.message.payload(), encoding) {
            Ok(call) => call,
            Err(code) => return Some(Response::empty(code)),
        };
        let Some(known) = self.registry.device(device) else {
            return Some(Response::empty(code::UNAUTHORIZED));
        };
        let now_ms = self.now_ms();
        let ends_ms = now_ms.saturating_add(self.settings.client_call_timeout_ms);
        let mut calls = lock(&self.client_calls.state);
        let shard = usize::from(request.peer.shard);
        let of_device = calls.per_device.get(&device).copied().unwrap_or(0);
        let of_shard = calls.per_shard.get(shard).copied().unwrap_or(usize::MAX);
        let is_full = of_device >= PER_DEVICE_MAX || of_shard >= self.client_calls.per_shard_max;
        if calls.closed || is_full {
            return Some(Response {
                max_age: Some(RETRY_AFTER_S),
                ..Response::empty(code::SERVICE_UNAVAILABLE)
            });
        }
        *calls.per_device.entry(device).or_default() += 1;
        calls.per_shard[shard] += 1;
        let id = calls.next_id;
        calls.next_id += 1;
        let call = Call {
            device,
            peer: request.peer,
            exchange: request.exchange,
            encoding,
            content_format: request.message.content_format,
            ends_ms,
            offer: Some(OfferedCall {
                id,
                device: known.name.to_string(),
                method,
                params,
            }),
        };
        let is_first = calls.open.is_empty();
        calls.open.insert(id, call);
        calls.waiting.push_back(id);
        calls.hand_out();
        drop(calls);
        self.tally.count(Tallied::ClientCalls);
        if is_first {
            self.client_calls
                .next_end_ms
                .store(ends_ms, Ordering::Relaxed);
            self.work.wake_by(ends_ms);
        }
        None
    }

    /// Offers calls of devices to a program: those that wait now, at most `limit`, or else the next
    /// one that comes. `false`, and `program` is not called, when too many programs wait.
    pub fn offer_calls(&self, limit: usize, program: Box<dyn Program>) -> bool {
        let mut calls = lock(&self.client_calls.state);
        let offers = calls.offers(limit);
        if !offers.is_empty() {
            if let Err(offers) = program.take(offers) {
                calls.put_back(offers);
            }
            return true;
        }
        calls.programs.retain(|program| !program.is_gone());
        if calls.programs.len() >= PROGRAMS_MAX {
            return false;
        }
        calls.programs.push_back(program);
        true
    }

    /// Answers a device's call; `false` when it is answered already or its time is over.
    pub fn answer_call(&self, id: u64, answer: &CallAnswer) -> bool {
        let Some(call) = lock(&self.client_calls.state).take(id) else {
            return false;
        };
        let response = match call.encoding {
            Encoding::Protobuf => proto::response(code::CONTENT, &proto_answer(answer)),
            Encoding::Json => Response {
                code: code::CONTENT,
                content_format: Some(call.content_format.unwrap_or(JSON)),
                payload: json_answer(answer).into_bytes(),
                ..Response::default()
            },
        };
        self.delivery.deliver([call.verdict(response)]);
        true
    }

    /// Answers 5.04 to devices whose calls nobody has answered in time.
    pub(super) fn expire_client_calls(&self, now_ms: u64) {
        if self.next_expiry_ms() > now_ms {
            return;
        }
        let mut over = Vec::new();
        let mut calls = lock(&self.client_calls.state);
        while let Some((&id, call)) = calls.open.first_key_value()
            && call.ends_ms <= now_ms
        {
            let call = calls.take(id);
            let gone = Response::empty(code::GATEWAY_TIMEOUT);
            over.extend(call.map(|call| call.verdict(gone)));
        }
        let next = calls.open.first_key_value();
        let next_ms = next.map_or(u64::MAX, |(_, call)| call.ends_ms);
        self.client_calls
            .next_end_ms
            .store(next_ms, Ordering::Relaxed);
        let open: Vec<u64> = calls.waiting.drain(..).collect();
        let open = open
            .into_iter()
            .filter(|id| calls.open.contains_key(id))
            .collect();
        calls.waiting = open;
        drop(calls);
        self.delivery.deliver(over);
    }

    /// When the next call of a device is over.
    pub(super) fn next_expiry_ms(&self) -> u64 {
        self.client_calls.next_end_ms.load(Ordering::Relaxed)
    }

    /// Answers 5.03 to all devices that wait for an answer, and to those that come, as the server stops.
    pub fn refuse_client_calls(&self) {
        let mut calls = lock(&self.client_calls.state);
        calls.closed = true;
        let open: Vec<u64> = calls.open.keys().copied().collect();
        let taken: Vec<Call> = open.into_iter().filter_map(|id| calls.take(id)).collect();
        drop(calls);
        let refusal = || Response {
            max_age: Some(RETRY_AFTER_S),
            ..Response::empty(code::SERVICE_UNAVAILABLE)
        };
        self.delivery
            .deliver(taken.into_iter().map(|call| call.verdict(refusal())));
    }
}

fn json_answer(answer: &CallAnswer) -> String {
    match (&answer.reply, &answer.error) {
        (Some(reply), _) => reply.get().to_owned(),
        (None, Some(error)) => {
            let mut text = "{\"error\":".to_owned();
            write_json_string(error, &mut text);
            text.push('}');
            text
        }
        (None, None) => "null".to_owned(),
    }
}

fn proto_answer(answer: &CallAnswer) -> ClientCallAnswer {
    let (payload, error) = match (&answer.reply, &answer.error) {
        (Some(reply), _) => (reply.get().to_owned(), String::new()),
        (None, Some(error)) => (String::new(), error.clone()),
        (None, None) => ("null".to_owned(), String::new()),
    };
    ClientCallAnswer {
        request_id: 0,
        payload,
        error,
    }
}

/// Method and parameters of a call.
///
/// # Errors
///
/// The payload is none; the code says so (TB section 6).
fn read_call(payload: &[u8], encoding: Encoding) -> Result<(String, Box<RawValue>), u8> {
    let not_a_call = code::INTERNAL_SERVER_ERROR;
    if encoding == Encoding::Json {
        return read_json_call(payload).ok_or(not_a_call);
    }
    let call = proto::ClientCall::decode(payload).map_err(|_| code::BAD_REQUEST)?;
    if call.method.is_empty() {
        return Err(not_a_call);
    }
    let mut params = String::new();
    match &*call.params {
        "" => params.push_str("{}"),
        text => json::parse(text)
            .map_err(|_| code::BAD_REQUEST)?
            .write(&mut params),
    }
    let params = RawValue::from_string(params).map_err(|_| code::BAD_REQUEST)?;
    Ok((call.method, params))
}

fn read_json_call(payload: &[u8]) -> Option<(String, Box<RawValue>)> {
    let text = std::str::from_utf8(payload).ok()?;
    let Json::Object(members) = json::parse(text).ok()? else {
        return None;
    };
    let member = |wanted: &str| {
        let mut members = members.iter();
        members
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
    };
    let method = match member("method")? {
        Json::String(method) => method.to_string(),
        Json::Number(lexeme) => (*lexeme).to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    };
    let mut params = String::new();
    match member("params") {
        Some(value) => value.write(&mut params),
        None => params.push_str("{}"),
    }
    Some((method, RawValue::from_string(params).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_method() {
        let read = |text: &str| {
            let (method, params) = read_call(text.as_bytes(), Encoding::Json).ok()?;
            Some(format!("{method} {}", params.get()))
        };
        let full = r#"{"method":"getTime","params":{"zone":"UTC"}}"#;
        assert_eq!(read(full).as_deref(), Some(r#"getTime {"zone":"UTC"}"#));
        assert_eq!(read("{method:m}").as_deref(), Some("m {}"));
        assert_eq!(read("{method:m,params:[1, 2]}").as_deref(), Some("m [1,2]"));
        for no_call in ["{}", "{", "5", "", "{\"params\":{}}", "{\"method\":{}}"] {
            assert_eq!(read(no_call), None, "{no_call}");
        }
    }

    #[test]
    fn in_protobuf_the_parameters_are_json_text() {
        let read = |method: &str, params: &str| {
            let call = proto::ClientCall {
                method: method.into(),
                params: params.into(),
            };
            let (method, params) = read_call(&call.encode_to_vec(), Encoding::Protobuf)?;
            Ok(format!("{method} {}", params.get()))
        };
        assert_eq!(read("m", "{a: 1}"), Ok(r#"m {"a":1}"#.to_owned()));
        assert_eq!(read("m", ""), Ok("m {}".to_owned()));
        assert_eq!(read("m", "{"), Err(code::BAD_REQUEST));
        assert_eq!(read("", "{}"), Err(code::INTERNAL_SERVER_ERROR));
        let torn = read_call(b"\x0a\x05m", Encoding::Protobuf).map(|_| ());
        assert_eq!(torn, Err(code::BAD_REQUEST));
        let refused = CallAnswer {
            reply: None,
            error: Some("no".into()),
        };
        assert_eq!(proto_answer(&refused).encode_to_vec(), b"\x1a\x02no");
    }
}
