//! Whether the database takes changes.

use std::sync::{Arc, OnceLock};

/// What became of writes. The database takes no more after one that failed, until it is opened anew, as it does
/// not know what the disk holds. Everybody who writes shares one of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes(Arc<OnceLock<String>>);

impl Writes {
    /// Hands on how a commit ended. The first failure is logged, with the remedy, and kept.
    ///
    /// # Errors
    /// The failure, and what to do.
    pub(crate) fn note(&self, committed: fjall::Result<()>) -> Result<(), String> {
        committed.map_err(|error| {
            let text = format!(
                "{error}; see that the disk has room, and restart tidegate: until then nothing can be changed"
            );
            if self.0.set(text.clone()).is_ok() {
                tracing::error!(reason = %text, "a change of the registry could not be written");
            }
            text
        })
    }

    /// Why no change is taken any more.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_kept_for_all_and_names_the_remedy() {
        let writes = Writes::default();
        let others = writes.clone();
        assert_eq!(writes.note(Ok(())), Ok(()));
        assert_eq!(writes.failure(), None);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let told = others.note(Err(fjall::Error::Io(full))).unwrap_err();
        assert!(told.contains("restart tidegate"), "{told}");
        // What follows is no news.
        writes.note(Err(fjall::Error::Poisoned)).unwrap_err();
        assert_eq!(writes.failure(), Some(told));
    }
}
