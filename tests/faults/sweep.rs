//! SIGKILL to the runtime at every system call that it makes, then `delete --force`: nothing may be left.
//!
//! strace(1) counts the calls of the runtime's own process, once, and then kills a fresh run at each of them. A run that
//! is not killed at its point was counted differently than it ran; the tests demand that nearly all are.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Case, Need, PATIENCE, Pod};

/// The `nth` call of this name, from 1.
#[derive(Debug, Clone)]
struct Point {
    call: String,
    nth: usize,
}

/// The calls in a trace of strace, in order.
fn points(trace: &Path) -> Vec<Point> {
    let mut counts = HashMap::new();
    let text = String::from_utf8_lossy(&fs::read(trace).unwrap()).into_owned();
    text.lines()
        .skip(1) // the execve that starts the program itself
        .filter_map(|line| line.split_once('('))
        .filter(|(call, _)| call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(|(call, _)| {
            let nth = counts.entry(call.to_owned()).or_insert(0);
            *nth += 1;
            Point {
                call: call.to_owned(),
                nth: *nth,
            }
        })
        .collect()
}

/// `command` under strace with these options.
fn strace(options: &[&str], command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(options).arg(command.get_program());
    strace.args(command.get_args());
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap());
    }
    strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    strace
}

/// Waits until the process ends, or `done` says that it has got where it should; tells whether SIGKILL ended it.
fn killed(child: &mut Child, done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.signal() == Some(9);
        }
        if done() {
            return false;
        }
        assert!(Instant::now() < deadline, "neither killed nor done");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills fresh runs at every `of`-th point, beginning with `first`; `run` gives whether this one was killed, `check`
/// cleans up after it and finds nothing.
fn sweep(
    case: &Case,
    all: &[Point],
    (first, of): (usize, usize),
    run: impl Fn(&Point) -> bool,
    check: impl Fn(&Point),
) {
    let mine: Vec<_> = all.iter().skip(first).step_by(of).collect();
    let (mut kills, mut dirty) = (0, 0);
    for point in &mine {
        let killed = run(point);
        kills += usize::from(killed);
        dirty += usize::from(killed && !case.left_behind().is_empty());
        check(point);
    }
    eprintln!(
        "killed at {kills} of {} system calls; {dirty} left something to delete",
        mine.len()
    );
    assert!(
        dirty > 0,
        "the census sees nothing, or nothing was under way"
    );
    assert!(mine.len() >= 10, "the trace is too short: {mine:?}");
    // What a pod does just after it has got where it should is in the trace too, and is not reached by every run.
    assert!(
        kills * 100 >= mine.len() * 90,
        "killed at only {kills} of {} system calls",
        mine.len()
    );
}

fn inject(point: &Point) -> String {
    format!("inject={}:signal=SIGKILL:when={}", point.call, point.nth)
}

fn create(part: (usize, usize)) {
    let Some(case) = Case::new(&[Need::Strace]) else {
        return;
    };
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let mut create = case.runtime();
    create.args(["create", "--bundle", c.path.to_str().unwrap(), &c.id]);
    let trace = case.dir().join("trace");
    case.finish(strace(&["-o", trace.to_str().unwrap()], &create))
        .ok();
    c.delete_force().ok();

    sweep(
        &case,
        &points(&trace),
        part,
        |point| {
            let mut child = strace(&["-o", "/dev/null", "-e", &inject(point)], &create)
                .spawn()
                .unwrap();
            killed(&mut child, || false)
        },
        |point| {
            let deleted = c.delete_force();
            assert!(
                deleted.status.success(),
                "killed at {point:?}: {deleted:#?}"
            );
            nothing_left(&case, point);
        },
    );
    c.create().ok(); // the name is free
    c.delete_force().ok();
}

fn nothing_left(case: &Case, point: &Point) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !case.left_behind().is_empty() {
        assert!(
            Instant::now() < deadline,
            "killed at {point:?}, and after delete --force there is left:\n  {}",
            case.left_behind().join("\n  ")
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pod_run(part: (usize, usize)) {
    let Some(case) = Case::new(&[Need::Strace, Need::Runp]) else {
        return;
    };
    let running = case.dir().join("shared/running");
    let shared = crate::pod::Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume(), {"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
            "initContainers": [{"name": "init", "command": ["/bin/true"],
                                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}]}],
            "containers": [shared.container("app", "touch /shared/running; exec sleep 1000")],
        }),
    );
    let mut run = case.pod_runtime();
    run.args(["run", pod.dir.to_str().unwrap()]);
    let clean = || {
        let _ = fs::remove_file(&running);
    };

    let trace = case.dir().join("trace");
    let mut traced = strace(&["-o", trace.to_str().unwrap()], &run)
        .spawn()
        .unwrap();
    assert!(!killed(&mut traced, || running.exists()));
    let points = points(&trace);
    end(&mut traced, &case, &pod);
    clean();

    sweep(
        &case,
        &points,
        part,
        |point| {
            let mut child = strace(&["-o", "/dev/null", "-e", &inject(point)], &run)
                .spawn()
                .unwrap();
            let was_killed = killed(&mut child, || running.exists());
            if !was_killed {
                end(&mut child, &case, &pod);
            }
            was_killed
        },
        |point| {
            // Where it can be told at all, the status is the truth or says that there is no such pod.
            let status = pod.try_status();
            assert!(status.status.signal().is_none(), "{status:#?}");
            let deleted = pod.delete_force();
            assert!(
                deleted.status.success(),
                "killed at {point:?}: {deleted:#?}"
            );
            nothing_left(&case, point);
            clean();
        },
    );
}

/// Ends a run that has come as far as it should.
fn end(strace: &mut Child, case: &Case, pod: &Pod<'_>) {
    let deleted = pod.delete_force();
    assert!(deleted.status.success(), "{deleted:#?}");
    strace.wait().unwrap();
    case.assert_nothing_left();
}

// In parts, so that they run side by side.

#[test]
fn create_part_1() {
    create((0, 2));
}

#[test]
fn create_part_2() {
    create((1, 2));
}

#[test]
fn pod_run_part_1() {
    pod_run((0, 4));
}

#[test]
fn pod_run_part_2() {
    pod_run((1, 4));
}

#[test]
fn pod_run_part_3() {
    pod_run((2, 4));
}

#[test]
fn pod_run_part_4() {
    pod_run((3, 4));
}
