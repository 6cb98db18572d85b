//! `tidegate data`.

use crate::admin::Operations;
use crate::admin::operations::Reading;
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::{DataArguments, DataCommand};
use crate::cli::{Failure, output};
use crate::store::{HistoryQuery, Order};
use std::io::Write;

/// Readings asked for at a time.
const PAGE: usize = 5000;

pub(super) fn run(arguments: &DataArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let mut out = output::stdout();
    match &arguments.command {
        DataCommand::Latest { name } => output::write_json(&mut out, &access.latest(name)?)?,
        DataCommand::History {
            name,
            key,
            from,
            to,
            limit,
        } => {
            let series = Series {
                operations: &*access,
                name,
                key,
            };
            let from = match limit {
                None => from.unwrap_or(i64::MIN),
                Some(limit) => {
                    let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
                    series.start_of_newest(from, to, *limit as usize)?
                }
            };
            series.each(from, to.unwrap_or(i64::MAX), |reading| {
                output::write_json(&mut out, reading)
            })?;
        }
        DataCommand::Delete {
            name,
            key,
            from,
            to,
        } => {
            let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
            let done = access.delete_telemetry(name, key, from, to)?;
            output::write_json(&mut out, &done)?;
        }
        DataCommand::Export { name } => export(&*access, name, &mut out)?,
    }
    out.flush()?;
    Ok(())
}

/// One key of one device.
struct Series<'a> {
    operations: &'a dyn Operations,
    name: &'a str,
    key: &'a str,
}

impl Series<'_> {
    fn page(&self, query: HistoryQuery) -> Result<Vec<Reading>, Failure> {
        let readings = self.operations.history(self.name, self.key, query)?;
        Ok(readings)
    }

    /// Hands the readings from `from_ms` to `to_ms` to `sink`, oldest first.
    fn each(
        &self,
        mut from_ms: i64,
        to_ms: i64,
        mut sink: impl FnMut(&Reading) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        loop {
            let page = self.page(HistoryQuery {
                from_ms,
                to_ms,
                limit: PAGE,
                order: Order::Ascending,
            })?;
            page.iter().try_for_each(&mut sink)?;
            match page.last().and_then(|last| last.ts.checked_add(1)) {
                // There is one reading per time.
                Some(next) if page.len() == PAGE && next <= to_ms => from_ms = next,
                _ => return Ok(()),
            }
        }
    }

    /// The time of the oldest among the newest `limit` readings.
    fn start_of_newest(
        &self,
        from_ms: i64,
        mut to_ms: i64,
        mut limit: usize,
    ) -> Result<i64, Failure> {
        loop {
            let asked = limit.min(PAGE);
            let page = self.page(HistoryQuery {
                from_ms,
                to_ms,
                limit: asked,
                order: Order::Descending,
            })?;
            let Some(oldest) = page.last().map(|reading| reading.ts) else {
                return Ok(from_ms);
            };
            limit -= page.len().min(limit);
            match oldest.checked_sub(1) {
                Some(before) if page.len() == asked && limit > 0 && before >= from_ms => {
                    to_ms = before;
                }
                _ => return Ok(oldest),
            }
        }
    }
}

/// Writes one object: `{"device":{...},"attributes":{...},"telemetry":{"KEY":[...],...}}`.
fn export(operations: &dyn Operations, name: &str, out: &mut impl Write) -> Result<(), Failure> {
    let mut device = operations.device(name)?;
    // Data may be handed on; what opens the door to more of it may not.
    device.credentials_id = None;
    out.write_all(b"{\"device\":")?;
    output::json(&mut *out, &device)?;
    out.write_all(b",\"attributes\":")?;
    output::json(&mut *out, &operations.attributes(name)?)?;
    out.write_all(b",\"telemetry\":{")?;
    for (position, key) in operations.latest(name)?.keys().enumerate() {
        out.write_all(if position == 0 { b"\n" } else { b",\n" })?;
        output::json(&mut *out, key)?;
        out.write_all(b":[")?;
        let series = Series {
            operations,
            name,
            key,
        };
        let mut first = true;
        series.each(i64::MIN, i64::MAX, |reading| {
            out.write_all(if first { b"\n" } else { b",\n" })?;
            first = false;
            output::json(&mut *out, reading)
        })?;
        out.write_all(b"]")?;
    }
    out.write_all(b"}}\n")?;
    Ok(())
}
