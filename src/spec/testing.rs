//! Configurations for the tests beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::container::{Options, Request, Stdio};
use crate::error::Result;
use crate::spec::plan::Plan;
use crate::spec::template::{self, TEMPLATE};

/// The default configuration.
pub(crate) fn config() -> Value {
    serde_json::from_str(TEMPLATE).unwrap()
}

/// What `spec --rootless` writes for the user 1000.
pub(crate) fn rootless() -> Value {
    template::rootless(1000, 1000)
}

/// Sets, or with `None` removes, the value at a JSON pointer (RFC 6901); `-` appends to a list.
pub(crate) fn set(config: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/");
    match (config.pointer_mut(parent).expect(pointer), value) {
        (Value::Object(object), Some(value)) => drop(object.insert(key, value)),
        (Value::Object(object), None) => drop(object.remove(&key)),
        (Value::Array(list), Some(value)) if key == "-" => list.push(value),
        (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = value,
        (Value::Array(list), None) => drop(list.remove(key.parse().unwrap())),
        (other, _) => panic!("{pointer}: in {other}"),
    }
}

/// The default configuration with changes.
pub(crate) fn with(changes: &[(&str, Value)]) -> Value {
    let mut config = config();
    for (pointer, value) in changes {
        set(&mut config, pointer, Some(value.clone()));
    }
    config
}

pub(crate) fn plan(config: &Value) -> Result<Plan> {
    plan_with_sources(config, BTreeMap::new())
}

pub(crate) fn plan_with_sources(config: &Value, sources: BTreeMap<usize, OwnedFd>) -> Result<Plan> {
    let spec = super::load::parse(config.to_string().as_bytes()).expect("the types are right");
    crate::spec::plan(&Request {
        id: &"c".parse().unwrap(),
        bundle: "/bundle".into(),
        spec: &spec,
        root: None,
        sources,
        stdio: Stdio::Inherit,
        options: Options::default(),
    })
}

/// The plan of the default configuration with changes.
pub(crate) fn planned(changes: &[(&str, Value)]) -> Plan {
    plan(&with(changes)).unwrap()
}

/// Everything that is wrong with the default configuration after the changes.
pub(crate) fn refusals(changes: &[(&str, Value)]) -> Vec<String> {
    refusals_of(&with(changes))
}

pub(crate) fn refusals_of(config: &Value) -> Vec<String> {
    let Err(error) = plan(config) else {
        return Vec::new();
    };
    let error = error.to_string();
    let errors = error.strip_prefix("config.json: ").expect("names the file");
    match errors.split_once(" errors:\n  ") {
        Some((_, many)) => many.split("\n  ").map(Into::into).collect(),
        None => vec![errors.into()],
    }
}

/// Each change alone, and the one refusal that it must get.
pub(crate) fn assert_refused(table: &[(&str, Value, &str)]) {
    for (pointer, value, message) in table {
        assert_eq!(
            refusals(&[(pointer, value.clone())]),
            [*message],
            "{pointer} = {value}"
        );
    }
}
