//! Who shares what with whom.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, Shared, process, sh};

/// Who has which namespace, by inode number.
#[test]
fn init_and_app_share_the_sandbox_and_nothing_else() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", "until [ -e /shared/go ]; do sleep 0.01; done")],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let init = pod.until_running("init");
    let init_has = process::namespaces(init);
    let init_root = root_of(init);
    // An inode number may be given again once its namespace is gone: keep the init's until the app has its own.
    let kept =
        ["mnt", "pid", "cgroup"].map(|ns| fs::File::open(format!("/proc/{init}/ns/{ns}")).unwrap());
    fs::write(shared.path.join("go"), "").unwrap();
    let pause_has = process::namespaces(pod.pause("app"));
    let app = pod.until_running("app");
    let app_has = process::namespaces(app);
    let ours = process::namespaces(std::process::id().cast_signed());

    for kind in ["ipc", "net", "uts"] {
        assert_eq!(init_has[kind], pause_has[kind], "{kind} is the sandbox's");
        assert_eq!(app_has[kind], pause_has[kind], "{kind} is the sandbox's");
        assert_ne!(pause_has[kind], ours[kind], "{kind} is not the host's");
    }
    for kind in ["mnt", "pid"] {
        let all = [&init_has[kind], &app_has[kind], &ours[kind]];
        assert!(
            all[0] != all[1] && all[1] != all[2] && all[0] != all[2],
            "{kind}: each its own: {all:?}"
        );
    }
    assert_ne!(app_has["mnt"], pause_has["mnt"]);
    assert_ne!(init_root, root_of(app), "different root file systems");
    drop(kept);
    pod.delete_force().ok();
    case.assert_nothing_left();
}

/// The file system and the inode of its root directory.
fn root_of(pid: i32) -> (u64, u64) {
    let root = fs::metadata(format!("/proc/{pid}/root/")).unwrap();
    (root.dev(), root.ino())
}

#[test]
fn row_24_each_container_has_a_file_system_view_of_its_own() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = |n: u32| {
        format!(
            "echo {n} > /opt/{n}.txt; ls /opt >> /shared/seen; readlink /proc/self/ns/mnt >> /shared/mnt"
        )
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("centos1", &script(123)), shared.container("centos2", &script(456))],
            "containers": [shared.container("centos3", &script(789))],
        }),
    );
    pod.run().ok();
    assert_eq!(shared.lines("seen"), ["123.txt", "456.txt", "789.txt"]);
    // An inode number may be given again once a container is gone; the running ones are compared in the test above.
    assert_eq!(shared.lines("mnt").len(), 3);
    assert!(
        fs::read_dir(pod.dir.join("images/busybox/opt"))
            .unwrap()
            .next()
            .is_none(),
        "the image was written to"
    );
    pod.delete().ok();
}

#[test]
fn row_27_an_emptydir_hands_over_where_it_is_mounted() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for medium in ["", "Memory"] {
        let mount = |path: &str| json!([{"name": "data", "mountPath": path}]);
        let pod = Pod::new(
            &case,
            &format!("p{}", medium.to_lowercase()),
            json!({
                "restartPolicy": "Never",
                "volumes": [{"name": "data", "emptyDir": {"medium": medium}}],
                "initContainers": [{"name": "init", "command": ["/bin/sh", "-c", "echo handed over > /here/file"],
                                    "volumeMounts": mount("/here")}],
                "containers": [{"name": "app", "command": ["/bin/cat", "/there/file"], "volumeMounts": mount("/there")}],
            }),
        );
        pod.run().ok();
        assert_eq!(pod.log("app"), "handed over\n");
        pod.delete().ok();
        case.assert_nothing_left();
    }
}

