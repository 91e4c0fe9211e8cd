//! Hooks, and the order in which a pod ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{Case, Need, Pod, Shared, eventually};

fn with(mut container: Value, lifecycle: Value) -> Value {
    container["lifecycle"] = lifecycle;
    container
}

fn append(line: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", format!("echo {line} >> /shared/log")]}})
}

const OBEYS: &str =
    "trap 'echo asked >> /shared/log; exit 0' TERM; touch /shared/up; while :; do sleep 0.02; done";

#[test]
fn post_start_comes_after_the_start_and_pre_stop_before_the_signal() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait = json!({"exec": {"command": ["sh", "-c", "until [ -e /shared/up ]; do sleep 0.01; done; echo post >> /shared/log"]}});
    let hooks = json!({"postStart": wait, "preStop": append("pre")});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "containers": [with(shared.container("app", OBEYS), hooks)],
        }),
    );
    pod.run_detached();
    pod.until("it is up", |pod| is_running(pod, "app"));
    assert_eq!(
        shared.lines("log"),
        ["post"],
        "it counts as running only now"
    );
    pod.stop(&[]).ok();
    assert_eq!(shared.lines("log"), ["post", "pre", "asked"]);
    assert_eq!(pod.status()["status"]["phase"], "Succeeded");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn row_04_apps_start_in_parallel_also_where_a_post_start_waits_for_another_app() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait =
        json!({"exec": {"command": ["sh", "-c", "until [ -e /shared/b ]; do sleep 0.01; done"]}});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [
                with(shared.container("a", "until [ -e /shared/b ]; do sleep 0.01; done"), json!({"postStart": wait})),
                shared.container("b", "touch /shared/b"),
            ],
        }),
    );
    pod.run().ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_post_start_that_fails_ends_the_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let fails = json!({"exec": {"command": ["sh", "-c", "echo no licence; exit 3"]}});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": [shared.volume()],
            "containers": [with(shared.container("app", "exec sleep 1000"), json!({"postStart": fails}))],
        }),
    );
    pod.run_detached();
    let status = pod.until("it waits for its next try", |pod| {
        container_status(pod, "app")["state"]["waiting"]["reason"] == "PostStartHookError"
            && container_status(pod, "app")["restartCount"] == 1
    });
    let waiting = &container_status(&status, "app")["state"]["waiting"];
    assert_eq!(waiting["message"], "no licence");
    pod.stop(&[]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn the_grace_period_begins_before_the_hook_and_two_seconds_are_always_left() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let slow = "trap 'echo asked >> /shared/log; sleep 1; echo done >> /shared/log; exit 0' TERM; touch /shared/up; while :; do sleep 0.02; done";
    let hooks = json!({"preStop": {"sleep": {"seconds": 2}}});
    let hangs = json!({"preStop": {"exec": {"command": ["sleep", "1000"]}}});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 2,
            "volumes": [shared.volume()],
            "containers": [
                with(shared.container("sleeps", slow), hooks),
                with(shared.container("hangs", slow), hangs),
            ],
        }),
    );
    pod.run_detached();
    pod.until_running("sleeps");
    pod.until_running("hangs");
    eventually("it listens", || {
        shared.path.join("up").exists().then_some(())
    });
    let began = Instant::now();
    pod.stop(&[]).ok();
    let took = began.elapsed();
    let expected = Duration::from_secs(3)..Duration::from_millis(4500);
    assert!(expected.contains(&took), "{took:?}");
    assert_eq!(shared.lines("log"), ["asked", "asked", "done", "done"]);
    let status = pod.status();
    for name in ["sleeps", "hangs"] {
        assert_eq!(terminated(&status, name)["exitCode"], 0, "{name}");
    }
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn without_grace_there_is_no_hook() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let hooks = json!({"preStop": append("pre")});
    let pod = Pod::new(
        &case,
        "p",
        json!({"volumes": [shared.volume()], "containers": [with(shared.container("app", OBEYS), hooks)]}),
    );
    pod.run_detached();
    pod.until_running("app");
    pod.stop(&["--grace", "0"]).ok();
    assert!(shared.lines("log").is_empty());
    pod.delete().ok();
    case.assert_nothing_left();
}
