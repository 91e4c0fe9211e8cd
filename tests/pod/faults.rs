//! Whatever dies, `status` tells the truth afterwards and `delete --force` leaves nothing.

use std::fs;

use serde_json::json;

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{Case, Need, Pod, process, sh};

#[test]
fn a_killed_supervisor() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "initContainers": [sh("init", "true")],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    pod.pause("app");
    process::kill(pod.supervisor());

    // Either the app went with it, or it still runs: the status says which.
    let status = pod.status();
    let says_running = is_running(&status, "app");
    assert_eq!(says_running, process::runs(app), "{status:#}");
    assert_eq!(terminated(&status, "init")["exitCode"], 0);
    assert_eq!(pod.log("init"), "");
    pod.delete_force().ok();
    case.assert_nothing_left();
    pod.run_detached(); // the name is free again
    pod.until_running("app");
    pod.delete_force().ok();
}

#[test]
fn a_supervisor_killed_while_an_init_runs() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "initContainers": [sh("init", "exec sleep 1000")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    let init = pod.until_running("init");
    process::kill(pod.supervisor());
    let status = pod.status();
    let says_running = is_running(&status, "init");
    assert_eq!(says_running, process::runs(init), "{status:#}");
    assert!(!is_running(&status, "app"));
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn killed_pause_supervisor_and_container_at_once() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.run_detached();
    let (pause, app) = (pod.pause("app"), pod.until_running("app"));
    process::kill(pod.supervisor());
    for pid in [app, pause] {
        if process::runs(pid) {
            process::kill(pid);
        }
    }
    pod.until("the truth is told", |pod| !is_running(pod, "app"));
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_killed_container_with_restart_policy_always_comes_back() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.run_detached();
    let pause = pod.pause("app");
    let app = pod.until_running("app");
    process::kill(app);
    let status = pod.until("the app is back", |pod| {
        let app = container_status(pod, "app");
        app["restartCount"] == 1 && !app["state"]["running"].is_null()
    });
    let last = &container_status(&status, "app")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137);
    assert!(process::runs(pause), "the sandbox stays");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_torn_journal() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.run_detached();
    pod.until_running("app");
    process::kill(pod.supervisor());
    // The last line was cut in the middle of its write.
    for entry in fs::read_dir(pod.state_dir()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains("journal") {
            let text = fs::read(entry.path()).unwrap();
            fs::write(entry.path(), &text[..text.len() - 3]).unwrap();
        }
    }
    pod.try_status().ok();
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_full_disk_under_the_pods_state() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [sh("app", "true")]}),
    );
    let script = format!(
        "cd {} && mount -t tmpfs -o size=64k none . && cd $PWD || exit 90
         dd if=/dev/zero of=filler bs=4k 2>/dev/null
         \"$@\" && exit 91
         rm filler; [ -z \"$(find . -name '*{}*')\" ] || exit 92",
        case.state_root().display(),
        case.token
    );
    let mut command = std::process::Command::new("unshare");
    let runtime = case.pod_runtime();
    command
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(runtime.get_program());
    command
        .args(runtime.get_args())
        .args(["run", pod.dir.to_str().unwrap()]);
    let done = case.finish(command).ok();
    assert!(done.stderr.contains("ENOSPC"), "{done:?}");
    case.assert_nothing_left();
}
