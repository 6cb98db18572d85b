//! Operations on a running server, over its unix socket.

mod claims;
mod ota;
mod profiles;
mod rpc;
mod sessions;

use crate::admin::api::data::{History, READINGS_MAX};
use crate::admin::api::devices::DEVICES_MAX;
use crate::admin::api::import::{IMPORT_BODY_MAX, IMPORT_MAX, Import, Imported};
use crate::admin::listen;
use crate::admin::operations::{
    Added, Attributes, Deleted, DevicePage, DeviceView, ErrorKind, Latest, NewAttributes,
    NewCredentials, NewDevice, OperationError, Operations, Reading,
};
use crate::store::{AttributeScope, HistoryQuery, Order};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Longest answer that is read, bytes.
const ANSWER_MAX: usize = 256 << 20;
/// How long an answer may take; the server gives up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Operations through the admin socket of a running server.
#[derive(Debug)]
pub struct RemoteOperations {
    socket: PathBuf,
    runtime: Runtime,
}

impl RemoteOperations {
    /// Reaches for the server behind `socket`; `None` when there is none: no socket, or one that a
    /// killed server left.
    ///
    /// # Errors
    ///
    /// The socket is there and cannot be used.
    pub fn connect(socket: &Path) -> Result<Option<Self>, OperationError> {
        match listen::connect(socket) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unreachable_server(socket, &error)),
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable_server(socket, &error))?;
        Ok(Some(Self {
            socket: socket.to_owned(),
            runtime,
        }))
    }

    fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, OperationError> {
        let answer = self.exchange(Method::GET, target, Bytes::new())?;
        self.read(&answer)
    }

    fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, OperationError> {
        self.send(Method::POST, target, body)
    }

    /// Sends a body as JSON; reads the answer.
    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, OperationError> {
        let answer = self.send_only(method, target, body)?;
        self.read(&answer)
    }

    /// Sends a body as JSON.
    fn send_only(
        &self,
        method: Method,
        target: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, OperationError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            OperationError::new(ErrorKind::Invalid, error.to_string(), String::new())
        })?;
        self.exchange(method, target, body.into())
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, OperationError> {
        serde_json::from_slice(answer).map_err(|error| unreachable_server(&self.socket, &error))
    }

    /// Sends a request whose body is JSON, or empty.
    fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<Bytes, OperationError> {
        self.exchange_within(ANSWER_TIMEOUT, method, target, body)
    }

    /// The same with another time for the answer.
    fn exchange_within(
        &self,
        timeout: Duration,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Bytes, OperationError> {
        self.exchange_typed(timeout, "application/json", method, target, body)
    }

    /// Sends a request whose body is bytes.
    fn exchange_bytes(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Bytes, OperationError> {
        let content_type = "application/octet-stream";
        self.exchange_typed(ANSWER_TIMEOUT, content_type, method, target, body)
    }

    /// Sends a request; gives the body of an answer that is a success.
    fn exchange_typed(
        &self,
        timeout: Duration,
        content_type: &str,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Bytes, OperationError> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|error| unreachable_server(&self.socket, &error))?;
        let exchange = async {
            let stream = listen::connect(&self.socket)?;
            stream.set_nonblocking(true)?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            let io = TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                .await
                .map_err(io::Error::other)?;
            let driver = tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(io::Error::other)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            driver.abort();
            Ok::<_, io::Error>((status, body))
        };
        let timed = self
            .runtime
            .block_on(async { tokio::time::timeout(timeout, exchange).await });
        let (status, body) = timed
            .map_err(|_| unreachable_server(&self.socket, &"it does not answer"))?
            .map_err(|error| unreachable_server(&self.socket, &error))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(self.refusal(status, &body))
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> OperationError {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let problem = format!("it answers {status}");
            unreachable_server(&self.socket, &problem)
        })
    }
}

fn unreachable_server(socket: &Path, problem: &dyn std::fmt::Display) -> OperationError {
    let message = format!(
        "the running server cannot be asked through {}: {problem}",
        socket.display()
    );
    let remedy = "run this command as the server's user, and of the server's version";
    OperationError::new(ErrorKind::Failed, message, remedy)
}

