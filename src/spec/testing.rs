//! Configurations for the tests beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::plan::Plan;
use crate::container::{Request, Stdio};
use crate::error::Result;

/// What `runc spec` writes, 1.1.
pub(crate) fn config() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "ambient": capabilities
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// What `runc spec --rootless` writes, 1.1, for the user 1000.
pub(crate) fn rootless() -> Value {
    let mut config = config();
    set(&mut config, "/mounts/2/options/5", None);
    let sys = json!({"destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    set(&mut config, "/mounts/5", Some(sys));
    set(&mut config, "/linux/resources", None);
    set(&mut config, "/linux/namespaces/1", None);
    set(
        &mut config,
        "/linux/namespaces/-",
        Some(json!({"type": "user"})),
    );
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    set(&mut config, "/linux/uidMappings", Some(map.clone()));
    set(&mut config, "/linux/gidMappings", Some(map));
    config
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
    let spec = serde_json::from_value(config.clone()).expect("the types are right");
    super::plan(&Request {
        id: &"c".parse().unwrap(),
        bundle: "/bundle".into(),
        spec: &spec,
        overlay: None,
        sources,
        stdio: Stdio::Inherit,
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
