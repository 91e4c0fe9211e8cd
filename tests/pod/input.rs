//! Manifests: what is accepted, what is refused, and how.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Case, Done, Need, Pod, sh};

/// A pod of this spec is refused, by `plan` and by `run`, with all of this in the message; nothing is left of it.
#[track_caller]
fn refused(name: &str, spec: Value, parts: &[&str]) {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(&case, name, spec);
    for done in [pod.plan(), pod.run()] {
        done.code(1).fails_saying(parts);
    }
    case.assert_nothing_left();
}

#[test]
fn row_18_names_are_unique_among_inits_and_apps() {
    refused(
        "p",
        json!({"initContainers": [sh("a", "true")], "containers": [sh("a", "true")]}),
        &[
            "is invalid",
            "spec.initContainers[0].name: Duplicate value: \"a\"",
        ],
    );
    refused(
        "p",
        json!({"containers": [sh("a", "true"), sh("a", "true")]}),
        &["spec.containers[1].name: Duplicate value: \"a\""],
    );
}

#[test]
fn row_19_probes_and_hooks_on_a_plain_init_are_refused() {
    let probe = json!({"exec": {"command": ["true"]}});
    for (field, value) in [
        ("livenessProbe", probe.clone()),
        ("readinessProbe", probe.clone()),
        ("startupProbe", probe.clone()),
        ("lifecycle", json!({"postStart": probe})),
    ] {
        let mut init = sh("init", "true");
        init[field] = value;
        refused(
            "p",
            json!({"initContainers": [init], "containers": [sh("app", "true")]}),
            &[&format!(
                "spec.initContainers[0].{field}: Forbidden: may not be set for init containers without restartPolicy=Always"
            )],
        );
    }
}

#[test]
fn row_40_an_init_without_a_command_runs_what_its_bundle_says() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [{"name": "init"}],
            "containers": [sh("app", "true")],
        }),
    );
    // A folder named like the container, with a config.json in it, is its bundle.
    let bundle = case
        .bundle("b")
        .sh("echo from the bundle; echo one; echo two");
    fs::rename(&bundle.path, pod.dir.join("init")).unwrap();
    pod.run().ok();
    // `;` is a sequence, not an alternative.
    assert_eq!(pod.log("init"), "from the bundle\none\ntwo\n");
    pod.delete().ok();
}

#[test]
fn all_errors_of_a_manifest_are_told_at_once() {
    refused(
        "p",
        json!({
            "volumes": [{"name": "both", "emptyDir": {}, "hostPath": {"path": "/tmp"}}],
            "initContainers": [{"name": "Upper", "command": ["/bin/true"]}],
            "containers": [{"name": "app", "command": ["/bin/true"],
                            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        }),
        &[
            "spec.volumes[0]",
            "may not specify more than 1 volume type",
            "spec.initContainers[0].name: Invalid value: \"Upper\"",
            "spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ],
    );
}

#[test]
fn a_pod_needs_containers() {
    refused(
        "p",
        json!({"containers": []}),
        &["spec.containers: Required value"],
    );
}

#[test]
fn a_field_that_is_not_done_yet_is_named() {
    let mut app = sh("app", "true");
    app["livenessProbe"] = json!({"grpc": {"port": 443, "mode": "TLS"}});
    refused(
        "p",
        json!({"containers": [app]}),
        &["spec.containers[0].livenessProbe.grpc.mode"],
    );
    refused(
        "p",
        json!({"containers": [sh("app", "true")], "volumes": [{"name": "c", "nfs": {"server": "s", "path": "/"}}]}),
        &["spec.volumes[0].nfs"],
    );
}

#[test]
fn an_image_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "true");
    app["image"] = json!("nosuchimage");
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [app]}),
    );
    let message = pod.run().fails();
    for part in ["nosuchimage", "images/nosuchimage", "--rootfs"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    pod.delete_force().ok();
}

#[test]
fn an_image_is_found_by_the_rootfs_option() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "echo found");
    app["image"] = json!("other");
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [app]}),
    );
    let image = format!("other={}", pod.dir.join("images/busybox").display());
    case.pod(["run", "--rootfs", &image, pod.dir.to_str().unwrap()])
        .ok();
    assert_eq!(pod.log("app"), "found\n");
    pod.delete().ok();
}