impl Operations for RemoteOperations {
    fn devices(&self, after: Option<&str>, limit: usize) -> Result<DevicePage, OperationError> {
        let limit = limit.min(DEVICES_MAX);
        let after = after.map_or_else(String::new, |after| {
            format!("&after={}", percent_encoded(after))
        });
        self.get(&format!("/api/devices?limit={limit}{after}"))
    }

    fn device(&self, name: &str) -> Result<DeviceView, OperationError> {
        self.get(&device_path(name))
    }

    fn add(&self, device: &NewDevice) -> Result<DeviceView, OperationError> {
        self.post("/api/devices", device)
    }

    fn add_all(&self, devices: &[NewDevice]) -> Result<Vec<Added>, OperationError> {
        let mut outcomes = Vec::with_capacity(devices.len());
        let mut rest = devices;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest));
            rest = after;
            let import = Import {
                devices: part.to_vec(),
            };
            let imported: Imported = self.post("/api/import", &import)?;
            outcomes.extend(
                imported
                    .errors
                    .into_iter()
                    .map(|error| error.map_or(Ok(()), Err)),
            );
        }
        Ok(outcomes)
    }

    fn remove(&self, name: &str) -> Result<(), OperationError> {
        self.exchange(Method::DELETE, &device_path(name), Bytes::new())
            .map(drop)
    }

    fn set_credentials(
        &self,
        name: &str,
        credentials: &NewCredentials,
    ) -> Result<DeviceView, OperationError> {
        let target = format!("{}/credentials", device_path(name));
        self.send(Method::PUT, &target, credentials)
    }

    fn set_profile(&self, name: &str, profile: &str) -> Result<DeviceView, OperationError> {
        let change = serde_json::json!({ "profile": profile });
        self.send(Method::PATCH, &device_path(name), &change)
    }

    fn delete_telemetry(
        &self,
        name: &str,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Deleted, OperationError> {
        let target = format!(
            "{}/telemetry?key={}&from={from_ms}&to={to_ms}",
            device_path(name),
            percent_encoded(key),
        );
        let answer = self.exchange(Method::DELETE, &target, Bytes::new())?;
        self.read(&answer)
    }

    fn latest(&self, name: &str) -> Result<Latest, OperationError> {
        self.get(&format!("{}/telemetry", device_path(name)))
    }

    /// At most 10 000 readings at a time.
    fn history(
        &self,
        name: &str,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Reading>, OperationError> {
        let order = match query.order {
            Order::Ascending => "asc",
            Order::Descending => "desc",
        };
        let history: History = self.get(&format!(
            "{}/telemetry?key={}&from={}&to={}&limit={}&order={order}",
            device_path(name),
            percent_encoded(key),
            query.from_ms,
            query.to_ms,
            query.limit.min(READINGS_MAX),
        ))?;
        Ok(history.readings)
    }

    fn attributes(&self, name: &str) -> Result<Attributes, OperationError> {
        self.get(&format!("{}/attributes", device_path(name)))
    }

    fn set_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<(), OperationError> {
        let target = format!("{}/attributes/{}", device_path(name), scope.name());
        self.send_only(Method::PUT, &target, attributes).map(drop)
    }

    fn delete_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        keys: &[String],
    ) -> Result<(), OperationError> {
        for key in keys {
            let scope = scope.name();
            let key = percent_encoded(key);
            let target = format!("{}/attributes/{scope}/{key}", device_path(name));
            self.exchange(Method::DELETE, &target, Bytes::new())?;
        }
        Ok(())
    }
}

/// How many of the first devices fit into one request; at least one.
fn fitting(devices: &[NewDevice]) -> usize {
    /// Half of what the server takes, as JSON may need an escape for many a character.
    const TEXT_MAX: usize = IMPORT_BODY_MAX / 2;
    let mut text = 0;
    let fits = |device: &&NewDevice| {
        let parts = [
            &device.token,
            &device.certificate,
            &device.psk_identity,
            &device.profile,
        ];
        let lengths = parts.into_iter().flatten().map(String::len);
        let key = device.psk.as_ref().map_or(0, |key| key.0.len());
        text += device.name.len() + lengths.sum::<usize>() + key + 64;
        text <= TEXT_MAX
    };
    let count = devices.iter().take(IMPORT_MAX).take_while(fits).count();
    count.max(1)
}

fn device_path(name: &str) -> String {
    format!("/api/devices/{}", percent_encoded(name))
}

/// RFC 3986 section 2.1, for all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
