//! What volumes hold, whose they are, and who can reach them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, sh};

const SECRET: &str = "correct-horse-battery-staple";

/// A manifest of a ConfigMap `conf`, a Secret `sec`, a claim `kept`, and a pod of this spec.
fn with_objects<'a>(case: &'a Case, name: &str, mut spec: Value) -> Pod<'a> {
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = json!("busybox");
        }
    }
    if spec["initContainers"].is_null() {
        spec.as_object_mut().unwrap().remove("initContainers");
    }
    let name = case.id(name);
    let documents = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "one\n", "b": "two\n"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"pass": SECRET}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"k": "v"}}, "spec": spec}),
    ];
    let text: String = documents.iter().map(|d| format!("---\n{d:#}\n")).collect();
    Pod::from_text(case, &name, &text)
}

fn mounting(name: &str, script: &str, mounts: Value) -> Value {
    let mut container = sh(name, script);
    container["volumeMounts"] = mounts;
    container
}

#[test]
fn files_of_the_manifest_are_laid_out_as_by_the_kubelet() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let script = "
        cat /conf/a /conf/sub/b /all/pass; echo; cat /all/labels; echo; cat /one
        readlink /conf/a; readlink /conf/sub
        stat -L -c '%n %a %U' /conf /conf/a /conf/sub/b /all /all/pass
        grep ' /all ' /proc/mounts | while read a b fs o r; do echo $fs $o; done
        (echo x > /conf/a) 2>&1; (echo x > /conf/new) 2>&1; (echo x > /all/pass) 2>&1; (echo x > /one) 2>&1
        ls -a /conf | while read name; do case $name in ..2*) echo dated;; esac; done; true";
    let pod = with_objects(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf", "items": [
                    {"key": "a", "path": "a"}, {"key": "b", "path": "sub/b", "mode": 0o400}]}},
                {"name": "all", "projected": {"defaultMode": 0o440, "sources": [
                    {"secret": {"name": "sec"}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
            ],
            "containers": [mounting("app", script, json!([
                {"name": "conf", "mountPath": "/conf"},
                {"name": "all", "mountPath": "/all"},
                {"name": "conf", "mountPath": "/one", "subPath": "a"},
            ]))],
        }),
    );
    pod.run().ok();
    let log = pod.log("app");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..13],
        [
            "one",
            "two",
            SECRET,
            "k=\"v\"",
            "one",
            "..data/a",
            "..data/sub",
            "/conf 777 root",
            "/conf/a 644 root",
            "/conf/sub/b 400 root",
            "/all 1777 root",
            "/all/pass 440 root",
            lines[12],
        ],
        "{log}"
    );
    assert!(lines[12].starts_with("tmpfs ro,"), "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 4, "{log}");
    assert!(log.ends_with("dated\n"), "{log}");
    pod.delete().ok();
    case.assert_nothing_left();
}

