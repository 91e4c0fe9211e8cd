//! update, on a live container.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Bundle, Case, Done, Need, process};

const NEEDS: [Need; 4] = [
    Need::Controller("memory"),
    Need::Controller("pids"),
    Need::Controller("cpu"),
    Need::Controller("cpuset"),
];

/// Whether the host's controllers are on cgroup v2.
fn unified() -> bool {
    fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap()
}

fn update(c: &Bundle<'_>, case: &Case, options: &[&str]) -> Done {
    case.run([&["update"], options, &[&c.id]].concat())
}

/// What a limit is, by the name of its file in v1 or v2.
fn limit(c: &Bundle<'_>, v1: &str, v2: &str) -> String {
    let file = if unified() { v2 } else { v1 };
    let controller = file.split('.').next().unwrap();
    let path = process::cgroup(c.pid(), controller).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

fn memory(c: &Bundle<'_>) -> String {
    limit(c, "memory.limit_in_bytes", "memory.max")
}

fn pids(c: &Bundle<'_>) -> String {
    limit(c, "pids.max", "pids.max")
}

fn cpus(c: &Bundle<'_>) -> String {
    limit(c, "cpuset.cpus", "cpuset.cpus")
}

fn bandwidth(c: &Bundle<'_>) -> String {
    if unified() {
        return limit(c, "", "cpu.max");
    }
    let [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|file| limit(c, file, ""));
    format!("{quota} {period}").replace("-1", "max")
}

#[test]
fn options_change_limits_one_by_one_and_the_others_stay() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000").with(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "swap": 67_108_864},
            "pids": {"limit": 42},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        }),
    );
    c.run_detached().ok();
    let shares = || limit(&c, "cpu.shares", "cpu.weight");
    let was = shares();

    update(&c, &case, &["--pids-limit", "20"]).ok();
    assert_eq!(pids(&c), "20");
    assert_eq!(memory(&c), "67108864");
    assert_eq!(bandwidth(&c), "50000 100000");
    // More than the limit of memory and swap was: they go together, in whichever order.
    update(&c, &case, &["--memory", "128m", "--memory-swap", "192M"]).ok();
    assert_eq!(memory(&c), "134217728");
    let swap = limit(&c, "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert_eq!(swap, if unified() { "67108864" } else { "201326592" });
    update(&c, &case, &["--cpu-quota", "30000"]).ok();
    assert_eq!(bandwidth(&c), "30000 100000");
    update(&c, &case, &["--cpu-period", "50000"]).ok();
    assert_eq!(bandwidth(&c), "30000 50000");
    update(&c, &case, &["--cpu-quota", "-1"]).ok();
    assert_eq!(bandwidth(&c), "max 50000");
    assert_eq!(shares(), was);
    update(&c, &case, &["--cpu-share", "2048", "--cpuset-cpus", "0"]).ok();
    assert_ne!(shares(), was);
    assert_eq!(process::status(c.pid(), "Cpus_allowed_list"), "0");
    update(&c, &case, &["--memory", "-1"]).ok();
    assert!(["max", "9223372036854771712"].contains(&memory(&c).as_str()));
    assert_eq!(pids(&c), "20");
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_file_and_standard_input_say_the_same() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let file = case.dir().join("resources.json");
    let resources =
        json!({"memory": {"limit": 33_554_432}, "cpu": {"cpus": "0"}, "pids": {"limit": 30}});
    fs::write(&file, resources.to_string()).unwrap();
    // What else is given does not count.
    update(&c, &case, &["-r", file.to_str().unwrap(), "--memory", "5g"]).ok();
    assert_eq!(memory(&c), "33554432");
    assert_eq!(pids(&c), "30");
    assert_eq!(cpus(&c), "0");

    let mut command = case.runtime();
    command
        .args(["update", "-r", "-", &c.id])
        .stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = br#"{"memory": {"limit": 67108864}, "pids": {"limit": 31}}"#;
    stdin.write_all(text).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(memory(&c), "67108864");
    assert_eq!(pids(&c), "31");
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let Some(case) = Case::new(&[&NEEDS[..], &[Need::Runp]].concat()) else {
        return;
    };
    let c = case
        .bundle("c")
        .sh("sleep 1000")
        .with("/linux/resources/pids", json!({"limit": 42}));
    c.run_detached().ok();
    let was = [memory(&c), pids(&c), cpus(&c), bandwidth(&c)];
    let unchanged = || assert_eq!([memory(&c), pids(&c), cpus(&c), bandwidth(&c)], was);
    let change = [
        "--pids-limit",
        "7",
        "--memory",
        "64m",
        "--cpu-quota",
        "5000",
    ];
    let refused = [&change[..], &["--cpuset-cpus", "4000"]].concat();
    update(&c, &case, &refused).fails_saying(&["resources.cpu.cpus", "4000"]);
    unchanged();
    // The state is full: what the kernel took is taken back.
    let state = case.state_root().join(&c.id);
    fs::create_dir(state.join("state.json.new")).unwrap();
    update(&c, &case, &change).fails_saying(&["state.json"]);
    unchanged();
    fs::remove_dir(state.join("state.json.new")).unwrap();
    update(&c, &case, &["--pids-limit", "-7", "--memory", "x"]).fails_saying(&["--memory", "64m"]);
    update(&c, &case, &["--pids-limit", "-7", "--cpu-share", "1"])
        .fails_saying(&["resources.pids.limit: -7", "resources.cpu.shares: 1"]);
    update(&c, &case, &["--l3-cache-schema", "L3:0=f"]).fails_saying(&["RDT"]);
    unchanged();
    // Positive control, and nothing of the failed ones comes with the next.
    update(&c, &case, &["--pids-limit", "8"]).ok();
    assert_eq!([memory(&c), pids(&c)], [was[0].clone(), "8".into()]);
}

#[test]
fn devices_are_replaced() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push(
            "/mounts",
            json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs"}),
        )
        .sh("mknod /opt/kmsg c 1 11 && sleep 1000");
    let c = with_capability(with_capability(c, "CAP_MKNOD"), "CAP_SYSLOG");
    let allow = json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    c.run_detached().ok();
    let opens = || c.exec(&[], &["sh", "-c", ": < /opt/kmsg"]).status.success();
    crate::support::eventually("the node is made", || {
        c.exec(&[], &["ls", "/opt/kmsg"])
            .status
            .success()
            .then_some(())
    });
    assert!(!opens());
    let file = case.dir().join("resources.json");
    for (devices, expected) in [(allow, true), (json!([]), false)] {
        fs::write(&file, json!({"devices": devices}).to_string()).unwrap();
        update(&c, &case, &["-r", file.to_str().unwrap()]).ok();
        assert_eq!(opens(), expected, "{devices}");
    }
    c.delete_force().ok();
    case.assert_nothing_left();
}

fn with_capability<'a>(mut c: Bundle<'a>, name: &str) -> Bundle<'a> {
    for set in ["bounding", "effective", "permitted"] {
        c = c.push(&format!("/process/capabilities/{set}"), json!(name));
    }
    c
}

#[test]
fn what_does_not_run_has_no_limits_to_change() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    update(&c, &case, &["--pids-limit", "5"]).fails_saying(&["does not exist"]);
    c.create().ok();
    update(&c, &case, &["--pids-limit", "5"]).ok();
    assert_eq!(pids(&c), "5");
    c.start().ok();
    c.wait_stopped();
    update(&c, &case, &["--pids-limit", "6"]).fails_saying(&["it is stopped"]);
}
