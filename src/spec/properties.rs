//! What holds for every configuration, however strange.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{BindSource, MountKind, Namespace, Plan};
use super::testing::{config, rootless, set};
use super::{load, tables};
use crate::container::{Options, Request, Stdio};

/// Everything that the planner reads, at once and right.
fn everything() -> Value {
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

fn strange() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec![
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
    ]);
    prop_oneof![
        text.prop_map(|text| json!(text)),
        ".{0,300}".prop_map(|text| json!(text)),
        prop::sample::select(vec![
            0,
            1,
            -1,
            1001,
            4095,
            4096,
            65536,
            4_294_967_294,
            4_294_967_295,
            4_294_967_296
        ])
        .prop_map(|number: i64| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u32>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        prop::sample::select(vec![
            json!(null),
            json!([]),
            json!({}),
            json!([[]]),
            json!(1e300),
            json!(u64::MAX)
        ]),
    ]
}

/// Replaces, removes, doubles or moves some values.
fn mutated() -> impl Strategy<Value = Value> {
    let start = prop::sample::select(vec![config(), rootless(), everything()]);
    let change = (
        0..4u8,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        strange(),
    );
    (start, prop::collection::vec(change, 0..8)).prop_map(|(mut config, changes)| {
        for (kind, at, from, strange) in changes {
            let mut all = Vec::new();
            pointers(&config, "", &mut all);
            if all.is_empty() {
                break;
            }
            let (at, from) = (&all[at.index(all.len())], &all[from.index(all.len())]);
            let value = match kind {
                0 => Some(strange),
                1 => None,
                2 => config.pointer(at).cloned(),
                _ => config.pointer(from).cloned(),
            };
            let (parent, _) = at.rsplit_once('/').unwrap();
            let append = kind == 2 && config.pointer(parent).is_some_and(Value::is_array);
            match append {
                true => set(&mut config, &format!("{parent}/-"), value),
                false => set(&mut config, at, value),
            }
        }
        config
    })
}

fn plan(spec: &Spec) -> Option<Plan> {
    let request = Request {
        id: &"c".parse().unwrap(),
        bundle: "/bundle".into(),
        spec,
        root: None,
        sources: Default::default(),
        stdio: Stdio::Inherit,
        options: Options::default(),
    };
    match super::plan(&request) {
        Ok(plan) => Some(plan),
        Err(error) => {
            assert!(error.to_string().starts_with("config.json: "), "{error}");
            None
        }
    }
}

fn is_clean(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// What must hold for a plan, whatever it was made from.
fn assert_sound(plan: &Plan, spec: &Spec) {
    let capabilities = &plan.process.capabilities;
    let asked = spec.process().as_ref().unwrap().capabilities().as_ref();
    let inheritable = asked.and_then(|sets| sets.inheritable().as_ref());
    let inheritable = inheritable.into_iter().flatten();
    let inheritable = inheritable.fold(0, |bits, c| {
        bits | tables::capability(&c.to_string()).unwrap()
    });
    assert_eq!(capabilities.inheritable, inheritable);
    assert_eq!(capabilities.ambient & !inheritable, 0);
    assert_eq!(capabilities.effective & !capabilities.permitted, 0);

    let sources: BTreeSet<PathBuf> = spec
        .mounts()
        .iter()
        .flatten()
        .filter_map(|m| m.source().clone())
        .collect();
    for mount in &plan.mounts {
        assert!(is_clean(&mount.destination), "{mount:?}");
        assert_ne!(mount.destination, Path::new("/"));
        if let MountKind::Bind { source, .. } = &mount.kind {
            let BindSource::Path(path) = source else {
                panic!("{mount:?}");
            };
            assert!(
                sources
                    .iter()
                    .any(|named| Path::new("/bundle").join(named) == *path),
                "{mount:?}"
            );
        }
    }
    let hidden = plan.masked_paths.iter().chain(&plan.readonly_paths);
    assert!(
        hidden
            .chain(plan.devices.iter().map(|d| &d.path))
            .all(|path| is_clean(path))
    );
    assert_ne!(plan.namespaces.mount, Namespace::Inherit);
    assert!(plan.hostname.is_none() || plan.namespaces.uts != Namespace::Inherit);
    for (key, _) in &plan.sysctl {
        assert!(
            !key.split('/').any(|name| ["", ".", ".."].contains(&name)),
            "{key}"
        );
    }
    let process = &plan.process;
    assert!(!process.args.is_empty());
    let groups = process.additional_gids.iter();
    assert!(
        groups
            .chain([&process.uid, &process.gid])
            .all(|id| *id != u32::MAX)
    );
    assert!(process.rlimits.iter().all(|(_, soft, hard)| soft <= hard));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_panics_and_every_plan_is_sound(config in mutated()) {
        if let Ok(spec) = load::parse::<Spec>(config.to_string().as_bytes())
            && let Some(plan) = plan(&spec)
        {
            assert_sound(&plan, &spec);
        }
    }

    #[test]
    fn no_bytes_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = everything().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(spec) = load::parse::<Spec>(&bytes) && let Some(plan) = plan(&spec) {
            assert_sound(&plan, &spec);
        }
    }

    #[test]
    fn names_from_anywhere_do_not_panic(name in "\\PC{0,20}|(SIG)?RTM(IN|AX)[+-]?[0-9]{0,20}") {
        tables::signal(&name);
        tables::capability(&name);
    }
}

#[test]
fn the_property_tests_have_something_to_test() {
    for config in [config(), rootless(), everything()] {
        let spec = load::parse(config.to_string().as_bytes()).unwrap();
        let plan = plan(&spec).expect("the start of all mutations is valid");
        assert_sound(&plan, &spec);
    }
}
