//! Which core the server has, and which the load.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One core each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cpus {
    /// The first two cores that this process may use.
    ///
    /// # Errors
    ///
    /// When there is only one: server and load would take it from each other.
    pub(crate) fn choose() -> Result<Self, String> {
        let set = sched_getaffinity(None).map_err(|error| error.to_string())?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
        match (allowed.next(), allowed.next()) {
            (Some(server), Some(load)) => Ok(Self { server, load }),
            _ => Err("this needs two cores, one for the server and one for the load".into()),
        }
    }
}

/// Keeps this thread on a core. Where that is refused, it runs where it may.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

/// Does `work` on a thread of that core.
///
/// # Errors
///
/// Those of `work`.
pub(crate) fn on_cpu<T: Send>(
    cpu: usize,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                pin(cpu);
                work()
            })
            .join()
            .map_err(|_| "a measuring thread panicked".to_owned())?
    })
}
