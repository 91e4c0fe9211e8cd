//! A program's share of the machine, its personality, and its labels.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Need};

fn sleeping<'a>(case: &'a Case, name: &str, field: &str, value: Value) -> Bundle<'a> {
    case.bundle(name).with(field, value).sh("sleep 1000")
}

#[test]
fn the_scheduler_is_the_one_asked_for() {
    // runc knows it since 1.2
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (name, scheduler, policy, nice, priority) in [
        (
            "other",
            json!({"policy": "SCHED_OTHER", "nice": 5}),
            "0",
            "5",
            "0",
        ),
        (
            "batch",
            json!({"policy": "SCHED_BATCH", "nice": 19}),
            "3",
            "19",
            "0",
        ),
        ("idle", json!({"policy": "SCHED_IDLE"}), "5", "0", "0"),
        (
            "fifo",
            json!({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            "1",
            "0",
            "7",
        ),
        (
            "rr",
            json!({"policy": "SCHED_RR", "priority": 8}),
            "2",
            "0",
            "8",
        ),
    ] {
        let mut c = sleeping(&case, name, "/process/scheduler", scheduler);
        // On cgroup v1 a group has no real time unless it is given some.
        if Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
            let time = json!({"realtimeRuntime": 10_000, "realtimePeriod": 1_000_000});
            c = c.with("/linux/resources/cpu", time);
        }
        c.run_detached().ok();
        let seen = |pid: i32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<String> = text
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .map(Into::into)
                .collect();
            // the state is field 3
            [38, 16, 37].map(|at: usize| fields[at].clone())
        };
        assert_eq!(seen(c.pid()), [policy, nice, priority], "{name}");
        // An exec starts from the container's process, and so does its scheduler.
        let exec = c.exec(&[], &["cat", "/proc/self/stat"]).ok().stdout;
        let fields: Vec<&str> = exec.split_whitespace().collect();
        assert_eq!(fields[40], policy, "{name}: {exec}");
        c.delete_force().ok();
    }
}

#[test]
fn a_deadline_is_kept() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 42_000, "deadline": 1_000_000, "period": 1_000_000});
    let c = case
        .bundle("c")
        .with("/process/scheduler", scheduler)
        .args(&["/bin/cat", "/proc/self/stat"]);
    let done = c.run();
    // Which processors a process may run on decides whether the kernel admits it.
    let refused = done.stderr.contains("EPERM") || done.stderr.contains("EBUSY");
    let admitted = done.stdout.split_whitespace().nth(40) == Some("6");
    assert!(
        admitted || refused && done.stderr.contains("process.scheduler"),
        "{done:?}"
    );
}

#[test]
fn the_io_priority_is_the_one_asked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (name, class, level, seen) in [
        ("be", "IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("idle", "IOPRIO_CLASS_IDLE", 0, "idle"),
        ("rt", "IOPRIO_CLASS_RT", 1, "realtime: prio 1"),
    ] {
        let value = json!({"class": class, "priority": level});
        let c = sleeping(&case, name, "/process/ioPriority", value);
        c.run_detached().ok();
        let exec = c.exec(&[], &["busybox", "ionice"]);
        assert_eq!(exec.ok().stdout.trim(), seen, "an exec");
        let first = c.exec(&[], &["busybox", "ionice", "-p", "1"]);
        assert_eq!(first.ok().stdout.trim(), seen, "the first process");
        c.delete_force().ok();
    }
}

#[test]
fn an_exec_runs_on_the_processors_asked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = sleeping(
        &case,
        "c",
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "1"}),
    );
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    c.run_detached().ok();
    let allowed = |c: &Bundle<'_>| {
        let out = c
            .exec(
                &[],
                &["busybox", "grep", "Cpus_allowed_list", "/proc/self/status"],
            )
            .ok()
            .stdout;
        out.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(allowed(&c), "1");
    c.delete_force().ok();
    let c = sleeping(
        &case,
        "nowhere",
        "/process/execCPUAffinity",
        json!({"final": "1023"}),
    );
    c.run_detached().ok();
    c.exec(&[], &["true"])
        .fails_saying(&["process.execCPUAffinity.final", "EINVAL"]);
    c.delete_force().ok();
}

#[test]
fn the_personality_holds_for_every_process() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    for (domain, machine) in [("LINUX32", "i686"), ("LINUX", "x86_64")] {
        let c = sleeping(
            &case,
            &domain.to_lowercase(),
            "/linux/personality",
            json!({"domain": domain}),
        );
        c.run_detached().ok();
        assert_eq!(
            c.exec(&[], &["busybox", "uname", "-m"]).ok().stdout.trim(),
            machine
        );
        c.delete_force().ok();
        let c = c.args(&["/bin/busybox", "uname", "-m"]);
        assert_eq!(c.prints().trim(), machine);
    }
}

