//! `tidegate rpc`.

use crate::admin::operations::rpc::{find_call, unanswered};
use crate::admin::timestamp;
use crate::auth::downlink::{CallAnswer, NewRpc, RpcEnd, RpcMode, RpcRecord};
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::rpc::{RpcArguments, RpcCommand, SendArguments};
use crate::cli::{Failure, output};
use crate::shard::clock::unix_ms;
use serde_json::value::RawValue;
use std::io::Write;
use std::time::Duration;

/// When a kept call is given up, if nothing is said of that: what is kept is for devices that come later.
const KEPT_MS: u64 = 24 * 3_600_000;
/// How long the server is asked to wait for calls of devices, before it is asked again.
const WAIT: Duration = Duration::from_secs(300);

pub(super) fn run(arguments: &RpcArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let mut out = output::stdout();
    match &arguments.command {
        RpcCommand::Send(send) => {
            let call = new_call(send)?;
            let end = access.call(&send.name, &call)?;
            write_end(&mut out, end, call.expiration_ms, arguments.json)?;
        }
        RpcCommand::List { name } => {
            let calls = access.calls(name)?;
            if arguments.json {
                for call in &calls {
                    output::write_json(&mut out, call)?;
                }
            } else {
                write_table(&mut out, &calls)?;
            }
        }
        RpcCommand::Show { name, id } => {
            output::write_json(&mut out, &find_call(access.calls(name)?, *id)?)?;
        }
        RpcCommand::Wait { timeout } => {
            let calls = loop {
                let calls = access.wait_for_calls(timeout.map_or(WAIT, Duration::from_secs))?;
                if !calls.is_empty() || timeout.is_some() {
                    break calls;
                }
            };
            for call in &calls {
                output::write_json(&mut out, call)?;
            }
            if calls.is_empty() {
                return Err(Failure::new("no device has made a call in this time"));
            }
        }
        RpcCommand::Answer { id, reply, error } => {
            let answer = CallAnswer {
                reply: reply.clone(),
                error: error.clone(),
            };
            access.answer_call(*id, &answer)?;
            if arguments.json {
                output::write_json(&mut out, &serde_json::json!({ "answered": id }))?;
            } else {
                writeln!(out, "answered call {id}")?;
            }
        }
        RpcCommand::Delete { name, id } => {
            access.delete_call(name, *id)?;
            if arguments.json {
                output::write_json(&mut out, &serde_json::json!({ "deleted": id }))?;
            } else {
                writeln!(out, "deleted call {id} of {}", output::printable(name))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn new_call(send: &SendArguments) -> Result<NewRpc, Failure> {
    let expires = send.expires.map(u64::try_from).transpose();
    let expires = expires.map_err(|_| Failure::new("--expires: that is before 1970"))?;
    let kept_ms = send.timeout_ms.unwrap_or(KEPT_MS);
    let kept = || unix_ms().saturating_add(kept_ms);
    Ok(NewRpc {
        method: send.method.clone(),
        params: send.params.clone(),
        mode: if send.one_way {
            RpcMode::OneWay
        } else {
            RpcMode::TwoWay
        },
        timeout_ms: send.timeout_ms,
        persistent: send.persistent,
        retries: send.retries,
        expiration_ms: expires.or_else(|| send.persistent.then(kept)),
    })
}

/// Tells how a call ended, or until when it is kept.
fn write_end(
    out: &mut impl Write,
    end: RpcEnd,
    until_ms: Option<u64>,
    json: bool,
) -> Result<(), Failure> {
    match end {
        RpcEnd::Answer(text) => output::write_json_text(out, &text)?,
        RpcEnd::Gone if json => output::write_json(out, &serde_json::json!({ "sent": true }))?,
        RpcEnd::Gone => writeln!(out, "sent")?,
        RpcEnd::Kept(id) if json => output::write_json(out, &serde_json::json!({ "rpcId": id }))?,
        RpcEnd::Kept(id) => {
            let until = until_ms.and_then(|ms| i64::try_from(ms).ok());
            let until = until.map_or_else(String::new, timestamp::format);
            writeln!(out, "kept as call {id} until {until}")?;
        }
        RpcEnd::Unanswered(state) => return Err(unanswered(state).into()),
        RpcEnd::Deleted => return Err(Failure::new("the call was deleted meanwhile")),
        RpcEnd::Unusable => {
            let message = "the call is no message of the profile's protoSchemas.rpcRequest";
            return Err(Failure::new(message));
        }
    }
    Ok(())
}

fn write_table(out: &mut impl Write, calls: &[RpcRecord]) -> std::io::Result<()> {
    if calls.is_empty() {
        return writeln!(out, "no calls; `tidegate rpc send NAME METHOD` makes one");
    }
    let methods: Vec<_> = calls.iter().map(|c| output::printable(&c.method)).collect();
    let widths = methods.iter().map(|method| method.chars().count());
    let width = widths.max().unwrap_or(0).max("METHOD".len());
    let (id, method, state) = ("ID", "METHOD", "STATE");
    writeln!(out, "{id:>6}  {method:<width$}  {state:<10}  MADE")?;
    for (call, method) in calls.iter().zip(methods) {
        let made =
            i64::try_from(call.created_ms).map_or_else(|_| "unknown".to_owned(), timestamp::format);
        let (id, state) = (call.id, call.state.name());
        writeln!(out, "{id:>6}  {method:<width$}  {state:<10}  {made}")?;
    }
    Ok(())
}

/// JSON as it is written.
pub(super) fn parse_params(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned())
        .map_err(|error| format!("{error}; write JSON, as '{{\"pin\":26}}' or '\"text\"'"))
}