#[test]
fn row_28_what_is_written_beside_the_volume_is_not_shared() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let text = include_str!("../manifests/post-as-printed.yaml");
    let printed = Pod::from_text(&case, &case.id("printed"), text);
    let message = printed.run().fails();
    for part in ["matadata", "5:1", "metadata"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    case.assert_nothing_left();

    let text = include_str!("../manifests/post-without-typos.yaml");
    let trap = Pod::from_text(&case, &case.id("trap"), text);
    let done = trap.run().code(1);
    assert!(
        done.stderr.contains("/opt/123.txt") && done.stderr.contains("/opt/data"),
        "a warning names both: {done:?}"
    );
    assert!(
        !trap.log("centos2").contains("123.txt\n123"),
        "{}",
        trap.log("centos2")
    );
    trap.delete().ok();

    let mended = text.replace("> /opt/123.txt", "> /opt/data/123.txt");
    let mended = Pod::from_text(&case, &case.id("mended"), &mended);
    let done = mended.run().ok();
    assert!(!done.stderr.contains("warning"), "{done:?}");
    assert!(mended.log("centos2").ends_with("123\n"));
    mended.delete().ok();
}

#[test]
fn row_33_a_pod_shares_its_network_and_no_other_pod_does() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let server = sh(
        "server",
        "echo from $HOSTNAME > /tmp/page; while :; do nc -l -p 80 < /tmp/page; done",
    );
    let visitor = sh(
        "visitor",
        "until nc 127.0.0.1 80 | grep from; do sleep 0.02; done; exec sleep 1000",
    );
    let spec = json!({"containers": [server, visitor]});
    let pods = [
        Pod::new(&case, "p", spec.clone()),
        Pod::new(&case, "q", spec),
    ];
    let mut nets = Vec::new();
    for pod in &pods {
        pod.run_detached();
        let (server, visitor) = (pod.until_running("server"), pod.until_running("visitor"));
        assert_eq!(
            process::namespace(server, "net"),
            process::namespace(visitor, "net")
        );
        nets.push(process::namespace(server, "net"));
        // Both pods listen on port 80.
        crate::support::eventually("the visitor was answered", || {
            pod.log("visitor").contains("from").then_some(())
        });
        let interfaces = pod
            .exec("visitor", &["/bin/ip", "addr", "show", "lo"])
            .ok()
            .stdout;
        assert!(
            interfaces.contains("127.0.0.1/8") && interfaces.contains("UP"),
            "{interfaces}"
        );
    }
    assert_ne!(nets[0], nets[1]);
    for pod in &pods {
        pod.delete_force().ok();
    }
}

#[test]
fn row_34_containers_see_each_others_processes_only_if_asked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for share in [false, true] {
        let pod = Pod::new(
            &case,
            &format!("p{share}"),
            json!({
                "shareProcessNamespace": share,
                "containers": [sh("a", "exec sleep 1111"), sh("b", "exec sleep 2222")],
            }),
        );
        pod.run_detached();
        let (a, b) = (pod.until_running("a"), pod.until_running("b"));
        assert_eq!(
            process::namespace(a, "pid") == process::namespace(b, "pid"),
            share
        );
        let seen = pod.exec("a", &["/bin/ps"]).ok().stdout;
        assert!(seen.contains("sleep 1111"), "{seen}");
        assert_eq!(seen.contains("sleep 2222"), share, "{seen}");
        pod.delete_force().ok();
        case.assert_nothing_left();
    }
}

#[test]
fn row_43_writes_vanish_with_a_restart_and_the_image_stays() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = "ls /opt >> /shared/opt; touch /opt/written; rm /bin/wget
                  [ -e /shared/again ] && exec sleep 1000; touch /shared/again; exit 1";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Always",
            "volumes": [shared.volume()],
            "containers": [shared.container("app", script)],
        }),
    );
    pod.run_detached();
    pod.until("the app was restarted", |pod| {
        let app = container_status(pod, "app");
        app["restartCount"] == 1 && !app["state"]["running"].is_null()
    });
    crate::support::eventually("it has looked", || {
        let there = pod.exec(
            "app",
            &["/bin/sh", "-c", "[ -e /opt/written ] && [ ! -e /bin/wget ]"],
        );
        there.status.success().then_some(())
    });
    assert!(shared.lines("opt").is_empty(), "{:?}", shared.lines("opt"));
    let image = pod.dir.join("images/busybox");
    assert!(image.join("bin/wget").exists() && !image.join("opt/written").exists());
    pod.delete_force().ok();
}