#[test]
fn the_memory_policy_holds_for_every_process() {
    // runc knows it since 1.4
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    if std::fs::read("/proc/self/numa_maps").is_err() {
        return; // a kernel without NUMA
    }
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    let c = sleeping(&case, "c", "/linux/memoryPolicy", policy);
    c.run_detached().ok();
    let maps = [
        "sh",
        "-c",
        "grep -c bind /proc/self/numa_maps; grep -c bind /proc/1/numa_maps",
    ];
    let seen = c.exec(&[], &maps).ok().stdout;
    let counts: Vec<u32> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        counts.len() == 2 && counts.iter().all(|count| *count > 0),
        "{seen}"
    );
    c.delete_force().ok();
    let c = c.with(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "1000"}),
    );
    c.run().fails_saying(&["linux.memoryPolicy", "EINVAL"]);
}

/// As root of a user namespace it could not: the caller raises them.
#[test]
fn limits_can_be_raised_in_a_user_namespace() {
    let Some(case) = Case::new(&[Need::SysResource]) else {
        return;
    };
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let c = case
        .bundle("c")
        .with("/linux/uidMappings", map.clone())
        .with("/linux/gidMappings", map)
        .namespace("user", None)
        .with(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000}]),
        )
        .sh("ulimit -n; ulimit -Hn; sleep 1000");
    let mut command = std::process::Command::new("prlimit");
    let runtime = case.runtime();
    command
        .arg("--nofile=1000:1000")
        .arg(runtime.get_program())
        .args(runtime.get_args());
    command.args([
        "run",
        "--detach",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ]);
    let done = case.finish(command).ok();
    crate::support::eventually("both limits are printed", || {
        (c.exec(&[], &["sh", "-c", "ulimit -n; ulimit -Hn"])
            .ok()
            .stdout
            == "2000\n3000\n")
            .then_some(())
    });
    drop(done);
    c.delete_force().ok();
}

#[test]
fn labels_of_modules_that_are_not_enabled_are_refused_by_name() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let has = |need| crate::support::requires::has(need);
    for (name, pointer, module, enabled) in [
        (
            "apparmor",
            "/process/apparmorProfile",
            "AppArmor",
            has(Need::AppArmor),
        ),
        (
            "selinux",
            "/process/selinuxLabel",
            "SELinux",
            has(Need::SeLinux),
        ),
        ("mounts", "/linux/mountLabel", "SELinux", has(Need::SeLinux)),
    ] {
        if enabled {
            continue;
        }
        let c = case.bundle(name).with(pointer, json!("some")).sh("true");
        let field = pointer[1..].replace('/', ".");
        c.create().fails_saying(&[&field, module, "is not enabled"]);
    }
    case.assert_nothing_left();
}

/// A profile that forbids one file, for the first process and an exec; without it the file can be read.
#[test]
fn an_apparmor_profile_confines_the_program() {
    let Some(case) = Case::new(&[Need::AppArmor]) else {
        return;
    };
    let profile = format!("{}-profile", case.token);
    let source = format!(
        "profile {profile} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  signal,\n  ptrace,\n  \
         network,\n  deny /etc/secret r,\n}}\n"
    );
    let file = case.dir().join("profile");
    std::fs::write(&file, source).unwrap();
    let parser = |option: &str| {
        let mut command = std::process::Command::new("apparmor_parser");
        command.args([option, "--skip-cache"]).arg(&file);
        case.finish(command).ok();
    };
    parser("--add");
    let secret = |name: &str| {
        let c = case.bundle(name);
        std::fs::write(c.rootfs().join("etc/secret"), "secret\n").unwrap();
        c
    };
    assert_eq!(
        secret("free").args(&["/bin/cat", "/etc/secret"]).prints(),
        "secret\n"
    );
    for nnp in [true, false] {
        let c = secret(&format!("confined{nnp}"))
            .with("/process/apparmorProfile", json!(profile))
            .with("/process/noNewPrivileges", json!(nnp))
            .sh("sleep 1000");
        c.run_detached().ok();
        let current = c.exec(
            &[],
            &["cat", "/proc/1/attr/current", "/proc/self/attr/current"],
        );
        assert_eq!(
            current.ok().stdout.matches(&profile).count(),
            2,
            "both processes are confined"
        );
        let read = c.exec(&[], &["cat", "/etc/secret"]);
        assert!(
            !read.status.success() && read.stderr.contains("Permission denied"),
            "{read:?}"
        );
        c.delete_force().ok();
    }
    let c = case.bundle("unknown").sh("true");
    c.with("/process/apparmorProfile", json!("no-such-profile"))
        .run()
        .fails_saying(&[
            "process.apparmorProfile",
            "no-such-profile",
            "apparmor_parser",
        ]);
    parser("--remove");
    case.assert_nothing_left();
}
