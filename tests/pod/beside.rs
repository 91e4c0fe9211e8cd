//! What is done to a pod from outside while it runs: ephemeral containers, other limits.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::{condition, container_status};
use crate::support::{Case, Need, Pod, eventually, process, sh};

fn ephemeral(pod: &Value, number: usize) -> &Value {
    &pod["status"]["ephemeralContainerStatuses"][number]
}

#[test]
fn an_ephemeral_container_sees_its_target_and_is_shown_in_the_status() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"terminationGracePeriodSeconds": 0, "containers": [sh("app", "exec sleep 1234"), sh("other", "exec sleep 4321")]}),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    pod.until_running("other");
    let debug = |options: &[&str], script: &str| {
        let begin = ["debug", &pod.name, "--image", "busybox"];
        case.pod([&begin, options, &["--", "sh", "-c", script]].concat())
    };
    let seen = debug(
        &["--target", "app"],
        "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/bin/sh; readlink /proc/self/ns/net; echo x > /new",
    )
    .ok()
    .stdout;
    let net = process::namespace(app, "net").unwrap();
    assert_eq!(seen, format!("sleep 1234 /proc/1/root/bin/sh\n{net}\n"));
    let alone = debug(
        &["-c", "looker"],
        "tr '\\0' ' ' < /proc/1/cmdline; ls /new; exit 7",
    );
    let alone = alone.code(7);
    assert!(
        alone.stdout.starts_with("sh -c"),
        "its own processes: {alone:#?}"
    );
    assert!(alone.stderr.contains("/new"), "its own files: {alone:#?}");
    let status = pod.status();
    let first = ephemeral(&status, 0);
    assert_eq!(
        (&first["name"], &first["image"]),
        (&json!("debugger-1"), &json!("busybox"))
    );
    assert_eq!(first["state"]["terminated"]["reason"], "Completed");
    assert_eq!(ephemeral(&status, 1)["state"]["terminated"]["exitCode"], 7);
    assert_eq!(status["status"]["phase"], "Running");
    for taken in ["app", "looker"] {
        let error = debug(&["-c", taken], "true").fails();
        assert!(error.contains("has a container"), "{error}");
    }
    let error = debug(&["-c", "No_Name"], "true").fails();
    assert!(error.contains("No_Name"), "{error}");
    let events = case.pod(["events", &pod.name]).ok().stdout;
    assert!(events.contains("ephemeral container looker"), "{events}");
    case.pod(["prove", &pod.name]).ok();
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn an_ephemeral_container_ends_with_its_pod_and_leaves_nothing_if_its_caller_is_killed() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::sleeping(&case);
    let mut commands = Vec::new();
    for name in ["one", "two"] {
        let mut command = case.pod_runtime();
        command.args([
            "debug", &pod.name, "--image", "busybox", "-c", name, "--", "sleep", "1000",
        ]);
        commands.push(case.begin(command));
        pod.until("it runs", |pod| {
            let all = pod["status"]["ephemeralContainerStatuses"].as_array();
            let mut all = all.into_iter().flatten();
            all.any(|e| e["name"] == name && !e["state"]["running"].is_null())
        });
    }
    let pid = eventually("the second runs", || pod.try_pid("two"));
    let second = commands.pop().unwrap();
    process::kill(second.pid());
    assert!(process::runs(pid), "it does not end with its caller");
    pod.stop(&[]).ok();
    assert!(!process::runs(pid));
    commands.pop().unwrap().end().code(137);
    let status = pod.status();
    let unknown = &ephemeral(&status, 1)["state"]["terminated"];
    assert_eq!(unknown["reason"], "ContainerStatusUnknown", "{status:#}");
    drop(second);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn an_ephemeral_container_has_logs_and_can_be_entered_also_when_its_caller_is_killed() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::sleeping(&case);
    let script = "cat; echo one; echo why >&2; until [ -e /go ]; do sleep 0.02; done; echo two; until [ -e /end ]; do sleep 0.02; done; printf end; exit 3";
    let begin = |name: &str| {
        let mut command = case.pod_runtime();
        command.args(["debug", &pod.name, "--image", "busybox", "-c", name, "--"]);
        command.args(["sh", "-c", script]);
        case.begin(command)
    };
    let written = |name: &str, what: &str| {
        let log = || pod.logs(name, &[]).ok().stdout;
        eventually(what, || log().contains(what).then_some(()))
    };
    let until_up = |name: &str| {
        pod.until("it runs", |pod| {
            let all = pod["status"]["ephemeralContainerStatuses"].as_array();
            let mut all = all.into_iter().flatten();
            all.any(|e| e["name"] == name && !e["state"]["running"].is_null())
        });
        written(name, "why");
    };
    let first = begin("one");
    until_up("one");
    pod.exec("one", &["touch", "/go", "/end"]).ok();
    let first = first.end().code(3);
    assert_eq!((&*first.stdout, &*first.stderr), ("one\ntwo\nend", "why\n"));
    assert_eq!(pod.logs("one", &["-f", "--tail", "1"]).ok().stdout, "end");
    assert!(pod.logs("one", &["-p"]).fails().contains("only once"));
    let error = pod.exec("one", &["true"]).fails();
    assert!(error.contains("does not run: Error"), "{error}");

    let second = begin("two");
    until_up("two");
    process::kill(second.pid());
    pod.exec("two", &["touch", "/go"]).ok();
    written("two", "two");
    let all = case
        .pod(["logs", "--all-containers", &pod.name])
        .ok()
        .stdout;
    for line in ["/one] one", "/one] two", "/two] one"] {
        assert!(all.contains(line), "{line}: {all}");
    }
    pod.delete_force().ok();
    drop(second);
    case.assert_nothing_left();
}

