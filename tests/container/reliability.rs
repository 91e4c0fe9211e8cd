//! Containers that do not do as they are told: they are ended in time all the same.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::alone::{Baseline, alone};
use crate::support::{Begun, Bundle, Case, Done, Need, at_most, eventually, is_runp, process};

/// What may be asked of a container at any time must not take longer.
const SOON: Duration = Duration::from_secs(1);

/// It succeeds, and soon. (How soon is runp's promise and not every runtime's.)
#[track_caller]
fn soon(act: impl FnOnce() -> Done) {
    let begin = Instant::now();
    act().ok();
    since(begin, SOON);
}

#[track_caller]
fn since(begin: Instant, limit: Duration) {
    let took = begin.elapsed();
    assert!(
        took < limit || took < at_most(limit) || !is_runp(),
        "took {took:?}"
    );
}

/// A container whose first process is stopped before `start`, and the `start` that waits for it.
fn stopped_at_its_start(case: &Case, c: &Bundle<'_>) -> Child {
    c.create().ok();
    let pid = c.pid();
    process::signal(pid, Signal::STOP);
    eventually("it is stopped", || process::is_stopped(pid).then_some(()));
    let mut start = case.runtime();
    let start = start.args(["start", &c.id]).spawn().unwrap();
    let gate = case.state_root().join(&c.id).join("start.sock");
    eventually("start has told it", || (!gate.exists()).then_some(()));
    start
}

#[test]
fn one_that_is_stopped_while_it_starts_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");

    let mut start = stopped_at_its_start(&case, &c);
    soon(|| c.kill("KILL"));
    assert!(!start.wait().unwrap().success());
    c.wait_stopped();
    soon(|| c.delete());

    let mut start = stopped_at_its_start(&case, &c);
    soon(|| c.delete_force());
    assert!(!start.wait().unwrap().success());
    case.assert_nothing_left();

    let mut start = stopped_at_its_start(&case, &c);
    process::signal(c.pid(), Signal::CONT);
    assert!(start.wait().unwrap().success(), "it goes on");
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}

#[test]
fn one_that_stops_itself_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[]) else { return };
    // The first process of a pid namespace does not stop for itself.
    let c = case.bundle("c").no_namespace("pid");
    let c = c.sh("kill -STOP $$; exec sleep 1000");
    let stopped = || {
        c.create().ok();
        c.start().ok();
        let pid = c.pid();
        eventually("it has stopped", || process::is_stopped(pid).then_some(()));
    };
    stopped();
    soon(|| c.kill("KILL"));
    c.wait_stopped();
    soon(|| c.delete());

    stopped();
    soon(|| c.delete_force());
    case.assert_nothing_left();
}

#[test]
fn one_that_ignores_signals_or_is_frozen_is_deleted_at_once() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("trap '' TERM HUP INT QUIT; echo > /tmp/deaf; while :; do sleep 1000; done")
        .with("/root/readonly", json!(false));
    let run = || {
        let deaf = c.rootfs().join("tmp/deaf");
        c.run_detached().ok();
        eventually("it ignores them", || deaf.exists().then_some(()));
        fs::remove_file(deaf).unwrap();
    };
    run();
    c.kill("TERM").ok();
    soon(|| c.delete_force());
    run();
    case.run(["pause", &c.id]).ok();
    soon(|| c.delete_force());
    case.assert_nothing_left();
}

/// Forks for ever, whatever fork says: ten of these at a time.
const FORK_BOMB: &str = r#"for i in 0 1 2 3 4 5 6 7 8 9; do
    busybox awk 'BEGIN { while (1) system("sleep 1000 &") }' &
done; wait"#;

#[test]
fn a_fork_bomb_is_deleted_soon() {
    let Some(case) = Case::new(&[Need::Controller("pids")]) else {
        return;
    };
    let in_its_own = case.bundle("own").sh(FORK_BOMB);
    // There, its processes do not end with the first one.
    let in_the_hosts = case.bundle("hosts").no_namespace("pid").sh(FORK_BOMB);
    for c in [in_its_own, in_the_hosts] {
        let c = c.with("/linux/resources/pids", json!({"limit": 200}));
        c.run_detached().ok();
        let pids = process::cgroup(c.pid(), "pids").join("pids.current");
        eventually("it has filled its cgroup", || {
            let current: u32 = fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
            (current >= 190).then_some(())
        });
        let begin = Instant::now();
        c.delete_force().ok();
        since(begin, 2 * SOON);
        case.assert_nothing_left();
    }
}

#[test]
fn exec_into_a_cgroup_without_room_says_pids_max() {
    // runc 1.1 puts a process into a full v1 cgroup.
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("pids")]) else {
        return;
    };
    let c = case
        .bundle("c")
        .sh("sleep 1000 & sleep 1000 & sleep 1000 & wait");
    let c = c.with("/linux/resources/pids", json!({"limit": 4}));
    c.run_detached().ok();
    let pids = process::cgroup(c.pid(), "pids").join("pids.current");
    eventually("it is full", || {
        (fs::read_to_string(&pids).unwrap().trim() == "4").then_some(())
    });
    let begin = Instant::now();
    c.exec(&[], &["/bin/true"]).fails_saying(&["pids.max"]);
    since(begin, SOON);
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}

#[test]
fn a_first_process_without_memory_is_told_of_with_its_limit() {
    let Some(case) = Case::new(&[Need::Controller("memory")]) else {
        return;
    };
    let c = case.bundle("c").args(&["/bin/true"]);
    let c = c.with("/linux/resources/memory", json!({"limit": 4096}));
    c.create()
        .fails_saying(&["OOM-killed, limit 4096", "linux.resources.memory.limit"]);
    case.assert_nothing_left();
}

/// The pid of a container's first process is another process's by now.
#[test]
fn a_pid_that_is_used_again_is_nobodys() {
    if !alone("container::reliability::a_pid_that_is_used_again_is_nobodys") {
        return;
    }
    let Some(case) = Case::new(&[]) else { return };
    let baseline = Baseline::now();
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    let pid = c.pid();
    process::kill(pid);
    eventually("it is reaped", || {
        baseline.left_behind().is_empty().then_some(())
    });

    let next = fs::read_to_string("/proc/sys/kernel/ns_last_pid").unwrap();
    assert!(next.trim().parse::<i32>().unwrap() >= pid);
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    assert_eq!(stranger.id().cast_signed(), pid, "the pid is used again");

    assert_eq!(c.status(), "stopped");
    c.kill("KILL").fails();
    c.exec(&[], &["/bin/true"]).fails();
    c.delete_force().ok();
    assert!(stranger.try_wait().unwrap().is_none(), "it was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_hundred_at_a_time() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let c = c.without("/linux/cgroupsPath");
    let all = |arguments: &[&str]| {
        let begin = |n: usize| {
            let mut runtime = case.runtime();
            runtime.args(arguments).arg(case.id(&n.to_string()));
            case.begin(runtime)
        };
        let begun: Vec<Begun> = (0..100).map(begin).collect();
        for one in begun {
            one.end().ok();
        }
    };
    all(&["create", "--bundle", c.path.to_str().unwrap()]);
    all(&["start"]);
    let list = case.run(["list", "--quiet"]).ok().stdout;
    assert_eq!(list.lines().count(), 100);
    all(&["delete", "--force"]);
    case.assert_nothing_left();
}
