//! The behaviours that no other file shows. The table of all is `tests/pod/README.md`.

use std::fs;

use serde_json::{Value, json};

use crate::support::pod::{condition, container_status, is_running, terminated};
use crate::support::{Case, Need, Pod, Shared, eventually, process, sh};

#[test]
fn row_05_volumes_come_first_then_the_sandbox_then_the_inits() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [sh("init", "true")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run().ok();
    let events = case.pod(["events", "-o", "json", &pod.name]).ok().stdout;
    let events: Value = serde_json::from_str(&events).unwrap();
    let reasons: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons[..4],
        ["VolumesReady", "SandboxStarted", "Started", "Completed"]
    );
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn row_06_sandbox_and_volumes_are_there_before_an_image_is_looked_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "exec sleep 1000");
    app["image"] = json!("other");
    let pod = Pod::new(
        &case,
        "p",
        json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [app, sh("there", "exec sleep 1000")]}),
    );
    let image = pod.dir.join("images/other");
    crate::support::bundle::make_rootfs(&image);
    pod.create().ok();
    fs::remove_dir_all(&image).unwrap();
    pod.start().ok();
    let status = pod.until("it says why", |pod| {
        container_status(pod, "app")["state"]["waiting"]["reason"] == "CreateContainerError"
    });
    let message = &container_status(&status, "app")["state"]["waiting"]["message"];
    assert!(
        message.as_str().unwrap().contains("images/other"),
        "{message}"
    );
    assert_eq!(
        condition(&status, "PodReadyToStartContainers")["status"],
        "True"
    );
    let volume = case
        .data_root()
        .join("pods")
        .join(&pod.name)
        .join("volumes/v");
    assert!(volume.is_dir());
    pod.until_running("there");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn row_14_a_pod_that_initializes_says_initialized_false_and_who_is_not_done() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let forever = "exec sleep 1000";
    let pod = Pod::new(
        &case,
        "p",
        json!({"initContainers": [sh("one", "true"), sh("two", forever), sh("three", "true")], "containers": [sh("app", "true")]}),
    );
    pod.run_detached();
    pod.until_running("two");
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Pending");
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized["status"], "False");
    assert_eq!(initialized["reason"], "ContainersNotInitialized");
    assert_eq!(
        initialized["message"],
        "containers with incomplete status: [two three]"
    );
    pod.delete_force().ok();
}

#[test]
fn row_16_an_app_that_is_killed_is_restarted_and_no_init_runs_again() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", "echo init >> /shared/log")],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let (app, pause) = (pod.until_running("app"), pod.pause("app"));
    process::kill(app);
    pod.until("it was restarted", |pod| {
        container_status(pod, "app")["restartCount"] == 1 && is_running(pod, "app")
    });
    assert_eq!(shared.lines("log"), ["init"]);
    assert_eq!(pod.pause("app"), pause);
    pod.delete_force().ok();
}

#[test]
fn row_17_another_image_in_the_manifest_does_not_touch_a_pod_that_runs() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"initContainers": [sh("init", "true")], "containers": [sh("app", "exec sleep 1000")]}),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    let file = pod.dir.join("pod.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("busybox", "other")).unwrap();
    let status = pod.status();
    assert_eq!(container_status(&status, "init")["image"], "busybox");
    assert_eq!(container_status(&status, "init")["restartCount"], 0);
    process::kill(app);
    let status = pod.until("it was restarted", |pod| {
        container_status(pod, "app")["restartCount"] == 1 && is_running(pod, "app")
    });
    assert_eq!(container_status(&status, "app")["image"], "busybox");
    pod.delete_force().ok();
}

#[test]
fn row_20_an_init_has_limits_volumes_and_rights_as_an_app_has() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait = "until [ -e /shared/go ]; do sleep 0.01; done; rm /shared/go";
    let with_all = |name: &str| {
        let mut container = shared.container(name, wait);
        container["resources"] = json!({"limits": {"memory": "48Mi"}});
        container["securityContext"] = json!({"runAsUser": 1234, "runAsGroup": 5678, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}, "readOnlyRootFilesystem": true});
        container["env"] = json!([{"name": "WHO", "value": "me"}]);
        container
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "initContainers": [with_all("init")],
            "containers": [with_all("app")],
        }),
    );
    fs::set_permissions(
        &shared.path,
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    pod.run_detached();
    let seen = ["init", "app"].map(|name| {
        let pid = pod.until_running(name);
        let status = ["Uid", "Gid", "CapBnd", "NoNewPrivs", "Seccomp"];
        let mut seen = status.map(|field| process::status(pid, field)).to_vec();
        let cgroup = process::cgroup(pid, "memory");
        let limit = ["memory.max", "memory.limit_in_bytes"];
        let limit = limit
            .iter()
            .find_map(|file| fs::read_to_string(cgroup.join(file)).ok());
        seen.push(limit.unwrap().trim().to_owned());
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let mounts = process::parse_mountinfo(&mounts);
        let root = mounts.iter().rfind(|mount| mount.point == "/").unwrap();
        seen.push(root.has("ro").to_string());
        seen.push(
            mounts
                .iter()
                .any(|mount| mount.point == "/shared")
                .to_string(),
        );
        fs::write(shared.path.join("go"), "").unwrap();
        seen
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0][5], (48u64 << 20).to_string());
    assert_eq!(seen[0][6..], ["true", "true"]);
    pod.delete_force().ok();
}

