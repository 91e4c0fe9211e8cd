//! --systemd-cgroup: scopes that systemd makes.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::requires::pure_v2;
use crate::support::{Bundle, Case, Done, Need, binary, has, process};

const NEEDS: [Need; 4] = [
    Need::Systemd,
    Need::Controller("memory"),
    Need::Controller("pids"),
    Need::Controller("cpu"),
];

/// A container in a scope of the slice for it.
fn scoped<'a>(case: &'a Case, name: &str) -> Bundle<'a> {
    let path = format!("system.slice:runp:{}", case.id(name));
    case.bundle(name)
        .sh("sleep 1000")
        .with("/linux/cgroupsPath", json!(path))
}

fn run(case: &Case, c: &Bundle<'_>) -> Done {
    let bundle = c.path.to_str().unwrap();
    case.run([
        "--systemd-cgroup",
        "run",
        "--detach",
        "--bundle",
        bundle,
        &c.id,
    ])
}

/// What systemd says of the scope.
fn shown(c: &Bundle<'_>) -> BTreeMap<String, String> {
    let unit = format!("runp-{}.scope", c.id);
    let output = Command::new("systemctl")
        .args(["show", &unit])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[track_caller]
fn assert_shown(c: &Bundle<'_>, expected: &[(&str, &str)]) {
    let shown = shown(c);
    for (name, value) in expected {
        assert_eq!(shown.get(*name).map(String::as_str), Some(*value), "{name}");
    }
}

/// What the kernel was told, by the name of v2's file. On a hybrid machine, and on one with v1, the controllers are with v1.
fn limit(c: &Bundle<'_>, file: &str) -> String {
    let (controller, v1): (&str, &[&str]) = match file {
        "memory.max" => ("memory", &["memory.limit_in_bytes"]),
        "cpu.max" => ("cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us"]),
        _ => (file.split_once('.').unwrap().0, &[]),
    };
    let files = match v1 {
        [_, ..] if !pure_v2() => v1,
        _ => &[file],
    };
    let dir = process::cgroup(c.pid(), controller);
    let values = files
        .iter()
        .map(|file| fs::read_to_string(dir.join(file)).unwrap());
    values
        .map(|text| text.trim().to_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The property that is the limit of memory.
fn memory() -> &'static str {
    match pure_v2() {
        true => "MemoryMax",
        false => "MemoryLimit",
    }
}

/// The cgroups of a process, each with the names of its hierarchy.
fn cgroups(pid: i32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |line: &str| {
        let (hierarchy, path) = line.rsplit_once(':').unwrap();
        (hierarchy.to_owned(), path.to_owned())
    };
    text.lines().map(of).collect()
}

#[test]
fn a_scope_is_made_with_its_limits_and_goes_with_the_container() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = scoped(&case, "c").with(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "swap": 67_108_864, "reservation": 33_554_432},
            "pids": {"limit": 42},
            "cpu": {"shares": 512, "quota": 33_333, "period": 100_000, "cpus": "0"},
        }),
    );
    run(&case, &c).ok();
    let scope = format!("/system.slice/runp-{}.scope", c.id);
    let cgroups = cgroups(c.pid());
    assert!(
        !cgroups.is_empty() && cgroups.iter().all(|(_, path)| *path == scope),
        "{cgroups:?}"
    );
    assert_shown(
        &c,
        &[
            ("LoadState", "loaded"),
            ("ActiveState", "active"),
            ("Slice", "system.slice"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("TasksMax", "42"),
            ("AllowedCPUs", "0"),
            // systemd keeps whole percents; the kernel was told exactly.
            ("CPUQuotaPerSecUSec", "340ms"),
        ],
    );
    match pure_v2() {
        true => assert_shown(
            &c,
            &[
                (memory(), "67108864"),
                ("MemoryLow", "33554432"),
                ("MemorySwapMax", "0"),
                ("CPUWeight", "59"),
            ],
        ),
        false => assert_shown(&c, &[(memory(), "67108864"), ("CPUShares", "512")]),
    }
    let exact = || {
        assert_eq!(limit(&c, "cpu.max"), "33333 100000");
        assert_eq!(limit(&c, "memory.max"), "67108864");
        assert_eq!(limit(&c, "pids.max"), "42");
        assert_eq!(limit(&c, "cpuset.cpus"), "0");
    };
    exact();
    // What systemd knows of, it does not undo.
    let reload = Command::new("systemctl").arg("daemon-reload").status();
    assert!(reload.unwrap().success());
    assert_eq!(limit(&c, "memory.max"), "67108864");
    assert_eq!(limit(&c, "pids.max"), "42");
    // Another process is in it too, and the devices are denied in it as anywhere.
    let inside = c.exec(&[], &["cat", "/proc/self/cgroup"]).ok().stdout;
    assert!(
        inside
            .lines()
            .all(|line| line.ends_with(&scope) || line.ends_with(":/")),
        "{inside}"
    );
    case.run(["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    case.run(["resume", &c.id]).ok();

    c.delete_force().ok();
    assert_shown(&c, &[("LoadState", "not-found")]);
    case.assert_nothing_left();
}

#[test]
fn an_update_is_told_to_systemd_too() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = scoped(&case, "c");
    run(&case, &c).ok();
    let options = [
        "--memory",
        "64m",
        "--pids-limit",
        "30",
        "--cpu-quota",
        "33333",
    ];
    case.run([&["update"], &options[..], &[&c.id]].concat())
        .ok();
    assert_shown(
        &c,
        &[
            (memory(), "67108864"),
            ("TasksMax", "30"),
            ("CPUQuotaPerSecUSec", "340ms"),
        ],
    );
    assert_eq!(limit(&c, "memory.max"), "67108864");
    assert_eq!(limit(&c, "pids.max"), "30");
    assert_eq!(limit(&c, "cpu.max"), "33333 100000");
}

#[test]
fn annotations_are_properties_of_the_scope() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = scoped(&case, "c").with(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopSec": "123",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
        }),
    );
    run(&case, &c).ok();
    assert_shown(
        &c,
        &[
            ("TimeoutStopUSec", "2min 3s"),
            ("CollectMode", "inactive-or-failed"),
        ],
    );
    let c = scoped(&case, "wrong");
    let c = c.with(
        "/annotations",
        json!({"org.systemd.property.NoSuchThing": "1"}),
    );
    run(&case, &c).fails_saying(&["NoSuchThing"]);
    assert_shown(&c, &[("LoadState", "not-found")]);
}

