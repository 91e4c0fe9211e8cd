//! containerd and shims are killed, and nothing is lost.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::wire::{bytes_of, decode, field, number_of};
use super::{Containerd, Events, report, shims};
use crate::support::alone::alone;
use crate::support::{Case, Need, at_most, eventually, eventually_or, process};

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

fn name(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// How much later than a task's last act its end is said to be, as its shim tells it.
fn lateness(containerd: &Containerd<'_>, id: &str, act: &Path) -> Duration {
    let bundle = containerd.bundle(id);
    let address = std::fs::read_to_string(bundle.join("address")).unwrap();
    let mut client = Client::new(address.strip_prefix("unix://").unwrap());
    let state = client.ok("State", &field(1, id));
    let exited_at = decode(&bytes_of(&state, 10));
    let [seconds, nanos] = [1, 2].map(|field| number_of(&exited_at, field));
    let exited_at = Duration::new(seconds, nanos as u32);
    let acted = std::fs::metadata(act).unwrap().modified().unwrap();
    let acted = acted.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // The clock of files moves in steps.
    let late = exited_at + Duration::from_millis(10);
    late.checked_sub(acted).expect("an end before the last act")
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
    let last = case.dir().join("last");
    std::fs::create_dir(&last).unwrap();
    let mount = format!("type=bind,src={},dst=/opt,options=rbind", last.display());
    let (mut started, mut cut_short, mut latest) = (0, 0, Duration::ZERO);
    for round in 0..kills {
        let tasks: Vec<_> = (0..5)
            .map(|n| (format!("t{round}x{n}"), 10 + n))
            .map(|(id, code)| {
                // What it does last tells when it ended.
                let script = format!("sleep 0.{code}; echo > /opt/{id}; exit {code}");
                let command = ["sh", "-c", &script];
                let run = containerd.run(&["--detach", "--mount", &mount], &id, &command);
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
        for (has_started, id, code) in tasks {
            if has_started {
                started += 1;
                containerd.wait_for_status(&id, "STOPPED");
                let late = lateness(&containerd, &id, &last.join(&id));
                assert!(late < at_most(Duration::from_millis(500)), "{id}: {late:?}");
                latest = latest.max(late);
                let deleted = containerd.ctr(&["task", "delete", &id]).ok();
                let expected = format!("exit code {code}");
                assert!(deleted.stderr.contains(&expected), "{deleted:?}");
            } else {
                cut_short += 1;
                // Cut short anywhere.
                eventually("it can be deleted", || {
                    let deleted = containerd.ctr(&["task", "delete", "--force", &id]);
                    (containerd.status(&id) == "none").then_some(deleted)
                });
            }
            containerd.ctr(&["container", "delete", &id]);
        }
    }
    eprintln!(
        "{kills} kills, {started} containers ended with their codes, {cut_short} were cut short; exit times are late by {latest:?} at most"
    );
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
    let events = Events::new(&containerd);
    let mut slowest = Duration::ZERO;
    let mut running = Vec::new();
    for round in 0..kills {
        let id = format!("t{round}");
        let script = "sleep 54321 & sleep 54321";
        let begun = case.begin(containerd.run(&["--detach"], &id, &["sh", "-c", script]));
        eventually("there is a shim", || shims().first().copied());
        // From its first moment to when everything runs.
        std::thread::sleep(Duration::from_micros(round * 7919 % 120_000));
        // What containerd has executed, or what that has made: which then has nobody who asks it for anything, and ends.
        eventually("it is killed", || {
            let shim = shims().first().copied()?;
            kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).ok()
        });
        let killed = Instant::now();
        let was_running = begun.end().status.success();
        if was_running {
            running.push(id.clone());
        }
        let is_gone = || {
            let sleeps = process::all().filter(|pid| process::runs(*pid) && name(*pid) == "sleep");
            let is_gone = sleeps.count() == 0 && containerd.status(&id) == "none";
            (is_gone && shims().is_empty()).then_some(())
        };
        eventually_or(is_gone, || {
            format!("{round}: {}\n{}", containerd.status(&id), report())
        });
        // One that `start` had just made, and that nobody knows, ends by itself when nobody has asked for anything for 5 s.
        if was_running {
            let took = killed.elapsed();
            assert!(took < at_most(Duration::from_secs(2)), "{id}: {took:?}");
            slowest = slowest.max(took);
        }
        containerd.ctr(&["container", "delete", &id]);
    }
    // Of one that was killed before containerd knew it nobody is told to remove anything: the next one that ends does.
    let run = containerd.run(&["--rm"], "last", &["true"]);
    case.finish(run).ok();
    // Those that containerd knew of are said to have been killed.
    for id in &running {
        let text = events.wait_for(&format!("\"container_id\":\"{id}\",\"id\":\"{id}\""));
        let mut ends = text.lines().filter(|line| {
            line.contains("/tasks/exit") && line.contains(&format!("\"id\":\"{id}\""))
        });
        let end = ends.next().unwrap();
        assert!(end.contains("\"exit_status\":137"), "{end}");
    }
    eprintln!(
        "{kills} kills, {} while it ran; gone after {slowest:?} at most",
        running.len()
    );
    drop(events);
    containerd.leaves_nothing();
}
