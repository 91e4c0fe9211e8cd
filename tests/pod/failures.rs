//! What fails, how often it is tried again, and what is told of it.

use serde_json::json;

use crate::support::pod::{container_status, terminated};
use crate::support::{Case, Need, Pod, Shared, process, sh};

#[test]
fn row_07_a_failed_init_is_tried_again_alone() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    // Fails twice, and says each time in which sandbox it ran.
    let script = "readlink /proc/self/ns/net >> /shared/net; [ $(wc -l < /shared/net) -gt 2 ]";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", script)],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.create().ok();
    let uid = pod.status()["metadata"]["uid"].clone();
    assert!(uid.is_string());
    pod.start().ok();
    let status = pod.until_phase("Running");
    assert_eq!(container_status(&status, "init")["restartCount"], 2);
    assert_eq!(status["metadata"]["uid"], uid);
    let net = shared.lines("net");
    assert_eq!(net.len(), 3);
    assert!(net.iter().all(|n| *n == net[0]), "another sandbox: {net:?}");
    pod.delete_force().ok();
}

#[test]
fn row_08_with_restart_policy_never_a_failed_init_fails_the_pod() {
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
            "initContainers": [sh("init", "exit 7")],
            "containers": [shared.container("app", "touch /shared/app-ran")],
        }),
    );
    pod.run().code(7);
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Failed");
    let init = terminated(&status, "init");
    assert_eq!(
        (&init["reason"], &init["exitCode"]),
        (&json!("Error"), &json!(7))
    );
    assert!(!shared.path.join("app-ran").exists());
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn row_10_a_program_that_cannot_be_started_is_tried_again() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "initContainers": [{"name": "init", "command": ["/no/such/program"]}],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    let status = pod.until("it backs off", |pod| {
        container_status(pod, "init")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let init = container_status(&status, "init");
    let message = init["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=init pod="),
        "{message}"
    );
    let last = &init["lastState"]["terminated"];
    assert_eq!(
        (&last["reason"], &last["exitCode"]),
        (&json!("StartError"), &json!(128))
    );
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{last}"
    );
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn row_11_a_failure_stops_later_inits_and_apps() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [
                sh("one", "true"),
                sh("two", "false"),
                shared.container("three", "touch /shared/three-ran"),
            ],
            "containers": [shared.container("app", "touch /shared/app-ran")],
        }),
    );
    pod.run_detached();
    let status = pod.until("two has failed", |pod| {
        container_status(pod, "two")["restartCount"].as_u64() >= Some(1)
    });
    assert_eq!(terminated(&status, "one")["exitCode"], 0);
    for name in ["three", "app"] {
        let waiting = &container_status(&status, name)["state"]["waiting"];
        assert_eq!(waiting["reason"], "PodInitializing", "{name}: {status:#}");
    }
    pod.delete_force().ok();
    assert_eq!(std::fs::read_dir(&shared.path).unwrap().count(), 0);
}

#[test]
fn row_39_a_failed_init_is_diagnosed_by_status_and_log() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("init", "echo no database; exit 3")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run().code(3);
    assert!(pod.table().contains("Init:Error"), "{}", pod.table());
    assert_eq!(pod.log("init"), "no database\n");
    pod.delete().ok();

    let pod = Pod::new(
        &case,
        "q",
        json!({
            "initContainers": [sh("init", "echo no database; exit 3")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    pod.until("it backs off", |pod| {
        container_status(pod, "init")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert!(
        pod.table().contains("Init:CrashLoopBackOff"),
        "{}",
        pod.table()
    );
    assert_eq!(pod.log("init"), "no database\n");
    pod.delete_force().ok();
}

#[test]
fn an_app_killed_by_a_signal_has_128_and_the_signal() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let pid = pod.until_running("app");
    process::kill(pid);
    let status = pod.until_phase("Failed");
    let app = terminated(&status, "app");
    assert_eq!(app["exitCode"], 137);
    assert_eq!(app["signal"], 9);
    pod.delete().ok();
}

#[test]
fn with_restart_policy_on_failure_only_a_failure_is_tried_again() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "OnFailure",
            "volumes": [shared.volume()],
            "containers": [
                shared.container("fails", "echo >> /shared/fails; [ -e /shared/again ] || { touch /shared/again; exit 1; }"),
                shared.container("works", "echo >> /shared/works"),
            ],
        }),
    );
    pod.run().ok();
    assert_eq!(shared.lines("fails").len(), 2);
    assert_eq!(shared.lines("works").len(), 1);
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Succeeded");
    assert_eq!(container_status(&status, "fails")["restartCount"], 1);
    pod.delete().ok();
}

#[test]
fn the_pods_exit_code_is_that_of_the_container_that_failed_it() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [sh("works", "true"), sh("fails", "exit 42")],
        }),
    );
    pod.run().code(42);
    assert_eq!(pod.status()["status"]["phase"], "Failed");
    pod.delete().ok();
}

#[test]
fn a_container_beyond_its_memory_limit_is_oom_killed_alone() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let greedy = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [
                {"name": "greedy", "command": ["/bin/busybox", "tail", "-c", "200m", "/dev/zero"],
                 "resources": {"limits": {"memory": "16Mi"}}},
                sh("modest", "sleep 1"),
            ],
        }),
    );
    greedy.run().code(137);
    let status = greedy.status();
    let terminated = |name: &str| terminated(&status, name);
    assert_eq!(terminated("greedy")["reason"], "OOMKilled", "{status:#}");
    assert_eq!(terminated("modest")["exitCode"], 0);
    greedy.delete().ok();
}
