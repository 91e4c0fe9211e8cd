//! What is told of a pod: status, logs, exec, lists.

use std::fs;

use serde_json::json;

use crate::support::pod::{container_status, time};
use crate::support::{Case, Need, Pod, Shared, eventually, sh};

#[test]
fn row_12_the_restart_policy_is_always_unless_given() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.create().ok();
    assert_eq!(pod.status()["spec"]["restartPolicy"], "Always");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn row_15_both_status_arrays_are_in_the_order_of_the_spec() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("z", "true"), sh("a", "true")],
            "containers": [sh("y", "true"), sh("b", "exit 0")],
        }),
    );
    pod.run().ok();
    let status = pod.status();
    assert_eq!(
        (&status["apiVersion"], &status["kind"]),
        (&json!("v1"), &json!("Pod"))
    );
    for (list, names) in [
        ("initContainerStatuses", ["z", "a"]),
        ("containerStatuses", ["y", "b"]),
    ] {
        let list = status["status"][list].as_array().unwrap();
        let seen: Vec<_> = list.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(seen, names);
        for container in list {
            let terminated = &container["state"]["terminated"];
            assert!(time(&terminated["startedAt"]) <= time(&terminated["finishedAt"]));
            assert_eq!(terminated["exitCode"], 0);
            assert_eq!(container["restartCount"], 0);
            assert_eq!(container["image"], "busybox");
            assert!(!terminated["containerID"].as_str().unwrap().is_empty());
        }
    }
    let yaml = case.pod(["status", &pod.name, "-o", "yaml"]).ok().stdout;
    assert!(
        yaml.contains("kind: Pod") && yaml.contains("phase: Succeeded"),
        "{yaml}"
    );
    pod.delete().ok();
}

#[test]
fn row_38_logs_of_inits_stay_and_exec_picks_a_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [sh("init", "echo from init; echo oops >&2")],
            "containers": [
                shared.container("app", "[ -e /shared/again ] && { echo second; exec sleep 1000; }; echo first; touch /shared/again"),
                sh("other", "exec sleep 1000"),
            ],
        }),
    );
    pod.run_detached();
    pod.until("the app was restarted", |pod| {
        let app = container_status(pod, "app");
        app["restartCount"] == 1 && !app["state"]["running"].is_null()
    });
    assert_eq!(pod.log("init"), "from init\noops\n");
    eventually("the second start has spoken", || {
        (pod.log("app") == "second\n").then_some(())
    });
    assert_eq!(pod.logs("app", &["-p"]).ok().stdout, "first\n");
    assert_eq!(pod.exec("other", &["/bin/echo", "hi"]).ok().stdout, "hi\n");
    pod.exec("other", &["/bin/sh", "-c", "exit 5"]).code(5);
    let message = pod.exec("init", &["/bin/true"]).fails();
    assert!(message.contains("init"), "{message}");
    let message = pod.logs("nobody", &[]).fails();
    assert!(
        message.contains("nobody") && message.contains("app"),
        "{message}"
    );

    // On disk in the CRI format: time, stream, F or P, text.
    let mut files = Vec::new();
    files_below(&case.dir().join("state"), &mut files);
    files_below(&case.dir().join("data"), &mut files);
    let lines: Vec<String> = files
        .iter()
        .filter_map(|f| fs::read_to_string(f).ok())
        .collect();
    let line = lines
        .iter()
        .flat_map(|f| f.lines())
        .find(|l| l.ends_with(" stderr F oops"));
    let line = line.expect("a log line in the CRI format");
    time(&json!(line.split(' ').next().unwrap()));
    pod.delete_force().ok();
    case.assert_nothing_left();
}

fn files_below(dir: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn logs_of_a_container_that_waits_say_so() {
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
    pod.until_running("init");
    let message = pod.logs("app", &[]).fails();
    let expected = format!(
        "container \"app\" in pod \"{}\" is waiting to start: PodInitializing",
        pod.name
    );
    assert!(message.contains(&expected), "{message}");
    pod.delete_force().ok();
}

#[test]
fn logs_follow_until_the_container_has_ended() {
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
            "containers": [shared.container("app", "echo one; until [ -e /shared/go ]; do sleep 0.01; done; echo two; printf partial")],
        }),
    );
    pod.run_detached();
    pod.until_running("app");
    let mut follow = case.pod_runtime();
    follow.args(["logs", &pod.name, "-c", "app", "-f"]);
    let done = std::thread::scope(|scope| {
        let follow = scope.spawn(|| case.finish(follow));
        fs::write(shared.path.join("go"), "").unwrap();
        follow.join().unwrap()
    });
    assert_eq!(done.ok().stdout, "one\ntwo\npartial");
    pod.until_phase("Succeeded");
    pod.delete().ok();
}

#[test]
fn containers_of_a_pod_are_ordinary_containers() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.run_detached();
    let pid = pod.until_running("app");
    let id = format!("{}.app", pod.name);
    assert!(
        case.run(["list", "--quiet"])
            .ok()
            .stdout
            .lines()
            .any(|l| l == id)
    );
    assert_eq!(
        case.run(["exec", &id, "/bin/echo", "hi"]).ok().stdout,
        "hi\n"
    );
    let ps = case.run(["ps", "--format", "json", &id]).ok().stdout;
    assert_eq!(serde_json::from_str::<Vec<i32>>(&ps).unwrap(), [pid]);
    pod.delete_force().ok();
}

#[test]
fn limits_are_in_the_cgroups_below_the_pods() {
    let Some(case) = Case::new(&[
        Need::Runp,
        Need::Controller("memory"),
        Need::Controller("pids"),
    ]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "containers": [{"name": "app", "command": ["/bin/sleep", "1000"],
                            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}],
        }),
    );
    pod.run_detached();
    let pid = pod.until_running("app");
    let dir = crate::support::process::cgroup(pid, "memory");
    assert!(
        dir.parent()
            .unwrap()
            .ends_with(format!("runp/pod@{}", pod.name)),
        "{}",
        dir.display()
    );
    for dir in [&*dir, dir.parent().unwrap()] {
        let limit = ["memory.limit_in_bytes", "memory.max"]
            .into_iter()
            .find_map(|file| fs::read_to_string(dir.join(file)).ok());
        assert_eq!(limit.unwrap().trim(), "67108864", "{}", dir.display());
    }
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn the_timeline_shows_every_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("first", "true")],
            "containers": [sh("second", "true")],
        }),
    );
    pod.run().ok();
    let text = case.pod(["timeline", &pod.name]).ok().stdout;
    assert!(text.contains("first") && text.contains("second"), "{text}");
    let svg = case.dir().join("timeline.svg");
    case.pod(["timeline", &pod.name, "--svg", svg.to_str().unwrap()])
        .ok();
    let svg = fs::read_to_string(svg).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("first") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    pod.delete().ok();
}