/// Row 25, and 26: who does not mount it does not see it.
#[test]
fn row_25_a_secret_of_an_init_is_out_of_every_apps_reach() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let init = mounting(
        "init",
        "cat /secret/pass",
        json!([{"name": "s", "mountPath": "/secret"}]),
    );
    let app = |name: &str| {
        // Everything that it can read: files, what is mounted, its own environment and that of others.
        sh(
            name,
            "grep -rl -e correct-h[o]rse --exclude-dir=sys --exclude-dir=proc / 2>/dev/null
             cat /proc/*/environ /proc/*/cmdline 2>/dev/null | grep -c correct-h[o]rse
             grep secret /proc/*/mountinfo; ls -d /secret; find / -name pass -not -path '/proc/*' 2>/dev/null; sleep 1000",
        )
    };
    for shared in [false, true] {
        let pod = with_objects(
            &case,
            &format!("p-{shared}"),
            json!({
                "shareProcessNamespace": shared,
                "volumes": [{"name": "s", "secret": {"secretName": "sec"}}, {"name": "e"}],
                "initContainers": [init],
                "containers": [app("one"), mounting("two", "exec sleep 1000", json!([{"name": "e", "mountPath": "/e"}]))],
            }),
        );
        pod.run_detached();
        let pid = pod.until_running("two");
        pod.until_running("one");
        // The positive control: the init had it.
        assert_eq!(pod.log("init"), SECRET);
        let log = crate::support::eventually("the search is over", || {
            Some(pod.log("one")).filter(|log| log.contains("/secret"))
        });
        assert_eq!(log.lines().next(), Some("0"), "{log}");
        assert!(!log.contains("pass"), "{log}");
        // Nor does the machine show it to them.
        let mountinfo = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(!mountinfo.contains("/volumes/s"), "{mountinfo}");
        pod.delete_force().ok();
    }
    case.assert_nothing_left();
}

#[test]
fn what_a_volume_refers_to_must_be_there() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = with_objects(
        &case,
        "p",
        json!({"volumes": [{"name": "v", "configMap": {"name": "none"}}], "containers": [sh("app", "true")]}),
    );
    pod.run_detached();
    let status = pod.until("the container waits", |pod| {
        container_status(pod, "app")["state"]
            .to_string()
            .contains("MountVolume")
    });
    let state = container_status(&status, "app")["state"].to_string();
    let message = r#"MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found"#;
    assert!(state.contains(message), "{state}");
    pod.delete_force().ok();
}

#[test]
fn a_claim_outlives_its_pod() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let run = |name: &str, script: &str| {
        let pod = with_objects(
            &case,
            name,
            json!({
                "restartPolicy": "Never",
                "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 3000},
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "kept"}}],
                "containers": [mounting("app", script, json!([{"name": "v", "mountPath": "/v"}]))],
            }),
        );
        pod.run().ok();
        let log = pod.log("app");
        pod.delete().ok();
        log
    };
    run("p1", "echo kept > /v/file");
    assert_eq!(
        run("p2", "cat /v/file; stat -c '%g %a' /v /v/file"),
        "kept\n3000 2777\n3000 664\n"
    );
    let claim = case.data_root().join("claims/default/kept/file");
    assert_eq!(fs::read_to_string(claim).unwrap(), "kept\n");
    // It is nobody's now: to remove it is left to people.
    fs::remove_dir_all(case.data_root().join("claims")).unwrap();
}

#[test]
fn the_group_of_the_file_system_owns_volumes_and_is_the_containers() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let script = "id -G; stat -c '%n %u:%g %a' /e /m; stat -L -c '%n %u:%g %a' /s /s/pass /h
        echo x > /e/new && stat -c '%u:%g' /e/new; cat /s/pass";
    fs::create_dir(case.dir().join("host")).unwrap();
    fs::set_permissions(case.dir().join("host"), fs::Permissions::from_mode(0o755)).unwrap();
    let pod = with_objects(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "supplementalGroups": [4000]},
            "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "m", "emptyDir": {"medium": "Memory", "mode": 0o700}},
                {"name": "s", "secret": {"secretName": "sec", "defaultMode": 0o400}},
                {"name": "h", "hostPath": {"path": case.dir().join("host")}},
            ],
            "containers": [mounting("app", script, json!([
                {"name": "e", "mountPath": "/e"}, {"name": "m", "mountPath": "/m"},
                {"name": "s", "mountPath": "/s"}, {"name": "h", "mountPath": "/h"},
            ]))],
        }),
    );
    pod.run().ok();
    assert_eq!(
        pod.log("app"),
        format!(
            "1000 2000 4000\n/e 0:2000 2777\n/m 0:2000 2770\n/s 0:2000 3777\n/s/pass 0:2000 440\n/h 0:0 755\n1000:2000\n{SECRET}"
        )
    );
    assert_eq!(fs::metadata(case.dir().join("host")).unwrap().gid(), 0);
    pod.delete().ok();
}

#[test]
fn an_image_is_mounted_read_only_and_whole_or_in_part() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = with_objects(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "i", "image": {"reference": "data:1"}}],
            "containers": [mounting("app", "cat /i/dir/file /part/file; touch /i/new 2>&1; touch /part/new 2>&1; true", json!([
                {"name": "i", "mountPath": "/i"}, {"name": "i", "mountPath": "/part", "subPath": "dir"},
            ]))],
        }),
    );
    fs::create_dir_all(pod.dir.join("images/data/dir")).unwrap();
    fs::write(pod.dir.join("images/data/dir/file"), "in the image\n").unwrap();
    pod.run().ok();
    let log = pod.log("app");
    assert!(log.starts_with("in the image\nin the image\n"), "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    pod.delete().ok();
    assert!(!pod.dir.join("images/data/new").exists());
}

#[test]
fn a_sub_path_is_named_by_the_containers_variables() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let app = |name: &str| {
        let mut app = mounting(
            name,
            "echo $NAME > /v/name",
            json!([
            {"name": "v", "mountPath": "/v", "subPathExpr": "logs/$(NAME)"}]),
        );
        app["env"] = json!([{"name": "NAME", "value": format!("of-{name}")}]);
        app
    };
    let last = mounting(
        "last",
        "cat /v/logs/of-a/name /v/logs/of-b/name",
        json!([{"name": "v", "mountPath": "/v"}]),
    );
    let pod = with_objects(
        &case,
        "p",
        json!({"restartPolicy": "Never", "volumes": [{"name": "v"}], "initContainers": [app("a"), app("b")], "containers": [last]}),
    );
    pod.run().ok();
    assert_eq!(pod.log("last"), "of-a\nof-b\n");
    pod.delete().ok();
}

#[test]
fn mounts_propagate_only_as_far_as_asked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = case.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    let path = shared.to_str().unwrap();
    let host = |command: &str| {
        let status = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(status.unwrap().success(), "{command}");
    };
    let spec = |propagation: &str| {
        let mount = |name: &str, kind: &str, script: &str| {
            let mut app = mounting(
                name,
                script,
                json!([{"name": "v", "mountPath": "/v", "mountPropagation": kind}]),
            );
            app["securityContext"] = json!({"privileged": true});
            app
        };
        json!({
            "volumes": [{"name": "v", "hostPath": {"path": path}}],
            "containers": [
                mount("one", propagation, "until [ -e /v/go ]; do sleep 0.01; done; mkdir /v/inner; mount -t tmpfs inner /v/inner; touch /v/inner/made; exec sleep 1000"),
                mount("two", "None", "exec sleep 1000"),
            ],
        })
    };
    // Not on a private mount.
    host(&format!(
        "mount --bind {path} {path} && mount --make-private {path}"
    ));
    let pod = with_objects(&case, "private", spec("HostToContainer"));
    pod.run_detached();
    pod.until("the container cannot be made", |pod| {
        container_status(pod, "one")["state"]
            .to_string()
            .contains("not a shared or slave mount")
    });
    pod.delete_force().ok();
    host(&format!("mount --make-shared {path}"));
    for (propagation, sees, shows) in [
        ("None", false, false),
        ("HostToContainer", true, false),
        ("Bidirectional", true, true),
    ] {
        let pod = with_objects(&case, &propagation.to_lowercase(), spec(propagation));
        pod.run_detached();
        pod.until_running("one");
        pod.until_running("two");
        host(&format!(
            "mkdir {path}/outer && mount -t tmpfs outer {path}/outer && touch {path}/outer/file"
        ));
        let there =
            |container: &str, file: &str| pod.exec(container, &["/bin/ls", file]).status.success();
        assert_eq!(there("one", "/v/outer/file"), sees, "{propagation}");
        assert!(!there("two", "/v/outer/file"), "{propagation}");
        fs::write(shared.join("go"), "").unwrap();
        crate::support::eventually("it has mounted", || {
            there("one", "/v/inner/made").then_some(())
        });
        assert_eq!(shared.join("inner/made").exists(), shows, "{propagation}");
        pod.delete_force().ok();
        host(&format!(
            "umount {path}/outer; umount {path}/inner 2>/dev/null; rm -rf {path}/outer {path}/inner {path}/go"
        ));
    }
    host(&format!("umount {path}"));
}

#[test]
fn a_claim_of_the_pods_own_goes_with_it() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let mut spec = json!({
        "restartPolicy": "Never", "securityContext": {"fsGroup": 4242},
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}],
        "initContainers": [mounting("init", "echo handed over > /v/f", mount.clone())],
        "containers": [mounting("app", "cat /v/f; stat -c %g /v", mount)],
    });
    let pod = Pod::new(&case, "p", spec.clone());
    pod.run().ok();
    assert_eq!(pod.log("app"), "handed over\n4242\n");
    pod.delete().ok();
    spec["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"] = json!({});
    let error = Pod::new(&case, "q", spec).plan().fails();
    let path = "spec.volumes[0].ephemeral.volumeClaimTemplate.spec";
    for why in [
        format!("{path}.accessModes: Required value: at least 1 access mode is required"),
        format!("{path}.resources.storage: Required value"),
    ] {
        assert!(error.contains(&why), "{error}");
    }
    case.assert_nothing_left();
}

#[test]
fn a_read_only_mount_is_so_all_the_way_down_if_asked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = case.dir().join("shared");
    fs::create_dir_all(shared.join("inner")).unwrap();
    let host = |command: &str| {
        let status = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(status.unwrap().success(), "{command}");
    };
    let inner = shared.join("inner").display().to_string();
    host(&format!("mount -t tmpfs inner {inner}"));
    let touch = "touch /v/outer 2>/dev/null && echo outer; touch /v/inner/x 2>/dev/null && echo inner; printf '#!/bin/sh\necho ran' 2>/dev/null > /v/inner/t; chmod +x /v/inner/t 2>/dev/null; /v/inner/t 2>/dev/null; true";
    for (name, options, expected) in [
        ("ro", json!({"readOnly": true}), "inner\nran\n"),
        (
            "rro",
            json!({"readOnly": true, "recursiveReadOnly": "Enabled"}),
            "ran\n",
        ),
        ("rw", json!({}), "outer\ninner\nran\n"),
    ] {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount
            .as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        let pod = Pod::new(
            &case,
            name,
            json!({"restartPolicy": "Never", "volumes": [{"name": "v", "hostPath": {"path": shared}}],
                "containers": [mounting("app", touch, json!([mount]))]}),
        );
        pod.run().ok();
        assert_eq!(pod.log("app"), expected, "{name}");
        pod.delete().ok();
    }
    host(&format!("umount {inner}"));
    let mount = json!([{"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}]);
    let script = "printf '#!/bin/sh\\necho ran' > /v/t; chmod +x /v/t; /v/t 2>&1; sh /v/t";
    let pod = Pod::new(
        &case,
        "noexec",
        json!({"restartPolicy": "Never", "volumes": [{"name": "v"}], "containers": [mounting("app", script, mount)]}),
    );
    pod.run().ok();
    let log = pod.log("app");
    assert!(
        log.contains("/v/t: Permission denied\n") && log.ends_with("ran\n"),
        "{log}"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn who_writes_more_to_the_disk_than_it_may_ends_its_pod() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut greedy = sh("greedy", "head -c 3000000 /dev/zero > /big; exec sleep inf");
    greedy["resources"] = json!({"limits": {"ephemeral-storage": "1Mi"}});
    let mut modest = sh("modest", "exec sleep inf");
    modest["resources"] = json!({"limits": {"ephemeral-storage": "1Gi"}});
    let spec =
        |containers: Value| json!({"terminationGracePeriodSeconds": 0, "containers": containers});
    let alone = Pod::new(&case, "alone", spec(json!([greedy.clone()])));
    let beside = Pod::new(&case, "beside", spec(json!([modest, greedy])));
    for pod in [&alone, &beside] {
        pod.run_detached();
    }
    for (pod, message) in [
        (
            alone,
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
        ),
        (
            beside,
            "Container greedy exceeded its local ephemeral storage limit \"1Mi\". ",
        ),
    ] {
        let status = pod.until_phase("Failed");
        assert_eq!(status["status"]["reason"], "Evicted");
        assert_eq!(status["status"]["message"], message);
        pod.delete_force().ok();
    }
}