#[test]
fn the_scope_of_another_is_left_alone() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let first = scoped(&case, "first");
    run(&case, &first).ok();
    let path = first.config["linux"]["cgroupsPath"].clone();
    let second = case
        .bundle("second")
        .sh("sleep 1000")
        .with("/linux/cgroupsPath", path);
    run(&case, &second).fails_saying(&["choose another linux.cgroupsPath"]);
    assert_eq!(first.status(), "running");
    assert_shown(&first, &[("ActiveState", "active")]);
    second.delete_force().ok();
    assert!(process::runs(first.pid()));
}

#[test]
fn a_scope_whose_processes_were_killed_is_forgotten() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = scoped(&case, "c").with(
        "/linux/resources/memory",
        json!({"limit": 16_777_216, "swap": 16_777_216}),
    );
    let c = c
        .push(
            "/mounts",
            json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs"}),
        )
        .sh("head -c 64m /dev/zero > /opt/much; sleep 1000");
    run(&case, &c).ok();
    c.kill("KILL").ok();
    c.wait_stopped();
    c.delete().ok();
    assert_shown(&c, &[("LoadState", "not-found")]);
    // The name can be used again.
    run(&case, &c).ok();
    c.delete_force().ok();
    case.assert_nothing_left();
}

/// Calls come in while it is busy.
#[test]
fn a_reload_of_systemd_holds_nothing_up() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = scoped(&case, "c");
    for _ in 0..3 {
        let reload = Command::new("systemctl").arg("daemon-reload").spawn();
        run(&case, &c).ok();
        c.delete_force().ok();
        assert!(reload.unwrap().wait().unwrap().success());
    }
    case.assert_nothing_left();
}

