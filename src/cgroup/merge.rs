//! A change of `linux.resources`, merged over what is configured. Pure.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

/// Fields in which 0, or an empty list, asks for nothing: in a change they leave what is there.
const NOTHING: [&str; 10] = [
    "/memory/limit",
    "/memory/reservation",
    "/memory/swap",
    "/cpu/shares",
    "/cpu/quota",
    "/cpu/period",
    "/cpu/realtimeRuntime",
    "/cpu/realtimePeriod",
    "/cpu/cpus",
    "/cpu/mems",
];

/// What is configured, with a change over it: field by field, and lists as a whole.
///
/// # Errors
/// A value of the wrong type, by its JSON path.
pub fn merged(
    configured: Option<&LinuxResources>,
    change: &Value,
) -> Result<LinuxResources, String> {
    let mut all = match configured {
        Some(configured) => serde_json::to_value(configured).map_err(|e| e.to_string())?,
        None => json!({}),
    };
    let mut change = change.clone();
    drop_nothing(&mut change);
    add_implied(&mut change, &mut all);
    merge(&mut all, &change);
    // oci-spec reads it as a limit of 0.
    if all.pointer("/pids/limit").is_none() {
        remove(&mut all, "/pids");
    }
    serde_path_to_error::deserialize(all).map_err(|e| format!("{}: {}", e.path(), e.inner()))
}

fn drop_nothing(change: &mut Value) {
    for pointer in NOTHING {
        if change.pointer(pointer).is_some_and(|v| *v == 0 || *v == "") {
            remove(change, pointer);
        }
    }
    if change.pointer("/blockIO/weight") == Some(&json!(0)) {
        remove(change, "/blockIO/weight");
    }
}

/// Of two limits that hang together one is mostly changed alone.
fn add_implied(change: &mut Value, configured: &mut Value) {
    let is = |change: &Value, pointer: &str, value: i64| {
        change.pointer(pointer).is_some_and(|v| *v == value)
    };
    // As runc: without a limit of memory there is none of swap.
    if is(change, "/memory/limit", -1) && change.pointer("/memory/swap").is_none() {
        change["memory"]["swap"] = json!(-1);
    }
    // Without a quota there is nothing to burst over.
    if is(change, "/cpu/quota", -1)
        && change.pointer("/cpu/burst").is_none()
        && configured.pointer("/cpu/burst").is_some()
    {
        change["cpu"]["burst"] = json!(0);
    }
    // An idle cgroup has no shares.
    if is(change, "/cpu/idle", 1) {
        remove(configured, "/cpu/shares");
    }
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(key);
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(change)) => {
            for (key, change) in change {
                let empty = Value::Object(Map::new());
                let fresh = if change.is_object() {
                    empty
                } else {
                    Value::Null
                };
                merge(into.entry(key).or_insert(fresh), change);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn after(configured: Value, change: Value) -> Value {
        let configured = serde_json::from_value(configured).unwrap();
        serde_json::to_value(merged(Some(&configured), &change).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_named_stays() {
        let configured = json!({
            "memory": {"limit": 64, "swap": 80},
            "cpu": {"shares": 512, "quota": 5000, "period": 10000, "cpus": "0-1"},
            "pids": {"limit": 9},
            "unified": {"memory.high": "5", "memory.low": "1"},
        });
        let change = json!({
            "memory": {"limit": 70, "swap": 0, "reservation": null},
            "cpu": {"quota": 6000, "shares": 0, "cpus": ""},
            "pids": {},
            "blockIO": {"weight": 0},
            "unified": {"memory.high": "6"},
        });
        let expected = json!({
            "memory": {"limit": 70, "swap": 80},
            "cpu": {"shares": 512, "quota": 6000, "period": 10000, "cpus": "0-1"},
            "pids": {"limit": 9},
            "blockIO": {},
            "unified": {"memory.high": "6", "memory.low": "1"},
        });
        assert_eq!(after(configured, change), expected);
    }

    #[test]
    fn limits_that_hang_together_follow() {
        let table = [
            (
                json!({"memory": {"limit": 64, "swap": 80}}),
                json!({"memory": {"limit": -1}}),
                json!({"memory": {"limit": -1, "swap": -1}}),
            ),
            (
                json!({"cpu": {"quota": 5000, "burst": 3000}}),
                json!({"cpu": {"quota": -1}}),
                json!({"cpu": {"quota": -1, "burst": 0}}),
            ),
            (
                json!({"cpu": {"shares": 5}}),
                json!({"cpu": {"idle": 1}}),
                json!({"cpu": {"idle": 1}}),
            ),
            (
                json!({}),
                json!({"pids": {"limit": 0}}),
                json!({"pids": {"limit": 0}}),
            ),
        ];
        for (configured, change, expected) in table {
            assert_eq!(after(configured, change.clone()), expected, "{change}");
        }
    }

    #[test]
    fn lists_are_replaced() {
        let device = |major: i64| json!([{"allow": true, "major": major, "access": "r"}]);
        let changed = after(json!({"devices": device(1)}), json!({"devices": device(2)}));
        assert_eq!(changed["devices"], device(2));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = merged(None, &json!({"memory": {"limit": "5"}})).unwrap_err();
        assert!(error.starts_with("memory.limit: invalid type"), "{error}");
    }
}
