//! `seLinuxOptions`, with Debian's policy: `scripts/vm --selinux`.

use std::fs;

use serde_json::json;

use crate::support::pod::{container_status, terminated};
use crate::support::{Case, Need, Pod, sh};

/// Contexts that Debian's policy has for containers, with categories that nothing else has.
const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

fn of_process(pid: i32) -> String {
    let context = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    context.trim_end_matches(['\0', '\n']).to_owned()
}

/// As the process sees it.
fn of_file(pid: i32, path: &str) -> String {
    let mut value = [0; 256];
    let path = format!("/proc/{pid}/root{path}");
    let length = rustix::fs::lgetxattr(&path, "security.selinux", &mut value)
        .unwrap_or_else(|e| panic!("{path}: {e}"));
    let context = String::from_utf8_lossy(&value[..length]);
    context.trim_end_matches('\0').to_owned()
}

#[test]
fn processes_and_files_have_the_contexts_that_selinux_options_say() {
    let Some(case) = Case::new(&[Need::Runp, Need::SeLinux]) else {
        return;
    };
    let mounts = json!([
        {"name": "disk", "mountPath": "/disk"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "told", "mountPath": "/told"},
    ]);
    let with = |name: &str, script: &str, context: serde_json::Value| {
        let mut container = sh(name, script);
        container["volumeMounts"] = mounts.clone();
        container["securityContext"] = context;
        container
    };
    let app = "cat /disk/by-init; : > /disk/by-app; exec sleep 1000";
    let other = json!({"user": "unconfined_u", "role": "unconfined_r", "type": "unconfined_t", "level": "s0:c3,c4"});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"seLinuxOptions": {"level": "s0:c1,c2"}},
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "told", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
        "initContainers": [with("init", "echo seen > /disk/by-init", json!({}))],
        "containers": [
            with("app", app, json!({})),
            with("other", "exec sleep 1000", json!({"seLinuxOptions": other})),
            with("privileged", "exec sleep 1000", json!({"privileged": true})),
        ],
    });
    let pod = Pod::new(&case, "p", spec);
    pod.run_detached();
    let [app, other, privileged] =
        ["app", "other", "privileged"].map(|name| pod.until_running(name));
    assert_eq!(of_process(app), PROCESS);
    assert_eq!(
        of_process(other),
        "unconfined_u:unconfined_r:unconfined_t:s0:c3,c4"
    );
    // The control: with no context asked for it has that of whoever made it.
    assert_eq!(of_process(privileged), of_process(pod.supervisor()));
    let current = ["cat", "/proc/self/attr/current"];
    let exec = case.pod(
        ["exec", &pod.name, "-c", "app", "--"]
            .into_iter()
            .chain(current),
    );
    assert_eq!(exec.ok().stdout.trim_end_matches(['\0', '\n']), PROCESS);

    for path in [
        "/bin/busybox",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/dev",
        "/dev/shm",
        "/dev/termination-log",
        "/disk",
        "/disk/by-init",
        "/memory",
        "/told",
        "/told/..data",
        "/told/name",
    ] {
        let level = |context: String| context.rsplit_once(":s0").unwrap().0.to_owned();
        match path {
            // What a process makes has its own low level, and the type of the directory.
            "/disk/by-init" => assert_eq!(
                level(of_file(app, path)),
                "system_u:object_r:container_file_t",
                "{path}"
            ),
            _ => assert_eq!(of_file(app, path), FILES, "{path}"),
        }
    }
    let files = "unconfined_u:object_r:container_file_t:s0:c3,c4";
    for path in ["/bin/busybox", "/dev", "/dev/termination-log"] {
        assert_eq!(of_file(other, path), files, "{path}");
    }
    // Volumes are all containers'.
    assert_eq!(of_file(other, "/disk"), FILES);
    let status = pod.status();
    assert_eq!(terminated(&status, "init")["exitCode"], 0);
    assert_eq!(pod.log("app"), "seen\n");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_pod_has_selinux_categories_of_its_own_and_a_wrong_level_is_told() {
    let Some(case) = Case::new(&[Need::Runp, Need::SeLinux]) else {
        return;
    };
    let spec = |level: Option<&str>| {
        let mut options = json!({"type": "container_t"});
        if let Some(level) = level {
            options["level"] = json!(level);
        }
        json!({
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"seLinuxOptions": options},
            "containers": [sh("one", "exec sleep 1000"), sh("two", "exec sleep 1000")],
        })
    };
    let categories = ["a", "b"].map(|name| {
        let pod = Pod::new(&case, name, spec(None));
        pod.run_detached();
        let contexts = ["one", "two"].map(|name| of_process(pod.until_running(name)));
        assert_eq!(contexts[0], contexts[1]);
        pod.delete_force().ok();
        let (base, categories) = contexts[0].split_once(":s0:").unwrap();
        assert_eq!(base, "system_u:system_r:container_t");
        categories.to_owned()
    });
    assert_ne!(categories[0], categories[1]);
    let pod = Pod::new(&case, "wrong", spec(Some("s0,c1")));
    pod.run().fails_saying(&[
        "spec.securityContext.seLinuxOptions.level",
        "\"s0,c1\"",
        "s0:c1,c2",
    ]);
    let mut unknown = spec(Some("s0"));
    unknown["securityContext"]["seLinuxOptions"]["user"] = json!("no_such_u");
    let pod = Pod::new(&case, "unknown", unknown);
    pod.run_detached();
    pod.until("it is told that the policy does not know it", |pod| {
        let state = container_status(pod, "one")["state"].to_string();
        state.contains("does not know no_such_u:object_r:container_file_t:s0")
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}
