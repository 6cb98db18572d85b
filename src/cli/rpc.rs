//! `tidegate rpc`.

use crate::admin::operations::ErrorKind;
use crate::admin::operations::rpc::find_call;
use crate::admin::{OperationError, timestamp};
use crate::auth::downlink::{NewRpc, RpcEnd, RpcMode, RpcRecord};
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::rpc::{RpcArguments, RpcCommand, SendArguments};
use crate::cli::{Failure, output};
use serde_json::value::RawValue;
use std::io::Write;

pub(super) fn run(arguments: &RpcArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let mut out = output::stdout();
    match &arguments.command {
        RpcCommand::Send(send) => {
            let end = access.call(&send.name, &new_call(send)?)?;
            write_end(&mut out, end, arguments.json)?;
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
        expiration_ms: send
            .expires
            .map(u64::try_from)
            .transpose()
            .map_err(|_| Failure::new("--expires: that is before 1970"))?,
    })
}

fn write_end(out: &mut impl Write, end: RpcEnd, json: bool) -> Result<(), Failure> {
    match end {
        RpcEnd::Answer(text) => output::write_json_text(out, &text)?,
        RpcEnd::Gone if json => output::write_json(out, &serde_json::json!({ "sent": true }))?,
        RpcEnd::Gone => writeln!(out, "sent")?,
        RpcEnd::Kept(id) if json => output::write_json(out, &serde_json::json!({ "rpcId": id }))?,
        RpcEnd::Kept(id) => writeln!(out, "kept as call {id}")?,
        RpcEnd::Unanswered => {
            let message = "the device did not answer in time, or does not observe its calls";
            let remedy = "see whether it is connected, or send with --persistent";
            return Err(OperationError::new(ErrorKind::Unanswered, message, remedy).into());
        }
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
