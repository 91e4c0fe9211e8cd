//! What goes beyond Kubernetes, by annotation or flag.

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated, time};
use crate::support::{Case, Need, Pod, Shared, eventually, sh};

/// A pod with these annotations.
fn annotated<'a>(case: &'a Case, annotations: Value, spec: Value) -> Pod<'a> {
    let pod = Pod::new(case, "p", spec);
    let file = pod.dir.join("pod.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["metadata"]["annotations"] = annotations;
    std::fs::write(&file, manifest.to_string()).unwrap();
    pod
}

#[test]
fn an_app_can_wait_for_others_to_start() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let mut db = shared.container("db", "exec sleep 1000");
    db["startupProbe"] = json!({"exec": {"command": ["ls", "/shared/go"]}, "periodSeconds": 1, "failureThreshold": 100});
    let pod = annotated(
        &case,
        json!({"runp.org/start-after": "web: db"}),
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": [shared.volume()],
            "containers": [shared.container("web", "exec sleep 1000"), db],
        }),
    );
    pod.run_detached();
    pod.until_running("db");
    let plan = pod.plan().ok().stdout;
    assert!(plan.contains("app web, once started: db"), "{plan}");
    assert_eq!(pod.try_pid("web"), None);
    std::fs::write(shared.path.join("go"), "").unwrap();
    let status = pod.until("the other runs", |pod| is_running(pod, "web"));
    let began =
        |name: &str| time(&container_status(&status, name)["state"]["running"]["startedAt"]);
    assert!(began("db") < began("web"));
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn row_04_in_the_kubelets_order_a_hook_holds_the_next_app_up_and_otherwise_not() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let mut first = shared.container("first", "exec sleep 1000");
    let hook = "until [ -e /shared/second ] || [ -e /shared/go ]; do sleep 0.01; done";
    first["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", hook]}}});
    let second = shared.container("second", "touch /shared/second; exec sleep 1000");
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "volumes": [shared.volume()],
        "containers": [first, second],
    });
    let pod = Pod::new(&case, "p", spec);
    let run = |options: &[&str]| {
        let dir = pod.dir.to_str().unwrap();
        case.pod([&["run", "--detach"], options, &[dir]].concat())
            .ok();
    };
    run(&["--kubelet-order"]);
    eventually("the hook runs", || pod.try_pid("first"));
    let status = pod.status();
    assert_eq!(
        container_status(&status, "second")["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    // It would stay so for ever.
    std::fs::write(shared.path.join("go"), "").unwrap();
    pod.until("both run", |pod| {
        is_running(pod, "first") && is_running(pod, "second")
    });
    pod.delete_force().ok();
    for file in ["go", "second"] {
        std::fs::remove_file(shared.path.join(file)).unwrap();
    }
    run(&[]);
    pod.until("each helps the other", |pod| {
        is_running(pod, "first") && is_running(pod, "second")
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn restarts_can_be_capped_and_init_containers_given_a_time() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    // The second time it is quick.
    let slow = "mkdir /shared/first || exit 0; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let pod = annotated(
        &case,
        json!({
            "runp.org/max-restarts": "app: 1",
            "runp.org/init-timeout": "slow: 0.3",
            "runp.org/max-container-restart-period": "1",
        }),
        json!({
            "restartPolicy": "Always",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("slow", slow)],
            "containers": [shared.container("app", "echo again >> /shared/log; exit 3")],
        }),
    );
    pod.run().code(3);
    assert_eq!(shared.lines("log"), ["again", "again"]);
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Failed");
    assert_eq!(container_status(&status, "app")["restartCount"], 1);
    let slow = container_status(&status, "slow");
    assert_eq!(slow["restartCount"], 1);
    assert_eq!(
        slow["lastState"]["terminated"]["reason"],
        "DeadlineExceeded"
    );
    assert_eq!(terminated(&status, "slow")["exitCode"], 0);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn what_an_annotation_cannot_mean_is_refused_before_anything_exists() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let wrong = json!({"runp.org/start-after": "app: nobody", "runp.org/max-restart": "3"});
    let pod = annotated(&case, wrong, json!({"containers": [sh("app", "true")]}));
    let error = pod.run().fails();
    for why in ["no container \"nobody\"", "no such annotation"] {
        assert!(error.contains(why), "{error}");
    }
    case.assert_nothing_left();
}
