//! What starts when.

use serde_json::json;

use crate::support::pod::{condition, container_status, terminated, time};
use crate::support::{Case, Need, Pod, Shared, sh};

#[test]
fn row_01_all_inits_succeed_before_any_app_starts() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script =
        |name: &str| format!("echo {name} begins >> /shared/log; echo {name} ends >> /shared/log");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("one", &script("one")), shared.container("two", &script("two"))],
            "containers": [shared.container("a", &script("a")), shared.container("b", &script("b"))],
        }),
    );
    pod.run().ok();
    let lines = shared.lines("log");
    assert_eq!(
        lines[..4],
        ["one begins", "one ends", "two begins", "two ends"]
    );
    assert_eq!(lines.len(), 8);

    let status = pod.status();
    let terminated = |name: &str| terminated(&status, name);
    let inits_done = ["one", "two"].map(|c| time(&terminated(c)["finishedAt"]));
    let apps_began = ["a", "b"].map(|c| time(&terminated(c)["startedAt"]));
    assert!(
        apps_began.iter().min() >= inits_done.iter().max(),
        "{status:#}"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn row_02_inits_run_one_at_a_time_in_their_order() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    // Each would see another that runs at the same time: mkdir is atomic.
    let script = |n: u32| {
        format!(
            "mkdir /shared/busy || exit 9; echo {n} >> /shared/log; sleep 0.1; rmdir /shared/busy"
        )
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "initContainers": [
                shared.container("z", &script(1)),
                shared.container("m", &script(2)),
                shared.container("a", &script(3)),
            ],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run().ok();
    assert_eq!(shared.lines("log"), ["1", "2", "3"]);
    let status = pod.status();
    let terminated = |name: &str| terminated(&status, name);
    for (before, after) in [("z", "m"), ("m", "a")] {
        assert!(
            time(&terminated(before)["finishedAt"]) <= time(&terminated(after)["startedAt"]),
            "{status:#}"
        );
    }
    pod.delete().ok();
}

#[test]
fn row_03_an_init_that_does_not_end_blocks_the_apps() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [sh("forever", "exec sleep 1000")],
            "containers": [shared.container("app", "touch /shared/app-ran")],
        }),
    );
    pod.run_detached();
    pod.until_running("forever");
    assert!(pod.table().contains("Init:0/1"), "{}", pod.table());
    assert!(case.pod(["list"]).ok().stdout.contains("Init:0/1"));
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Pending");
    let app = container_status(&status, "app");
    assert_eq!(app["state"]["waiting"]["reason"], "PodInitializing");
    let list = case.run(["list", "--quiet"]).ok().stdout;
    assert_eq!(
        list.trim(),
        format!("{}.forever", pod.name),
        "the app was never made"
    );
    pod.stop(&["--grace", "0"]).ok();
    assert!(!shared.path.join("app-ran").exists());
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn row_04_apps_are_started_together() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let wait = |mine: &str, other: &str| {
        let script = format!("touch /v/{mine}; until [ -e /v/{other} ]; do sleep 0.01; done");
        json!({"name": mine, "command": ["/bin/sh", "-c", script],
               "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [wait("a", "b"), wait("b", "a")],
        }),
    );
    pod.run().ok();
    assert_eq!(pod.status()["status"]["phase"], "Succeeded");
    pod.delete().ok();
}

#[test]
fn row_09_with_restart_policy_always_an_init_that_succeeded_runs_once() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Always",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", "echo init >> /shared/log")],
            // Ends once, and stays at its second start.
            "containers": [shared.container("app", "[ -e /shared/again ] && exec sleep 1000; touch /shared/again")],
        }),
    );
    pod.run_detached();
    let status = pod.until("the app was restarted", |pod| {
        let app = container_status(pod, "app");
        app["restartCount"] == 1 && !app["state"]["running"].is_null()
    });
    assert_eq!(shared.lines("log"), ["init"]);
    let init = container_status(&status, "init");
    assert_eq!(init["restartCount"], 0);
    assert_eq!(init["state"]["terminated"]["reason"], "Completed");
    pod.delete_force().ok();
}

#[test]
fn row_13_a_pod_is_not_ready_before_its_inits_have_succeeded() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [shared.container("wait", "until [ -e /shared/go ]; do sleep 0.01; done")],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    pod.until_running("wait");
    let before = pod.status();
    for (kind, value) in [
        ("Initialized", "False"),
        ("Ready", "False"),
        ("ContainersReady", "False"),
        ("PodScheduled", "True"),
        ("PodReadyToStartContainers", "True"),
    ] {
        assert_eq!(
            condition(&before, kind)["status"],
            value,
            "{kind} in {before:#}"
        );
    }
    assert_eq!(
        condition(&before, "Initialized")["reason"],
        "ContainersNotInitialized"
    );

    std::fs::write(shared.path.join("go"), "").unwrap();
    let after = pod.until("the pod is ready", |pod| {
        condition(pod, "Ready")["status"] == "True"
    });
    assert_eq!(condition(&after, "Initialized")["status"], "True");
    assert_eq!(after["status"]["phase"], "Running");
    pod.delete_force().ok();
}
