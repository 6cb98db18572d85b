//! Questions to the shards of a running server.

use super::{RemoteOperations, percent_encoded};
use crate::admin::OperationError;
use crate::admin::api::sessions::SESSIONS_MAX;
use crate::admin::operations::sessions::{SessionOperations, SessionPage, SessionQuery};
use hyper::Method;
use hyper::body::Bytes;

impl SessionOperations for RemoteOperations {
    fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, OperationError> {
        let part = |name: &str, value: &Option<String>| match value {
            Some(value) => format!("&{name}={}", percent_encoded(value)),
            None => String::new(),
        };
        self.get(&format!(
            "/api/sessions?limit={}{}{}",
            query.limit.min(SESSIONS_MAX),
            part("after", &query.after),
            part("device", &query.device),
        ))
    }

    fn close_session(&self, id: &str) -> Result<(), OperationError> {
        let target = format!("/api/sessions/{}", percent_encoded(id));
        self.exchange(Method::DELETE, &target, Bytes::new())
            .map(drop)
    }
}
