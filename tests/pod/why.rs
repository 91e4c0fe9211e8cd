//! `pod why` names the cause: one staged failure each.

use serde_json::{Value, json};

use crate::support::{Case, Need, Pod, eventually, sh};

/// Runs the pod until something is wrong, and wants to be told so, with this word of advice.
fn staged(spec: Value, what: &str, advice: &str) {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(&case, "p", spec);
    pod.run_detached();
    let found = eventually("something is wrong", || {
        let done = case.pod(["why", "-o", "json", &pod.name]);
        let said: Value = serde_json::from_str(&done.stdout).unwrap();
        let finding = said["findings"][0].clone();
        let passing = [
            "everything waits",
            "being ended",
            "is not over",
            "its first probe",
        ];
        let found = finding["what"].as_str();
        let found = found.is_some_and(|what| !passing.iter().any(|word| what.contains(word)));
        found.then_some(finding)
    });
    assert!(found["what"].as_str().unwrap().contains(what), "{found:#}");
    let advised = found["advice"].as_str().unwrap_or_default();
    assert!(advised.contains(advice), "{found:#}");
    let text = case.pod(["why", &pod.name]).stdout;
    assert!(text.starts_with(&pod.name), "{text}");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

/// A pod of this container, which is tried again.
fn app(container: Value) -> Value {
    json!({"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0, "containers": [container]})
}

/// A pod whose container runs, and has this field.
fn with(field: &str, value: Value) -> Value {
    let mut container = sh("app", "exec sleep 1000");
    container[field] = value;
    app(container)
}

fn probe(mut probe: Value) -> Value {
    probe["periodSeconds"] = json!(1);
    probe["failureThreshold"] = json!(1);
    probe
}

#[test]
fn too_little_memory() {
    let mut eater = sh("app", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done");
    eater["resources"] = json!({"limits": {"memory": "16Mi"}});
    staged(app(eater), "killed for want of memory", "memory");
}

#[test]
fn a_program_that_is_not_there() {
    let missing = json!({"name": "app", "command": ["/no/such/program"]});
    staged(app(missing), "cannot be executed", "image");
}

#[test]
fn a_volume_that_is_not_there() {
    let spec = json!({
        "volumes": [{"name": "v", "hostPath": {"path": "/no/such/directory", "type": "Directory"}}],
        "containers": [sh("app", "true")],
    });
    staged(spec, "volumes cannot be made", "path");
}

#[test]
fn a_full_disk() {
    let spec = json!({
        "restartPolicy": "OnFailure",
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}],
        "containers": [{"name": "app", "command": ["sh", "-c", "cat /dev/zero > /v/x"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    });
    staged(spec, "exited with 1", "free some space");
}

#[test]
fn an_exit_code() {
    staged(
        app(sh("app", "echo it is broken; exit 3")),
        "exited with 3",
        "",
    );
}

#[test]
fn a_command_that_is_not_found() {
    staged(app(sh("app", "nosuchcommand")), "exited with 127", "PATH");
}

#[test]
fn a_port_that_is_taken() {
    let script = "nc -l -p 80 & sleep 0.1; exec nc -l -p 80";
    staged(app(sh("app", script)), "exited with 1", "port");
}

#[test]
fn something_that_is_not_permitted() {
    staged(
        app(sh("app", "echo x > /proc/sysrq-trigger")),
        "exited with",
        "",
    );
}

#[test]
fn a_crash() {
    // The first process of a pid namespace does not get signals that it does not expect.
    let mut crash = app(sh("app", "kill -SEGV $$$$"));
    crash["shareProcessNamespace"] = json!(true);
    staged(crash, "SIGSEGV", "bug");
}

#[test]
fn a_liveness_probe() {
    let spec = with(
        "livenessProbe",
        probe(json!({"exec": {"command": ["false"]}})),
    );
    staged(spec, "because a probe failed", "probe");
}

#[test]
fn a_readiness_probe() {
    let spec = with("readinessProbe", probe(json!({"tcpSocket": {"port": 81}})));
    staged(spec, "readiness probe does not succeed", "nothing listens");
}

#[test]
fn a_hook() {
    let hook = json!({"postStart": {"exec": {"command": ["false"]}}});
    staged(with("lifecycle", hook), "postStart hook failed", "");
}

#[test]
fn a_deadline() {
    let mut late = app(sh("app", "exec sleep 1000"));
    late["activeDeadlineSeconds"] = json!(1);
    staged(late, "DeadlineExceeded", "activeDeadlineSeconds");
}

#[test]
fn an_init_container_that_takes_too_long() {
    let name = "app";
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"initContainers": [sh("slow", "exec sleep 1000")], "containers": [sh(name, "true")]}),
    );
    let file = pod.dir.join("pod.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["metadata"]["annotations"] =
        json!({"runp.org/init-timeout": "0.2", "runp.org/max-restarts": "0"});
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(0);
    std::fs::write(&file, manifest.to_string()).unwrap();
    pod.run();
    let said = case.pod(["why", &pod.name]).stdout;
    assert!(
        said.contains("took longer than it may") && said.contains("init-timeout"),
        "{said}"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}