#[test]
fn an_ephemeral_container_with_a_terminal_has_logs() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::sleeping(&case);
    let runtime = case.pod_runtime();
    let arguments = ["debug", &pod.name, "--image", "busybox", "-c", "look", "--"];
    let words = std::iter::once(runtime.get_program()).chain(runtime.get_args());
    let words = words.map(|word| word.to_str().unwrap()).chain(arguments);
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let mut command = Command::new("script");
    let seen = format!(
        "{} sh -c 'test -t 0 && test -t 2 && printf seen'",
        words.join(" ")
    );
    command.args(["--quiet", "--return", "--command", &seen, "/dev/null"]);
    let (stdin, _open) = std::io::pipe().unwrap();
    command.stdin(stdin);
    let done = case.finish(command).ok();
    assert!(done.stdout.contains("seen"), "{done:?}");
    assert_eq!(pod.logs("look", &[]).ok().stdout, "seen");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

fn limited(name: &str, memory: &str) -> Value {
    let mut container = sh(name, "trap 'exit 0' TERM; while :; do sleep 0.02; done");
    container["resources"] = json!({"limits": {"memory": memory, "cpu": "500m"}, "requests": {"memory": "8Mi", "cpu": "100m"}});
    container
}

/// What a cgroup is held to: memory in bytes.
fn memory_limit(pid: i32) -> (String, String) {
    let cgroup = process::cgroup(pid, "memory");
    let file = ["memory.max", "memory.limit_in_bytes"];
    let file = file
        .into_iter()
        .find(|file| cgroup.join(file).exists())
        .unwrap();
    let read = |dir: &std::path::Path| {
        fs::read_to_string(dir.join(file))
            .unwrap()
            .trim()
            .to_owned()
    };
    (read(&cgroup), read(cgroup.parent().unwrap()))
}

