//! `tidegate attr`.

use crate::admin::operations::{Attributes, NewAttributes, Reading};
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::attr::{AttrArguments, AttrCommand};
use crate::cli::{Failure, output};
use crate::store::AttributeScope;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;

pub(super) fn run(arguments: &AttrArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let mut out = output::stdout();
    match &arguments.command {
        AttrCommand::Get { name, scope, keys } => {
            let attributes = access.attributes(name)?;
            match scope {
                None => output::write_json(&mut out, &some(attributes, keys))?,
                Some(scope) => {
                    let found = of_scope(some(attributes, keys), (*scope).into());
                    output::write_json(&mut out, &found)?;
                }
            }
        }
        AttrCommand::Set {
            name,
            scope,
            values,
        } => {
            let values: NewAttributes = values.iter().cloned().collect();
            access.set_attributes(name, (*scope).into(), &values)?;
        }
        AttrCommand::SetProfile {
            profile,
            scope,
            values,
        } => {
            let values: NewAttributes = values.iter().cloned().collect();
            let changed = access.set_profile_attributes(profile, (*scope).into(), &values)?;
            output::write_json(&mut out, &changed)?;
        }
        AttrCommand::Delete { name, scope, keys } => {
            access.delete_attributes(name, (*scope).into(), keys)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Those of `keys`, or all when none is named.
fn some(mut attributes: Attributes, keys: &[String]) -> Attributes {
    if !keys.is_empty() {
        for scope in [
            &mut attributes.client,
            &mut attributes.shared,
            &mut attributes.server,
        ] {
            scope.retain(|key, _| keys.contains(key));
        }
    }
    attributes
}

fn of_scope(attributes: Attributes, scope: AttributeScope) -> BTreeMap<String, Reading> {
    match scope {
        AttributeScope::Client => attributes.client,
        AttributeScope::Shared => attributes.shared,
        AttributeScope::Server => attributes.server,
        AttributeScope::Rpc => BTreeMap::new(),
    }
}

/// `KEY=VALUE`, where VALUE is JSON if it reads as such, else text.
pub(super) fn parse_assignment(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, as interval=60 or name=\"42\"")?;
    if key.is_empty() {
        return Err("the key before = is empty".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    if value.is_null() {
        return Err("an attribute cannot be null; `tidegate attr delete` removes it".to_owned());
    }
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_json_where_they_can_be() {
        for (text, key, value) in [
            ("a=1", "a", json!(1)),
            ("a=1.5", "a", json!(1.5)),
            ("a=true", "a", json!(true)),
            ("a=\"1\"", "a", json!("1")),
            ("a=b c", "a", json!("b c")),
            ("a=", "a", json!("")),
            ("a={\"b\":[1]}", "a", json!({"b": [1]})),
            ("a=b=c", "a", json!("b=c")),
        ] {
            assert_eq!(
                parse_assignment(text),
                Ok((key.to_owned(), value)),
                "{text}"
            );
        }
        for wrong in ["a", "=1", "a=null", ""] {
            assert!(parse_assignment(wrong).is_err(), "{wrong}");
        }
    }
}