/// Called from outside of what is delegated to the user, as from a login.
#[test]
fn a_plain_users_scopes_are_made_by_the_users_systemd() {
    let Some(case) = Case::new(&[Need::Runp, Need::Systemd, Need::PureV2]) else {
        return;
    };
    let uid = Command::new("id").args(["-u", "user"]).output().unwrap();
    let uid = String::from_utf8(uid.stdout).unwrap();
    let uid = uid.trim();
    assert!(
        !uid.is_empty(),
        "needs a user named \"user\", as scripts/vm has"
    );
    let started = Command::new("systemctl")
        .args(["start", &format!("user@{uid}.service")])
        .status();
    assert!(started.unwrap().success());
    let user = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", uid, "--regid", uid, "--init-groups"])
            .arg(binary())
            .args(arguments)
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .env("RUNP_TEST", &case.token);
        case.finish(command)
    };
    let own = || {
        let mut command = Command::new("chown");
        command.args(["-R", uid]).arg(case.dir());
        case.finish(command).ok()
    };

    let mut c = case.bundle("c");
    fs::remove_file(c.path.join("config.json")).unwrap();
    own();
    let path = c.path.to_str().unwrap().to_owned();
    user(&["spec", "--rootless", "--bundle", &path]).ok();
    c.config = serde_json::from_slice(&fs::read(c.path.join("config.json")).unwrap()).unwrap();
    let scope = format!("user.slice:runp:{}", c.id);
    let c = c
        .sh("exec sleep 1000")
        .with("/process/terminal", json!(false))
        .with("/linux/cgroupsPath", json!(scope))
        .with(
            "/linux/resources",
            json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 20}}),
        );
    own();
    let run = [
        "--systemd-cgroup",
        "run",
        "--detach",
        "--bundle",
        &path,
        &c.id,
    ];
    user(&run).ok();
    let state = user(&["state", &c.id]).ok().stdout;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let pid = state["pid"].as_i64().unwrap() as i32;
    let cgroup = process::cgroup_v2(pid);
    assert!(
        cgroup.ends_with(format!("user@{uid}.service/user.slice/runp-{}.scope", c.id)),
        "{cgroup:?}"
    );
    let limit = |file: &str| fs::read_to_string(cgroup.join(file)).unwrap();
    assert_eq!(limit("memory.max"), "67108864\n");
    assert_eq!(limit("pids.max"), "20\n");
    user(&["update", "--pids-limit", "30", &c.id]).ok();
    assert_eq!(limit("pids.max"), "30\n");
    let inside = user(&["exec", &c.id, "cat", "/proc/self/cgroup"])
        .ok()
        .stdout;
    let scope = format!("/runp-{}.scope\n", c.id);
    assert!(inside.ends_with(&scope), "{inside}");
    user(&["delete", "--force", &c.id]).ok();
    assert!(!cgroup.exists());
    case.assert_nothing_left();
}

#[test]
fn without_systemd_one_error_says_so() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    if has(Need::Systemd) {
        return;
    }
    let c = scoped(&case, "c");
    run(&case, &c).fails_saying(&["--systemd-cgroup: systemd does not run here"]);
    case.assert_nothing_left();
}

#[test]
fn a_path_is_not_a_scope() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    run(&case, &c).fails_saying(&["linux.cgroupsPath: ", "slice:prefix:name"]);
    let c = c.with("/linux/cgroupsPath", json!("a--b.slice:c:d"));
    run(&case, &c).fails_saying(&["linux.cgroupsPath: \"a--b.slice\""]);
    let pods = case.dir().join("pod.yaml");
    fs::write(&pods, "").unwrap();
    let pods = ["--systemd-cgroup", "pod", "run", pods.to_str().unwrap()];
    case.run(pods).fails_saying(&["--systemd-cgroup", "pod"]);
}