#[test]
fn a_live_pod_is_resized_without_a_restart_unless_the_policy_wants_one() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let mut restarted = limited("restarted", "32Mi");
    restarted["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1, "containers": [limited("kept", "32Mi"), restarted]}),
    );
    pod.run_detached();
    let (kept, restarted) = (pod.until_running("kept"), pod.until_running("restarted"));
    let mib = |n: u64| (n << 20).to_string();
    assert_eq!(memory_limit(kept), (mib(32), mib(64)));
    let resize = |container: &str, limits: &str| {
        case.pod(["resize", &pod.name, "-c", container, "--limits", limits])
    };
    resize("kept", "memory=48Mi,cpu=250m").ok();
    assert_eq!(memory_limit(kept), (mib(48), mib(80)), "and the pod's");
    assert_eq!(pod.until_running("kept"), kept, "the same process");
    resize("restarted", "cpu=200m").ok();
    assert_eq!(
        pod.try_pid("restarted"),
        Some(restarted),
        "only memory wants a restart"
    );
    resize("restarted", "memory=16Mi").ok();
    let status = pod.until("it runs again", |pod| {
        container_status(pod, "restarted")["restartCount"] == 1
            && !container_status(pod, "restarted")["state"]["running"].is_null()
    });
    let again = pod.until_running("restarted");
    assert_eq!(memory_limit(again), (mib(16), mib(64)));
    let kept_status = container_status(&status, "kept");
    assert_eq!(kept_status["resources"]["limits"]["memory"], "48Mi");
    assert_eq!(kept_status["allocatedResources"]["memory"], "8Mi");
    assert_eq!(kept_status["restartCount"], 0);

    for (limits, why) in [
        ("memory=x", "quantities must match"),
        ("memory=1Mi", "must be less than or equal to memory limit"),
        ("hugepages-2Mi=2Mi", "only cpu and memory"),
    ] {
        let error = resize("kept", limits).fails();
        assert!(error.contains(why), "{limits}: {error}");
    }
    // A supervisor that takes over knows of it.
    process::kill(pod.supervisor());
    resize("kept", "memory=40Mi").ok();
    assert_eq!(memory_limit(kept), (mib(40), mib(56)));
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_and_told() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let mut app = limited("app", "64Mi");
    app["command"] = json!([
        "sh",
        "-c",
        "head -c 20000000 /dev/zero > /m/x; : > /m/done; exec sleep 1000"
    ]);
    app["volumeMounts"] = json!([{"name": "m", "mountPath": "/m"}]);
    let volumes = json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]);
    let pod = Pod::new(&case, "p", json!({"volumes": volumes, "containers": [app]}));
    pod.run_detached();
    let pid = pod.until_running("app");
    eventually("it has its memory", || {
        pod.exec("app", &["ls", "/m/done"])
            .status
            .success()
            .then_some(())
    });
    let error = case
        .pod(["resize", &pod.name, "--limits", "memory=10Mi"])
        .fails();
    assert!(error.contains("memory"), "{error}");
    assert!(process::runs(pid), "it was not killed");
    let status = pod.status();
    let resizing = condition(&status, "PodResizeInProgress");
    assert_eq!(
        (&resizing["status"], &resizing["reason"]),
        (&json!("True"), &json!("Error"))
    );
    case.pod(["resize", &pod.name, "--limits", "memory=48Mi"])
        .ok();
    assert!(condition(&pod.status(), "PodResizeInProgress").is_null());
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_manifest_with_other_resources_resizes_and_with_anything_else_is_refused() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let pod = Pod::new(&case, "p", json!({"containers": [limited("app", "32Mi")]}));
    pod.run_detached();
    let pid = pod.until_running("app");
    let text = fs::read_to_string(pod.dir.join("pod.yaml")).unwrap();
    let other = case.dir().join("other.yaml");
    let resize = |from: &str, to: &str| {
        fs::write(&other, text.replace(from, to)).unwrap();
        case.pod(["resize", &pod.name, "-f", other.to_str().unwrap()])
    };
    resize("32Mi", "24Mi").ok();
    assert_eq!(memory_limit(pid).0, (24u64 << 20).to_string());
    for (from, to, why) in [
        ("busybox", "other", "only cpu and memory"),
        (
            "\"memory\": \"8Mi\"",
            "\"memory\": \"32Mi\", \"x\": \"1\"",
            "",
        ),
    ] {
        let error = resize(from, to).fails();
        assert!(error.contains(why), "{error}");
    }
    pod.delete_force().ok();
    case.assert_nothing_left();
}
