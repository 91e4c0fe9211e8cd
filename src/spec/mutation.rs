//! Changes to valid configurations, for the tests of what holds for every configuration: here and in tests/fuzz.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use crate::spec::testing::{config, rootless, set};

/// Texts that mean something somewhere.
pub(crate) const TEXTS: [&str; 36] = [
    "",
    "/",
    ".",
    "..",
    "/../..",
    "/proc",
    "/proc/self/attr",
    "/dev",
    "a\0b",
    "a=b",
    "=",
    ",",
    "ro",
    "rw",
    "bind",
    "rbind",
    "remount",
    "idmap",
    "strictatime",
    "ratime",
    "rshared",
    "size=1,ro",
    "cgroup2",
    "proc",
    "CAP_SYS_ADMIN",
    "CAP_NEWER",
    "net.ipv4",
    "kernel.core_pattern",
    "network",
    "user",
    "RLIMIT_CPU",
    "2.0.0",
    "1.0.0",
    "\u{1f980}",
    "a\nb",
    "x:y:z",
];

/// Numbers at the edge of something.
pub(crate) const NUMBERS: [i64; 10] = [
    0,
    1,
    -1,
    1001,
    4095,
    4096,
    65536,
    4_294_967_294,
    4_294_967_295,
    4_294_967_296,
];

/// Values that are neither.
pub(crate) fn odd_values() -> [Value; 6] {
    [
        json!(null),
        json!([]),
        json!({}),
        json!([[]]),
        json!(1e300),
        json!(u64::MAX),
    ]
}

/// Configurations to start from, all valid.
pub(crate) fn starts() -> [Value; 3] {
    [config(), rootless(), everything()]
}

/// Everything that the planner reads, at once and right.
pub(crate) fn everything() -> Value {
    let mut config = rootless();
    for (pointer, value) in [
        ("/linux/namespaces/-", json!({"type": "time"})),
        (
            "/linux/namespaces/-",
            json!({"type": "network", "path": "/proc/1/ns/net"}),
        ),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1, "nanosecs": 1}}),
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "kernel/sem": "1"}),
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/a", "type": "b", "major": 1, "minor": 2, "fileMode": 384}]),
        ),
        ("/linux/cgroupsPath", json!("/a/b")),
        ("/linux/rootfsPropagation", json!("slave")),
        (
            "/mounts/-",
            json!({"destination": "/data", "type": "bind", "source": "data",
            "options": ["rbind", "rro", "rslave", "noatime", "idmap"]}),
        ),
        (
            "/mounts/-",
            json!({"destination": "/proc/uptime", "source": "/u", "options": ["bind"]}),
        ),
        ("/process/capabilities/inheritable", json!(["CAP_KILL"])),
        ("/process/user/umask", json!(18)),
        ("/process/user/additionalGids", json!([0])),
        ("/process/consoleSize", json!({"height": 1, "width": 1})),
        ("/process/oomScoreAdj", json!(1)),
        ("/domainname", json!("d")),
        ("/hooks", json!({"poststop": []})),
        ("/annotations", json!({"a": "b"})),
    ] {
        set(&mut config, pointer, Some(value));
    }
    // not supported, and still there as a target of mutations
    set(&mut config, "/mounts/7/options/4", None);
    config
}

fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object
            .iter()
            .map(|(k, v)| (k.replace('/', "~1"), v))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let pointer = format!("{prefix}/{key}");
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

/// One change; the places are taken modulo the number of values in the configuration.
#[derive(Debug)]
pub(crate) struct Change {
    /// Replaces by `value`, removes, doubles, or copies from elsewhere.
    pub(crate) kind: u8,
    pub(crate) at: usize,
    pub(crate) from: usize,
    pub(crate) value: Value,
}

/// The configuration after these changes.
pub(crate) fn mutated(mut config: Value, changes: impl IntoIterator<Item = Change>) -> Value {
    for change in changes {
        let mut all = Vec::new();
        pointers(&config, "", &mut all);
        if all.is_empty() {
            break;
        }
        let (at, from) = (&all[change.at % all.len()], &all[change.from % all.len()]);
        let value = match change.kind % 4 {
            0 => Some(change.value),
            1 => None,
            2 => config.pointer(at).cloned(),
            _ => config.pointer(from).cloned(),
        };
        let (parent, _) = at.rsplit_once('/').unwrap();
        let append = change.kind % 4 == 2 && config.pointer(parent).is_some_and(Value::is_array);
        match append {
            true => set(&mut config, &format!("{parent}/-"), value),
            false => set(&mut config, at, value),
        }
    }
    config
}
