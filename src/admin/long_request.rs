//! Requests that may outlive their connection's time: one that waits for a device, or brings a package.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a connection has such a request in work.
#[derive(Clone, Debug, Default)]
pub(super) struct LongRequest(Arc<AtomicBool>);

/// As long as this is held, it has.
#[derive(Debug)]
pub(super) struct InWork(LongRequest);

impl LongRequest {
    /// A long request begins; a connection has one request in work at a time.
    pub(super) fn begin(&self) -> InWork {
        self.0.store(true, Ordering::Relaxed);
        InWork(self.clone())
    }

    /// Whether there is one.
    pub(super) fn is_in_work(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_nobody_holds_it_any_more() {
        let long = LongRequest::default();
        assert!(!long.is_in_work());
        let in_work = long.clone().begin();
        assert!(long.is_in_work());
        drop(in_work);
        assert!(!long.is_in_work());
    }
}
