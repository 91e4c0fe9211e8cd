//! A supervisor that is killed, and another one that goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{Case, Need, Pod, Shared, eventually, process, sh};

/// So many moments of a pod's life. All of them together are the first 400 ms.
const MOMENTS: u64 = 60;

fn attach(case: &Case, pod: &Pod<'_>) -> crate::support::Done {
    case.pod(["attach", "--supervise", "--quiet", &pod.name])
}

#[test]
fn a_supervisor_may_be_killed_at_any_moment_and_no_init_runs_twice_after_its_success() {
    // Older kernels forget how a process ended that nobody waited for.
    let Some(case) = Case::new(&[Need::Runp, Need::Kernel(6, 15)]) else {
        return;
    };
    let init = |name: &str| json!({"name": name, "command": ["/bin/sh", "-c", format!("echo {name} >> /log/log; echo {name} speaks")]});
    let mut side = sh(
        "side",
        "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done",
    );
    side["restartPolicy"] = json!("Always");
    for moment in 0..MOMENTS {
        let shared = Shared::new(&case);
        let log = shared.path.join("log");
        let _ = std::fs::remove_file(&log);
        let mut spec = json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "log", "hostPath": {"path": shared.path}}],
            "initContainers": [init("one"), init("two"), side, init("three")],
            "containers": [init("a"), init("b")],
        });
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().unwrap() {
                container["volumeMounts"] = json!([{"name": "log", "mountPath": "/log"}]);
            }
        }
        let pod = Pod::new(&case, &format!("p{moment}"), spec);
        let mut command = case.pod_runtime();
        command.args(["run", "--quiet", pod.dir.to_str().unwrap()]);
        let mut supervisor = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(moment * 400_000 / MOMENTS));
        process::kill(supervisor.id() as i32);
        supervisor.wait().unwrap();
        // Before that nobody knows that it was to be started.
        let was_begun = pod.journal().contains("startRequested");
        if was_begun && pod.status()["status"]["phase"] != "Succeeded" {
            let done = attach(&case, &pod);
            assert!(
                done.status.success(),
                "after {moment}: {done:#?}\n{}",
                pod.journal()
            );
        }
        if was_begun {
            let status = pod.status();
            assert_eq!(
                status["status"]["phase"], "Succeeded",
                "{moment}: {status:#}"
            );
            let lines = shared.lines("log");
            assert_eq!(
                lines[..3],
                ["one", "two", "three"],
                "{moment}\n{}",
                pod.journal()
            );
            assert_eq!(lines.len(), 5, "{moment}: {lines:?}\n{}", pod.journal());
            assert_eq!(
                pod.log("three"),
                "three speaks\n",
                "{moment}\n{}",
                pod.journal()
            );
        }
        pod.delete_force().ok();
        case.assert_nothing_left();
    }
}

#[test]
fn what_happens_while_nobody_supervises_is_not_lost() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait = |then: &str| {
        format!("echo before; until [ -e /shared/go ]; do sleep 0.01; done; echo after; {then}")
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [
                shared.container("code", &wait("exit 7")),
                shared.container("signal", &wait("kill -9 $$$$")),
                shared.container("stays", "trap 'exit 0' TERM; while :; do sleep 0.02; done"),
            ],
        }),
    );
    pod.run_detached();
    let ended = ["code", "signal"].map(|name| pod.until_running(name));
    pod.until_running("stays");
    process::kill(pod.supervisor());
    let lost = pod.until("nobody supervises", |pod| {
        pod["status"]["reason"] == "SupervisorLost"
    });
    assert!(is_running(&lost, "stays"));
    std::fs::write(shared.path.join("go"), "").unwrap();
    for pid in ended {
        eventually("it has ended", || (!process::runs(pid)).then_some(()));
    }
    // Any command that needs a supervisor makes one.
    pod.stop(&[]).ok();
    let status = pod.status();
    if crate::support::kernel_at_least(6, 15) {
        assert_eq!(terminated(&status, "code")["exitCode"], 7, "{status:#}");
        assert_eq!(terminated(&status, "code")["reason"], "Error");
        assert_eq!(pod.log("code"), "before\nafter\n");
        assert_eq!(terminated(&status, "stays")["exitCode"], 0);
    }
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn where_nothing_is_left_to_ask_it_is_said_that_nobody_knows() {
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
            "containers": [shared.container("app", "until [ -e /shared/go ]; do sleep 0.01; done")],
        }),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    let pause = pod.pause("app");
    process::kill(pod.supervisor());
    process::kill(pause);
    std::fs::write(shared.path.join("go"), "").unwrap();
    eventually("it has ended", || (!process::runs(app)).then_some(()));
    attach(&case, &pod).code(137);
    let status = pod.status();
    let app: &Value = container_status(&status, "app");
    assert_eq!(
        app["state"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}
