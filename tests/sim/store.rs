//! A store in memory whose disk answers when the simulation says so, or refuses, or fails.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate::random::{Random, SeededRandom};
use tidegate::registry::{DeviceId, Registry};
use tidegate::store::{
    Attribute, AttributeScope, Batch, Completion, HistoryQuery, Overloaded, Point, Store,
    StoreError, StoreStatus, Value,
};

use crate::plan::StoreFaults;
use crate::registry::TestRegistry;

/// A reading that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) device: DeviceId,
    pub(crate) value: u64,
}

struct Waiting {
    readings: Vec<Stored>,
    completion: Box<dyn Completion>,
    fails: bool,
}

struct Inner {
    faults: StoreFaults,
    dice: SeededRandom,
    waiting: Vec<Waiting>,
    /// On the disk and not yet looked at by the checkers.
    written: Vec<Stored>,
    refusals: u64,
    failures: u64,
}

/// The store. Batches wait until [`Self::commit`].
pub(crate) struct MemoryStore {
    inner: Mutex<Inner>,
    registry: Arc<TestRegistry>,
}

impl MemoryStore {
    pub(crate) fn new(faults: StoreFaults, seed: u64, registry: Arc<TestRegistry>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                faults,
                dice: SeededRandom::new(seed),
                waiting: Vec::new(),
                written: Vec::new(),
                refusals: 0,
                failures: 0,
            }),
            registry,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the disk is well.
    pub(crate) fn heal(&self) {
        self.inner().faults = StoreFaults::default();
    }

    /// Whether batches wait for [`Self::commit`].
    pub(crate) fn is_waiting(&self) -> bool {
        !self.inner().waiting.is_empty()
    }

    /// Syncs all that waits; returns what is now on the disk. Completions are for
    /// [`Group::complete`], so that the checkers know the disk before anybody is answered.
    pub(crate) fn commit(&self) -> (Vec<Stored>, Group) {
        let mut inner = self.inner();
        let waiting = std::mem::take(&mut inner.waiting);
        for batch in waiting.iter().filter(|batch| !batch.fails) {
            inner.written.extend_from_slice(&batch.readings);
        }
        (std::mem::take(&mut inner.written), Group(waiting))
    }

    /// The process dies: of what waits, some is on the disk, and nobody is told.
    pub(crate) fn crash(&self) -> Vec<Stored> {
        let mut inner = self.inner();
        let waiting = std::mem::take(&mut inner.waiting);
        let whole = inner.dice.below(waiting.len() as u64 + 1);
        waiting
            .into_iter()
            .take(usize::try_from(whole).expect("small"))
            .filter(|batch| !batch.fails)
            .flat_map(|batch| batch.readings)
            .collect()
    }

    /// Batches refused and batches failed so far.
    pub(crate) fn faults(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.refusals, inner.failures)
    }
}

/// Batches whose fate is known and whose senders are not yet told.
pub(crate) struct Group(Vec<Waiting>);

impl Group {
    pub(crate) fn complete(self) {
        for batch in self.0 {
            let failure = StoreError::Failed("the disk of this test".into());
            let result = if batch.fails { Err(&failure) } else { Ok(()) };
            batch.completion.complete(result);
        }
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: Batch, completion: Box<dyn Completion>) -> Result<(), Overloaded> {
        let readings = readings(batch.as_bytes());
        for reading in &readings {
            assert!(
                self.registry.device(reading.device).is_some(),
                "a reading of a device that was removed before: {reading:?}"
            );
        }
        let mut inner = self.inner();
        if inner.dice.below(1000) < inner.faults.refusal {
            inner.refusals += 1;
            return Err(Overloaded(completion));
        }
        let fails = inner.dice.below(1000) < inner.faults.failure;
        inner.failures += u64::from(fails);
        inner.waiting.push(Waiting {
            readings,
            completion,
            fails,
        });
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
        _: DeviceId,
        _: AttributeScope,
        _: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError> {
        let mut inner = self.inner();
        if inner.dice.below(1000) < inner.faults.failure {
            return Err(StoreError::Read("the disk of this test".into()));
        }
        Ok(vec![Attribute {
            key: "interval".into(),
            updated_ms: 0,
            value: Value::Long(60),
        }])
    }

    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }

    fn close(&self) {}
}

/// The readings of a batch's bytes: the layout is that of `store::batch`. The fleet sends integers
/// under the key `v` only.
fn readings(mut bytes: &[u8]) -> Vec<Stored> {
    let mut readings = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(13) {
        assert_eq!(head[0], 1, "a record that is not telemetry");
        let device = DeviceId(u64::from_le_bytes(head[1..9].try_into().expect("8 bytes")));
        let length = u32::from_le_bytes(head[9..13].try_into().expect("4 bytes"));
        let (mut body, rest) = rest.split_at(usize::try_from(length).expect("a length"));
        while let Some((point, others)) = body.split_at_checked(8 + 1 + 1 + 1 + 8) {
            assert_eq!(point[8..11], [1, b'v', 2], "not what the fleet sends");
            let value = i64::from_le_bytes(point[11..].try_into().expect("8 bytes"));
            let value = u64::try_from(value).expect("a number of the fleet");
            readings.push(Stored { device, value });
            body = others;
        }
        assert!(body.is_empty(), "a point of another size");
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a record that is cut");
    readings
}