#[test]
fn host_namespaces_are_the_hosts() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "hostNetwork": true, "hostIPC": true, "hostPID": true,
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    let ours = std::process::id().cast_signed();
    for kind in ["net", "ipc", "pid"] {
        assert_eq!(
            process::namespace(app, kind),
            process::namespace(ours, kind),
            "{kind}"
        );
    }
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn the_security_context_is_what_the_program_has() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 2000},
            "containers": [
                {"name": "pod", "command": ["/bin/id"]},
                {"name": "own", "command": ["/bin/sh", "-c", "id -u; grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status; touch /x 2>&1"],
                 "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                     "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}},
            ],
        }),
    );
    pod.run().code(1); // touch fails
    assert!(
        pod.log("pod").starts_with("uid=1000 gid=2000"),
        "{}",
        pod.log("pod")
    );
    let own = pod.log("own");
    for part in [
        "0\n",
        "NoNewPrivs:\t1",
        "CapBnd:\t0000000000000400",
        "Read-only file system",
    ] {
        assert!(own.contains(part), "{part:?} is not in {own}");
    }
    pod.delete().ok();
}

#[test]
fn run_as_non_root_refuses_root() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [{"name": "app", "command": ["/bin/true"], "securityContext": {"runAsNonRoot": true}}],
        }),
    );
    pod.run_detached();
    let status = pod.until("it cannot be made", |pod| {
        let state = container_status(pod, "app")["state"].to_string();
        state.contains("CreateContainerConfigError")
    });
    assert!(status.to_string().contains("runAsNonRoot"), "{status:#}");
    pod.delete_force().ok();
}

#[test]
fn volumes_are_mounted_as_asked() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    fs::create_dir(shared.path.join("sub")).unwrap();
    fs::write(shared.path.join("sub/file"), "in sub\n").unwrap();
    std::os::unix::fs::symlink("/", shared.path.join("escape")).unwrap();
    let pod = |name: &str, mount: serde_json::Value, script: &str| {
        Pod::new(
            &case,
            name,
            json!({
                "restartPolicy": "Never",
                "volumes": [shared.volume()],
                "containers": [{"name": "app", "command": ["/bin/sh", "-c", script], "volumeMounts": [mount]}],
            }),
        )
    };
    let p = pod(
        "sub",
        json!({"name": "shared", "mountPath": "/v", "subPath": "sub"}),
        "cat /v/file",
    );
    p.run().ok();
    assert_eq!(p.log("app"), "in sub\n");
    let p2 = pod(
        "ro",
        json!({"name": "shared", "mountPath": "/v", "readOnly": true}),
        "touch /v/new",
    );
    p2.run().code(1);
    assert!(!shared.path.join("new").exists());
    let p3 = pod(
        "made",
        json!({"name": "shared", "mountPath": "/v", "subPath": "not/there"}),
        "touch /v/new",
    );
    p3.run().ok();
    assert!(shared.path.join("not/there/new").exists());
    let p4 = pod(
        "escape",
        json!({"name": "shared", "mountPath": "/v", "subPath": "escape/etc"}),
        "touch /v/canary",
    );
    p4.run_detached();
    p4.until("it cannot be made", |pod| {
        let state = container_status(pod, "app")["state"].to_string();
        state.contains("CreateContainer") && state.contains("escape/etc")
    });
    assert!(!std::path::Path::new("/etc/canary").exists());
    for pod in [p, p2, p3, p4] {
        pod.delete_force().ok();
    }
}