#[test]
fn row_21_an_init_beyond_its_limit_is_killed_and_tried_again_and_concerns_no_app() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let mut greedy = sh("greedy", "exec tail -c 200m /dev/zero");
    greedy["resources"] = json!({"limits": {"memory": "32Mi"}});
    let mut app = sh("app", "true");
    app["resources"] = json!({"limits": {"memory": "96Mi"}});
    let pod = Pod::new(
        &case,
        "p",
        json!({"initContainers": [greedy], "containers": [app]}),
    );
    pod.run_detached();
    let status = pod.until("it waits for its next try", |pod| {
        container_status(pod, "greedy")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let greedy = container_status(&status, "greedy");
    assert_eq!(greedy["lastState"]["terminated"]["reason"], "OOMKilled");
    assert_eq!(greedy["restartCount"], 1);
    assert_eq!(container_status(&status, "app")["restartCount"], 0);
    assert_eq!(
        container_status(&status, "app")["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    pod.delete_force().ok();
}

#[test]
fn row_22_inits_may_have_the_same_port_for_they_run_one_by_one() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    // Each listens on it in its turn, and the app after them.
    let serve =
        "nc -l -p 8080 -e true & until nc -w 1 127.0.0.1 8080 </dev/null; do sleep 0.01; done";
    let with_port = |name: &str| {
        let mut container = sh(name, serve);
        container["ports"] = json!([{"containerPort": 8080}]);
        container
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "initContainers": [with_port("one"), with_port("two")], "containers": [with_port("app")]}),
    );
    pod.run().ok();
    pod.delete().ok();
}

#[test]
fn row_26_a_secret_that_nobody_mounts_is_in_no_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let look = "env; cat /proc/self/mountinfo; find / -xdev -name token";
    let mut spec = json!({"restartPolicy": "Never", "initContainers": [sh("init", look)], "containers": [sh("app", look)]});
    for list in ["initContainers", "containers"] {
        spec[list][0]["image"] = json!("busybox");
    }
    let name = case.id("p");
    let documents = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "hidden"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}),
    ];
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    let pod = Pod::from_text(&case, &name, &text.join("\n---\n"));
    pod.run().ok();
    for container in ["init", "app"] {
        let log = pod.log(container);
        assert!(!log.contains("hidden") && !log.contains("token"), "{log}");
    }
    pod.delete().ok();
}

#[test]
fn row_29_pause_has_no_volume() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "exec sleep 1000");
    app["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let volumes = json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]);
    let pod = Pod::new(&case, "p", json!({"volumes": volumes, "containers": [app]}));
    pod.run_detached();
    let (app, pause) = (pod.until_running("app"), pod.pause("app"));
    let volume = |pid: i32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let mounts = process::parse_mountinfo(&mounts);
        mounts
            .iter()
            .any(|mount| mount.point == "/v" || mount.point.contains("volumes/v"))
    };
    assert!(volume(app));
    assert!(!volume(pause));
    let proof = case.pod(["prove", "-o", "json", &pod.name]).ok().stdout;
    let proof: Value = serde_json::from_str(&proof).unwrap();
    assert_eq!(proof["processes"][0]["name"], "pause");
    assert_eq!(proof["processes"][0]["volumes"], json!({}));
    pod.delete_force().ok();
}

#[test]
fn row_41_the_pull_policy_follows_from_the_tag_and_what_is_absent_is_refused() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let digest = format!("busybox@sha256:{}", "0".repeat(64));
    let table = [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        (digest.as_str(), "IfNotPresent"),
    ];
    for (number, (image, policy)) in table.into_iter().enumerate() {
        let mut app = sh("app", "true");
        app["image"] = json!(image);
        let pod = Pod::new(&case, &format!("p{number}"), json!({"containers": [app]}));
        let manifest = pod.dir.join("pod.yaml");
        let plan = case
            .pod(["plan", "-o", "json", manifest.to_str().unwrap()])
            .ok();
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        let found = &plan["manifest"]["spec"]["containers"][0]["imagePullPolicy"];
        assert_eq!(found, policy, "{image}");
    }
    let mut app = sh("app", "true");
    (app["image"], app["imagePullPolicy"]) = (json!("absent:1"), json!("Never"));
    let pod = Pod::new(&case, "p", json!({"containers": [app]}));
    let error = pod.run().fails();
    assert!(
        error.contains("no root file system for image \"absent:1\""),
        "{error}"
    );
    case.assert_nothing_left();
}

#[test]
fn row_42_an_app_restarts_in_its_place() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = "readlink /proc/self/ns/net >> /shared/net; hostname >> /shared/host
                  [ -e /shared/again ] && exec sleep 1000; touch /shared/again; exit 0";
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Always", "volumes": [shared.volume()], "containers": [shared.container("app", script)]}),
    );
    pod.run_detached();
    let status = pod.until("it was restarted", |pod| {
        container_status(pod, "app")["restartCount"] == 1 && is_running(pod, "app")
    });
    eventually("it has told", || {
        (shared.lines("host").len() == 2).then_some(())
    });
    for file in ["net", "host"] {
        let lines = shared.lines(file);
        assert_eq!(lines[0], lines[1], "{file}");
    }
    let last = &container_status(&status, "app")["lastState"]["terminated"];
    assert_eq!(last["reason"], "Completed");
    assert!(terminated(&status, "app").is_null());
    pod.delete_force().ok();
}
