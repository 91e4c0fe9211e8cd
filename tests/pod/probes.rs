//! Probes of all four kinds, from inside the pod's own network.

use serde_json::{Value, json};

use crate::support::pod::{condition, container_status};
use crate::support::{Case, Need, Pod, Shared, eventually, sh};

/// A server of one canned answer on a port, again and again.
fn serve(port: u16, answer: &str) -> String {
    // What is closed with something unread in it is reset.
    format!(
        "printf '{answer}' > /answer; while :; do nc -l -p {port} -e sh -c 'cat /answer; sleep 0.3'; done"
    )
}

fn http(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\\r\\n{more}Content-Length: 0\\r\\n\\r\\n")
}

/// HTTP/2 frames: settings; a header; a health message with this status; an end.
fn grpc(status: u8) -> String {
    let frames: [&[u8]; 4] = [
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88],
        &[0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 8, status],
        &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88],
    ];
    frames
        .concat()
        .iter()
        .map(|byte| format!("\\{byte:03o}"))
        .collect()
}

fn with(mut container: Value, kind: &str, mut probe: Value) -> Value {
    probe["periodSeconds"] = json!(1);
    container[kind] = probe;
    container
}

#[test]
fn each_kind_of_probe_tells_the_ready_from_the_others() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let ready =
        |name: &str, script: &str, probe: Value| with(sh(name, script), "readinessProbe", probe);
    let named = |mut container: Value, port: u16| {
        container["ports"] = json!([{"name": "web", "containerPort": port}]);
        container
    };
    let get = |port: Value| json!({"httpGet": {"port": port, "path": "/healthz"}});
    let sleep = "exec sleep 1000";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "containers": [
                ready("exec-yes", sleep, json!({"exec": {"command": ["true"]}})),
                ready("exec-no", sleep, json!({"exec": {"command": ["sh", "-c", "echo out of order; exit 4"]}})),
                ready("exec-slow", sleep, json!({"exec": {"command": ["sleep", "1000"]}})),
                ready("tcp-yes", &serve(81, ""), json!({"tcpSocket": {"port": 81}})),
                ready("tcp-no", sleep, json!({"tcpSocket": {"port": 82}})),
                named(ready("http-yes", &serve(83, &http("204 No", "")), get(json!("web"))), 83),
                ready("http-no", &serve(84, &http("500 No", "")), get(json!(84))),
                ready("http-here", &serve(85, &http("302 No", "Location: http://127.0.0.1:84/\\r\\n")), get(json!(85))),
                ready("http-there", &serve(86, &http("302 No", "Location: http://192.0.2.1/\\r\\n")), get(json!(86))),
                ready("http-mute", "exec nc -ll -p 87 -e sleep 1000", get(json!(87))),
                ready("grpc-yes", &serve(88, &grpc(1)), json!({"grpc": {"port": 88}})),
                ready("grpc-no", &serve(89, &grpc(2)), json!({"grpc": {"port": 89, "service": "x"}})),
            ],
        }),
    );
    pod.run_detached();
    let expected = [
        ("exec-no", "out of order"),
        (
            "exec-slow",
            "command timed out: \\\"sleep 1000\\\" timed out after 1s",
        ),
        (
            "tcp-no",
            "dial tcp 127.0.0.1:82: connect: connection refused",
        ),
        ("http-no", "HTTP probe failed with statuscode: 500"),
        ("http-here", "HTTP probe failed with statuscode: 500"),
        ("http-mute", "context deadline exceeded"),
        (
            "grpc-no",
            "service unhealthy (responded with \\\"NOT_SERVING\\\")",
        ),
    ];
    for (name, message) in expected {
        eventually(&format!("{name}: {message}"), || {
            pod.journal().contains(message).then_some(())
        });
    }
    let status = pod.until("all others are ready", |pod| {
        let all = pod["status"]["containerStatuses"].as_array().unwrap();
        all.iter().filter(|c| c["ready"] == true).count() == 12 - expected.len()
    });
    for (name, _) in expected {
        assert_eq!(container_status(&status, name)["ready"], false, "{name}");
    }
    let condition = condition(&status, "ContainersReady");
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["reason"], "ContainersNotReady");
    pod.stop(&["--grace", "0"]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_container_whose_liveness_probe_fails_is_ended_and_restarted_whatever_its_exit_code() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = "trap 'exit 0' TERM; echo $((1 + $(cat /shared/runs || echo 0))) > /shared/runs; while :; do sleep 0.02; done";
    let app = with(
        shared.container("app", script),
        "livenessProbe",
        json!({"exec": {"command": ["sh", "-c", "[ $(cat /shared/runs) = 2 ]"]}, "failureThreshold": 2, "terminationGracePeriodSeconds": 5}),
    );
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "OnFailure", "volumes": [shared.volume()], "containers": [app]}),
    );
    pod.run_detached();
    let status = pod.until("it runs again", |pod| {
        let app = container_status(pod, "app");
        app["restartCount"] == 1 && app["ready"] == true
    });
    let last = &container_status(&status, "app")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 0, "{status:#}");
    pod.stop(&["--grace", "0"]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_container_that_does_not_start_up_in_time_is_killed() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let app = with(
        sh("app", "exec sleep 1000"),
        "startupProbe",
        json!({"tcpSocket": {"port": 81}, "failureThreshold": 1}),
    );
    let app = with(
        app,
        "livenessProbe",
        json!({"exec": {"command": ["false"]}}),
    );
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [app]}),
    );
    pod.run().code(137);
    let journal = pod.journal();
    assert!(
        journal.contains("\"probe\":\"startup\",\"healthy\":false"),
        "{journal}"
    );
    assert!(
        !journal.contains("\"probe\":\"liveness\""),
        "asked before it had started: {journal}"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}
