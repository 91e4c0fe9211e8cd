//! Many cycles, then a census of the test's own things; in strict mode, where nobody else is at work, also of the whole
//! machine before and after.
//!
//! `RUNP_TEST_CYCLES` and `RUNP_TEST_PODS` set how many (1,000 and 200).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Case, Need, Pod, eventually_or, process, strict};

/// What there is on the machine of each kind that a runtime could leave behind.
fn machine() -> BTreeMap<&'static str, usize> {
    let mut namespaces: Vec<String> = process::all()
        .flat_map(|pid| process::namespaces(pid).into_values())
        .collect();
    namespaces.sort();
    namespaces.dedup();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let zombies = process::all().filter(|pid| !process::runs(*pid));
    BTreeMap::from([
        ("namespaces", namespaces.len()),
        ("mounts", mountinfo.lines().count()),
        ("cgroups", directories(Path::new("/sys/fs/cgroup"))),
        ("zombies", zombies.count()),
        ("entries in /run", entries("/run")),
        ("entries in /run/runp", entries("/run/runp")),
        ("entries in /tmp", entries("/tmp")),
        ("entries in /dev/shm", entries("/dev/shm")),
    ])
}

#[track_caller]
fn no_more_than(before: &BTreeMap<&'static str, usize>) {
    if !strict() {
        return;
    }
    eventually_or(
        || {
            machine()
                .iter()
                .all(|(kind, n)| *n <= before[kind])
                .then_some(())
        },
        || format!("no more than before:\n{before:?}\n{:?}", machine()),
    );
}

fn directories(dir: &Path) -> usize {
    let inner = fs::read_dir(dir).into_iter().flatten().flatten();
    let inner = inner.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    inner.map(|entry| 1 + directories(&entry.path())).sum()
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).into_iter().flatten().count()
}

fn times(variable: &str, usually: usize) -> usize {
    std::env::var(variable).map_or(usually, |n| n.parse().unwrap())
}

#[test]
fn a_thousand_containers() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").args(&["/bin/true"]);
    let cycle = || {
        c.create().ok();
        c.start().ok();
        c.delete_force().ok();
    };
    cycle(); // what the first one makes for good (a directory for all) is no leak
    let before = machine();
    for _ in 0..times("RUNP_TEST_CYCLES", 1_000) {
        cycle();
    }
    case.assert_nothing_left();
    no_more_than(&before);
}

#[test]
fn two_hundred_pods() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
            "initContainers": [{"name": "init", "command": ["/bin/touch", "/v/file"],
                                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}]}],
            "containers": [{"name": "app", "command": ["/bin/ls", "/v/file"],
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        }),
    );
    let cycle = || {
        pod.run().ok();
        pod.delete().ok();
    };
    cycle();
    let before = machine();
    for _ in 0..times("RUNP_TEST_PODS", 200) {
        cycle();
    }
    case.assert_nothing_left();
    no_more_than(&before);
}