#[test]
fn a_manifest_comes_from_a_file_a_directory_or_standard_input_as_yaml_or_json() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [sh("app", "true")]}),
    );
    let file = pod.dir.join("pod.yaml");
    let done = |from: &std::path::Path| {
        let done = case.pod(["run", from.to_str().unwrap()]).ok();
        pod.delete().ok();
        done
    };
    done(&file);
    done(&pod.dir);
    let mut command = case.pod_runtime();
    let images = format!("busybox={}", pod.dir.join("images/busybox").display());
    command.args(["run", "--rootfs", &images, "-"]);
    command.stdin(Stdio::from(fs::File::open(&file).unwrap()));
    case.finish(command).ok();
    pod.delete().ok();
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_pod_goes_on() {
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
    let message = pod.run().fails();
    assert!(
        message.contains(&pod.name) && message.contains("delete"),
        "{message}"
    );
    assert_eq!(pod.until_running("app"), pid);
    pod.delete_force().ok();
}

#[test]
fn a_plan_needs_no_privileges_and_makes_nothing() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "initContainers": [sh("init", "true")],
            "containers": [sh("app", "true")],
        }),
    );
    let plan = pod.plan().ok().stdout;
    for part in ["init", "app", "net", "ipc", "uts"] {
        assert!(plan.contains(part), "{part:?} is not in {plan}");
    }
    // As nobody, with a copy of the program and an image that nobody may enter.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(case.dir(), mode).unwrap();
    let copy = std::path::PathBuf::from(format!("/tmp/{}-runp", case.token));
    fs::copy(crate::support::binary(), &copy).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy);
    let image = format!("busybox={}", pod.dir.join("images/busybox").display());
    command.args(["pod", "plan", "--rootfs", &image, "-"]);
    command.stdin(Stdio::from(
        fs::File::open(pod.dir.join("pod.yaml")).unwrap(),
    ));
    let done: Done = case.finish(command);
    fs::remove_file(copy).unwrap();
    done.ok();
    case.assert_nothing_left();
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (i, text) in [
        "",
        "[",
        "kind: Pod",
        "- a\n- b",
        "kind: Service\napiVersion: v1",
        "a: &a [*a, *a]",
        "\u{0}",
    ]
    .into_iter()
    .enumerate()
    {
        let pod = Pod::from_text(&case, &case.id(&format!("p{i}")), text);
        pod.plan().code(1).fails();
        pod.run().code(1).fails();
    }
    case.assert_nothing_left();
}

#[test]
fn a_plain_user_is_told_before_anything_exists() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(&case, "p", json!({"containers": [sh("app", "true")]}));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(case.dir(), open).unwrap();
    let run = |verb: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(crate::support::binary())
            .arg("pod")
            .args(verb)
            .arg(&pod.dir)
            .env("XDG_RUNTIME_DIR", "/nosuch");
        case.finish(command)
    };
    for verb in [&["run"][..], &["create"], &["apply", "-f"]] {
        let error = run(verb).fails();
        assert!(
            error.contains("pods need root") && error.contains("`runp run`"),
            "{error}"
        );
    }
    assert!(run(&["plan"]).ok().stdout.contains("app container app"));
    case.assert_nothing_left();
}

#[test]
fn a_name_may_be_made() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let text = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": format!("{}-", case.token)},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "busybox", "command": ["/bin/true"]}]}});
    let pod = Pod::from_text(&case, "made", &text.to_string());
    let mut names: Vec<String> = (0..2)
        .map(|_| {
            let dir = pod.dir.to_str().unwrap();
            let done = case.pod(["run", "--detach", dir]).ok();
            done.stdout.trim().to_owned()
        })
        .collect();
    assert!(
        names.iter().all(|name| name.len() == case.token.len() + 6),
        "{names:?}"
    );
    names.dedup();
    assert_eq!(names.len(), 2);
    for name in names {
        case.pod(["delete", "--force", &name]).ok();
    }
}
