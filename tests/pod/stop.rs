//! How a pod ends.

use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::pod::terminated;
use crate::support::{Case, Need, Pod, Shared, eventually, sh};

/// Ends by itself when asked to.
const OBEYS: &str = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.02; done";

#[test]
fn row_37_delete_frees_everything() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "initContainers": [sh("init", "true")],
            "containers": [
                {"name": "a", "command": ["/bin/sh", "-c", "touch /disk/x /memory/x /opt/x; exec sleep 1000"],
                 "volumeMounts": [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]},
                sh("b", "sleep 1000 & sleep 1000"),
            ],
        }),
    );
    pod.run_detached();
    pod.pause("a");
    pod.until_running("b");
    assert!(
        !case.left_behind().is_empty(),
        "the census sees a pod that is up"
    );
    let message = pod.delete().fails();
    assert!(
        message.contains("stop") || message.contains("--force"),
        "{message}"
    );
    pod.stop(&["--grace", "1"]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
    assert!(!pod.try_status().status.success());
}

#[test]
fn stop_asks_first_and_kills_what_does_not_obey() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [sh("obeys", OBEYS), sh("ignores", "trap '' TERM; echo ready; while :; do sleep 0.02; done")],
        }),
    );
    pod.run_detached();
    for name in ["obeys", "ignores"] {
        eventually("it is ready", || {
            (pod.until_running(name) > 0 && pod.log(name).contains("ready")).then_some(())
        });
    }
    pod.stop(&["--grace", "1"]).ok();
    let status = pod.status();
    let terminated = |name: &str| terminated(&status, name)["exitCode"].clone();
    assert_eq!(terminated("obeys"), 0);
    assert_eq!(terminated("ignores"), 137);
    assert_eq!(pod.log("obeys"), "ready\nasked\n");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_signal_to_pod_run_stops_the_pod_in_order() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for signal in [Signal::INT, Signal::TERM] {
        let pod = Pod::new(
            &case,
            &format!("p{}", signal.as_raw()),
            json!({
                "containers": [sh("app", OBEYS)],
            }),
        );
        let mut command = case.pod_runtime();
        command.args(["run", pod.dir.to_str().unwrap()]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        eventually("the pod exists", || {
            pod.try_status().status.success().then_some(())
        });
        pod.until_running("app");
        eventually("it is ready", || {
            pod.log("app").contains("ready").then_some(())
        });
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = child.wait().unwrap();
        assert!(
            ended.signal().is_none(),
            "{ended:?}: it stops the pod and then ends by itself"
        );
        assert_eq!(pod.log("app"), "ready\nasked\n");
        pod.delete().ok();
        case.assert_nothing_left();
    }
}

#[test]
fn create_makes_the_pod_and_start_starts_it() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [shared.container("app", "touch /shared/ran")],
        }),
    );
    pod.create().ok();
    assert_eq!(pod.status()["status"]["phase"], "Pending");
    assert!(!shared.path.join("ran").exists());
    pod.start().ok();
    pod.until_phase("Succeeded");
    assert!(shared.path.join("ran").exists());
    pod.delete().ok();
}

#[test]
fn run_with_rm_leaves_nothing() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [sh("app", "exit 4")]}),
    );
    case.pod(["run", "--rm", pod.dir.to_str().unwrap()]).code(4);
    case.assert_nothing_left();
}
