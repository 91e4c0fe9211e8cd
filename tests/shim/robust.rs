//! containerd and shims are killed, and nothing is lost.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Containerd, Events, left_in_root, report, shims};
use crate::support::alone::alone;
use crate::support::{Case, Need, eventually, eventually_or, process};

#[test]
fn a_task_outlives_containerd_and_its_exit_is_kept() {
    if !alone("shim::robust::a_task_outlives_containerd_and_its_exit_is_kept") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let mut containerd = Containerd::new(&case);
    let gone = case.dir().join("gone");
    let wait = format!(
        "while ! [ -e /gone{} ]; do sleep 0.05; done; exit 42",
        "/now"
    );
    let mount = format!("type=bind,src={},dst=/gone,options=rbind", gone.display());
    std::fs::create_dir(&gone).unwrap();
    containerd.detached(&["--mount", &mount], "ends", &["sh", "-c", &wait]);
    containerd.detached(&[], "stays", &["sleep", "1000"]);
    let before = shims();
    containerd.kill();
    // One of them ends while nobody looks.
    std::fs::write(gone.join("now"), "").unwrap();
    eventually("it ends", || {
        let tasks = process::all().filter(|pid| name(*pid) == "sh");
        (tasks.count() == 0).then_some(())
    });
    containerd.start();
    assert_eq!(shims(), before);
    assert_eq!(containerd.status("stays"), "RUNNING");
    assert_eq!(containerd.status("ends"), "STOPPED");
    let deleted = containerd.ctr(&["task", "delete", "ends"]).ok();
    assert!(deleted.stderr.contains("exit code 42"), "{deleted:?}");
    containerd.ctr(&["container", "delete", "ends"]).ok();
    let exec = [
        "task",
        "exec",
        "--exec-id",
        "e",
        "stays",
        "sh",
        "-c",
        "exit 3",
    ];
    containerd.ctr(&exec).code(3);
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "stays"])
        .ok();
    containerd.wait_for_status("stays", "STOPPED");
    containerd.remove("stays");
    containerd.leaves_nothing();
}

#[test]
fn what_a_killed_shim_leaves_is_deleted() {
    if !alone("shim::robust::what_a_killed_shim_leaves_is_deleted") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let containerd = Containerd::new(&case);
    let pod = ["--annotation", "io.kubernetes.cri.sandbox-id=pod"];
    for id in ["pod", "app"] {
        containerd.detached(&pod, id, &["sleep", "54321"]);
    }
    let events = Events::new(&containerd);
    let [shim] = shims()[..] else {
        panic!("{:?}", shims());
    };
    kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    // containerd notices, and executes `delete` for both.
    for id in ["pod", "app"] {
        containerd.wait_for_status(id, "none");
        containerd.ctr(&["container", "delete", id]).ok();
    }
    let text = events.wait_for("\"container_id\":\"app\",\"id\":\"app\"");
    assert!(text.contains("\"exit_status\":137"), "{text}");
    drop(events);
    let left = process::all().filter(|pid| process::runs(*pid) && name(*pid) == "sleep");
    assert_eq!(left.count(), 0);
    containerd.leaves_nothing();
}

fn remove_sockets() {
    for left in left_in_root().iter().filter(|left| left.ends_with(".sock")) {
        std::fs::remove_file(left).unwrap();
    }
}

fn name(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// `RUNP_TEST_KILLS` sets how many times (8).
#[test]
fn containerd_is_killed_at_any_moment() {
    if !alone("shim::robust::containerd_is_killed_at_any_moment") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let kills = std::env::var("RUNP_TEST_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let mut containerd = Containerd::new(&case);
    for round in 0..kills {
        let tasks: Vec<_> = (0..5)
            .map(|n| (format!("t{round}x{n}"), 10 + n))
            .map(|(id, code)| {
                let script = format!("sleep 0.{code}; exit {code}");
                let run = containerd.run(&["--detach"], &id, &["sh", "-c", &script]);
                (case.begin(run), id, code)
            })
            .collect();
        // Another moment in each round, from the first call to after the last exit.
        std::thread::sleep(Duration::from_millis(round * 397 % 400));
        containerd.kill();
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|(begun, id, code)| (begun.end().status.success(), id, code))
            .collect();
        containerd.start();
        for (started, id, code) in tasks {
            if started {
                containerd.wait_for_status(&id, "STOPPED");
                let deleted = containerd.ctr(&["task", "delete", &id]).ok();
                let expected = format!("exit code {code}");
                assert!(deleted.stderr.contains(&expected), "{deleted:?}");
            } else {
                // Cut short anywhere.
                eventually("it can be deleted", || {
                    let deleted = containerd.ctr(&["task", "delete", "--force", &id]);
                    (containerd.status(&id) == "none").then_some(deleted)
                });
            }
            containerd.ctr(&["container", "delete", &id]);
        }
    }
    containerd.leaves_nothing();
}

/// `RUNP_TEST_KILLS` sets how many times (8).
#[test]
fn a_shim_is_killed_at_any_moment() {
    if !alone("shim::robust::a_shim_is_killed_at_any_moment") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let kills = std::env::var("RUNP_TEST_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let containerd = Containerd::new(&case);
    for round in 0..kills {
        let id = format!("t{round}");
        let script = "sleep 54321 & sleep 54321";
        let begun = case.begin(containerd.run(&["--detach"], &id, &["sh", "-c", script]));
        eventually("there is a shim", || shims().first().copied());
        // From its first moment to when everything runs.
        std::thread::sleep(Duration::from_micros(round * 7919 % 40_000));
        // What containerd has executed, or what that has made: which then has nobody who asks it for anything, and ends.
        eventually("it is killed", || {
            let shim = shims().first().copied()?;
            kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).ok()
        });
        if begun.end().stderr.contains("failed to start shim") {
            // Then containerd does not execute `delete`: what stays is a name that nobody listens to.
            remove_sockets();
        }
        let is_gone = || {
            let sleeps = process::all().filter(|pid| process::runs(*pid) && name(*pid) == "sleep");
            let is_gone = sleeps.count() == 0 && containerd.status(&id) == "none";
            (is_gone && shims().is_empty()).then_some(())
        };
        eventually_or(is_gone, || {
            format!("{round}: {}\n{}", containerd.status(&id), report())
        });
        containerd.ctr(&["container", "delete", &id]);
    }
    containerd.leaves_nothing();
}
