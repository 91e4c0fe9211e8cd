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

/// A disk, by its number.
fn disk() -> Option<(u32, u32)> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let is_disk = |name: &str| {
        ["vd", "sd", "nvme", "xvd"]
            .iter()
            .any(|d| name.starts_with(d))
    };
    disks
        .filter(|disk| is_disk(&disk.file_name().to_string_lossy()))
        .find_map(|disk| {
            let number = fs::read_to_string(disk.path().join("dev")).ok()?;
            let (major, minor) = number.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
}

#[test]
fn a_disk_is_throttled_and_memory_nodes_and_processors_are_chosen() {
    let needs = [
        Need::Controller("cpuset"),
        Need::Controller(if unified() { "io" } else { "blkio" }),
    ];
    let (Some(case), Some((major, minor))) = (Case::new(&needs), disk()) else {
        return;
    };
    let device = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let c = case.bundle("c").sh("sleep 1000").with(
        "/linux/resources",
        json!({
            "cpu": {"cpus": "0", "mems": "0"},
            "blockIO": {
                "throttleReadBpsDevice": device(1_048_576),
                "throttleWriteIOPSDevice": device(100),
            },
        }),
    );
    c.run_detached().ok();
    let read = |controller: &str, file: &str| {
        let path = process::cgroup(c.pid(), controller).join(file);
        fs::read_to_string(path).unwrap().trim().to_owned()
    };
    assert_eq!(read("cpuset", "cpuset.cpus"), "0");
    assert_eq!(read("cpuset", "cpuset.mems"), "0");
    assert_eq!(process::status(c.pid(), "Cpus_allowed_list"), "0");
    if unified() {
        let expected = format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100");
        assert_eq!(read("io", "io.max"), expected);
    } else {
        let throttle = |what: &str| read("blkio", &format!("blkio.throttle.{what}_device"));
        assert_eq!(throttle("read_bps"), format!("{major}:{minor} 1048576"));
        assert_eq!(throttle("write_iops"), format!("{major}:{minor} 100"));
    }
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn pids_without_a_limit_have_none_and_0_is_1() {
    let Some(case) = Case::new(&[Need::Controller("pids"), Need::Runp]) else {
        return;
    };
    let pids = |name: &str, value: serde_json::Value| {
        let c = case
            .bundle(name)
            .sh("sleep 1000")
            .with("/linux/resources/pids", value);
        c.run_detached().ok();
        let max = process::cgroup(c.pid(), "pids").join("pids.max");
        let max = fs::read_to_string(max).unwrap();
        c.delete_force().ok();
        max.trim().to_owned()
    };
    assert_eq!(pids("empty", json!({})), "max");
    assert_eq!(pids("none", json!({"limit": -1})), "max");
    assert_eq!(pids("zero", json!({"limit": 0})), "1");
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

#[test]
fn exec_can_be_put_into_a_cgroup_below_the_containers() {
    let Some(case) = Case::new(&[Need::V1("memory")]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let memory = process::cgroup(c.pid(), "memory");
    fs::create_dir(memory.join("inner")).unwrap();
    let cgroups = |options: &[&str]| {
        let script = "sed -n '/pids:/p; /memory:/p' /proc/self/cgroup | cut -d : -f 2,3 | sort";
        let options = [options, &[]].concat();
        c.exec(&options, &["sh", "-c", script])
    };
    let id = &c.id;
    let own = format!("memory:/{id}\npids:/{id}\n");
    assert_eq!(cgroups(&[]).ok().stdout, own);
    let inner = cgroups(&["--cgroup", "memory:inner"]).ok().stdout;
    assert_eq!(inner, own.replacen(id, &format!("{id}/inner"), 1));
    cgroups(&["--cgroup", "inner"]).code(255); // it is not in all hierarchies
    for bad in ["memory:../..", "memory:absent", "absent:inner"] {
        cgroups(&["--cgroup", bad]).code(255);
    }
    c.delete_force().ok();
}
