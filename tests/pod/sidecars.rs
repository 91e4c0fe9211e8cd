//! Init containers with `restartPolicy: Always` (KEP-753).

use serde_json::{Value, json};

use crate::support::pod::{condition, container_status, is_running, terminated, time};
use crate::support::{Case, Need, Pod, Shared, eventually};

/// As a sidecar.
fn sidecar(mut container: Value) -> Value {
    container["restartPolicy"] = json!("Always");
    container
}

/// Says that it is asked to end, and ends.
fn obeys(name: &str) -> String {
    format!(
        "trap 'echo {name} ends >> /shared/log; exit 0' TERM; echo {name} runs >> /shared/log; while :; do sleep 0.02; done"
    )
}

#[test]
fn a_sidecar_starts_in_its_turn_outlives_the_apps_and_keeps_nothing_from_completing() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait =
        "until grep -q 'late runs' /shared/log; do sleep 0.01; done; echo app ends >> /shared/log";
    let wait = wait.replace(
        "grep -q 'late runs' /shared/log",
        "cat /shared/log | sed -n '/late runs/q1'; [ $? = 1 ]",
    );
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "OnFailure",
            "volumes": [shared.volume()],
            "initContainers": [
                shared.container("before", "echo before >> /shared/log"),
                sidecar(shared.container("early", &obeys("early"))),
                shared.container("between", "echo between >> /shared/log"),
                sidecar(shared.container("late", &obeys("late"))),
            ],
            "containers": [shared.container("app", &wait)],
        }),
    );
    pod.run().ok();
    let lines = shared.lines("log");
    let at = |line: &str| {
        lines
            .iter()
            .position(|l| l == line)
            .unwrap_or_else(|| panic!("{line}: {lines:?}"))
    };
    assert!(at("before") < at("early runs"), "{lines:?}");
    assert!(at("before") < at("between"), "{lines:?}");
    assert!(at("between") < at("late runs"), "{lines:?}");
    assert_eq!(
        lines[lines.len() - 3..],
        ["app ends", "late ends", "early ends"]
    );
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Succeeded");
    let started = |name: &str| time(&terminated(&status, name)["startedAt"]);
    assert!(started("early") <= started("between"));
    assert!(terminated(&status, "early")["finishedAt"].is_string());
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_sidecar_is_restarted_under_never_and_its_exit_code_does_not_count() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "volumes": [shared.volume()],
            "initContainers": [sidecar(shared.container("side", "echo run >> /shared/log; [ -e /shared/second ] && exec sleep 1000; touch /shared/second; exit 3"))],
            "containers": [shared.container("app", "until [ $(wc -l < /shared/log) = 2 ]; do sleep 0.01; done")],
        }),
    );
    pod.run().ok();
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Succeeded", "{status:#}");
    let side = container_status(&status, "side");
    assert_eq!(side["restartCount"], 1);
    assert_eq!(side["lastState"]["terminated"]["exitCode"], 3);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn what_comes_next_waits_for_the_startup_probe() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let mut side = sidecar(shared.container("side", "exec sleep 1000"));
    side["startupProbe"] = json!({"exec": {"command": ["ls", "/shared/go"]}, "periodSeconds": 1, "failureThreshold": 1000});
    side["readinessProbe"] =
        json!({"exec": {"command": ["ls", "/shared/ready"]}, "periodSeconds": 1});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [side, shared.container("init", "touch /shared/init-ran")],
            "containers": [shared.container("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let status = pod.until("the sidecar runs", |pod| is_running(pod, "side"));
    assert_eq!(container_status(&status, "side")["started"], false);
    eventually("the probe has failed", || {
        pod.journal().contains("unhealthy").then_some(())
    });
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Pending");
    assert!(!shared.path.join("init-ran").exists(), "it has not waited");
    std::fs::write(shared.path.join("go"), "").unwrap();
    pod.until_running("app");
    assert!(shared.path.join("init-ran").exists());
    let status = pod.until("the sidecar has started", |pod| {
        container_status(pod, "side")["started"] == true
    });
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready["status"], "False", "a sidecar's readiness counts");
    assert_eq!(ready["message"], "containers with unready status: [side]");
    std::fs::write(shared.path.join("ready"), "").unwrap();
    pod.until("it is ready", |pod| {
        condition(pod, "Ready")["status"] == "True"
    });
    pod.stop(&["--grace", "0"]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}
