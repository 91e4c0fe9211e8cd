//! Limits, read back from the real cgroup.

use std::fs;

use serde_json::json;

use crate::support::{Case, Need, process};

/// Whether the host's controllers are on cgroup v2.
fn unified() -> bool {
    fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap()
}

#[test]
fn memory_pids_and_cpu_limits_are_in_the_cgroup() {
    let needs = [
        Need::Controller("memory"),
        Need::Controller("pids"),
        Need::Controller("cpu"),
    ];
    let Some(case) = Case::new(&needs) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000").with(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432},
            "pids": {"limit": 42},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        }),
    );
    c.run_detached().ok();
    let pid = c.pid();
    let read = |controller: &str, file: &str| {
        let path = process::cgroup(pid, controller).join(file);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let each: &[(&str, &str, &str)] = if unified() {
        &[
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.low", "33554432"),
            ("pids", "pids.max", "42"),
            ("cpu", "cpu.max", "50000 100000"),
        ]
    } else {
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("pids", "pids.max", "42"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
        ]
    };
    for (controller, file, value) in each {
        assert_eq!(read(controller, file).trim(), *value, "{file}");
    }
    // An exec is in the same cgroups.
    let inside = c.exec(&[], &["cat", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(
        inside,
        fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
    );
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn the_pids_limit_holds() {
    let Some(case) = Case::new(&[Need::Controller("pids")]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/linux/resources/pids", json!({"limit": 5}))
        .sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all");
    let done = c.run();
    assert!(!done.stdout.contains("all"), "{done:?}");
    assert!(done.stderr.contains("fork"), "{done:?}");
}

#[test]
fn the_memory_limit_kills() {
    let Some(case) = Case::new(&[Need::Controller("memory")]) else {
        return;
    };
    let c = case
        .bundle("c")
        .push(
            "/mounts",
            json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs"}),
        )
        .with(
            "/linux/resources/memory",
            json!({"limit": 16_777_216, "swap": 16_777_216}),
        )
        .sh("head -c 64m /dev/zero > /opt/much && echo survived");
    let done = c.run();
    assert!(!done.stdout.contains("survived"), "{done:?}");
    let small = c.sh("head -c 4m /dev/zero > /opt/much && echo survived");
    assert_eq!(small.prints(), "survived\n");
}

#[test]
fn a_cgroup_path_is_used_and_its_parents_are_not_left() {
    let Some(case) = Case::new(&[Need::Controller("pids")]) else {
        return;
    };
    let path = format!("/{}/inner", case.token);
    let c = case
        .bundle("c")
        .sh("sleep 1000")
        .with("/linux/cgroupsPath", json!(path));
    c.run_detached().ok();
    assert!(process::cgroup(c.pid(), "pids").ends_with(format!("{}/inner", case.token)));
    c.delete_force().ok();
    // The parent was not there before; whoever asked for it by name has it: in the one hierarchy, or in each controller's.
    let controllers = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    for root in controllers
        .map(|entry| entry.path())
        .chain(["/sys/fs/cgroup".into()])
    {
        let parent = root.join(&case.token);
        assert!(!parent.join("inner").exists());
        if parent.is_dir() {
            fs::remove_dir(parent).unwrap();
        }
    }
}

#[test]
fn a_cgroup_path_that_climbs_is_refused() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    let c = c.with("/linux/cgroupsPath", json!("/a/../../b"));
    c.create().fails_saying(&["linux.cgroupsPath"]);
}

#[test]
fn a_limit_that_the_kernel_does_not_take_is_an_error() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("cpuset")]) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    let c = c.with("/linux/resources/cpu", json!({"cpus": "100-200"}));
    c.create().fails_saying(&["cpuset.cpus", "100-200"]);
    case.assert_nothing_left();
}
