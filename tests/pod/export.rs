//! A pod as OCI bundles.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Case, Need, Pod, has, sh};

#[test]
fn every_container_becomes_a_bundle_that_any_runtime_runs() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mounts = json!([{"name": "work", "mountPath": "/work", "subPath": "a/b"}, {"name": "text", "mountPath": "/text"}]);
    let mut init = sh(
        "init",
        "cat /text/greeting > /work/done; echo changed > /etc/passwd; hostname",
    );
    init["volumeMounts"] = mounts.clone();
    let mut app = sh(
        "app",
        "cat /work/done /etc/hostname; echo $WHO; ! grep changed /etc/passwd",
    );
    app["volumeMounts"] = mounts;
    app["env"] = json!([{"name": "WHO", "value": "me"}]);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "hostname": "exported",
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            "volumes": [{"name": "work", "emptyDir": {"medium": "Memory"}}, {"name": "text", "downwardAPI": {"items": [
                {"path": "greeting", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}],
            "initContainers": [init],
            "containers": [app],
        }),
    );
    let manifest = pod.dir.join("pod.yaml");
    let dir = case.dir().join("bundles");
    let plan = || {
        let [manifest, dir] = [&manifest, &dir].map(|path| path.to_str().unwrap());
        case.pod(["plan", manifest, "--output", dir])
    };
    plan().ok();
    assert!(plan().fails().contains("not empty"));
    let config = fs::read(dir.join("app/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let paths = config["linux"]["namespaces"].as_array().unwrap().iter();
    assert!(paths.clone().all(|ns| ns["path"].is_null()), "{config:#}");
    assert_eq!(
        config["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"],
        "0"
    );

    let run = |name: &str| {
        let bundle = dir.join(name);
        case.run(["run", "--bundle", bundle.to_str().unwrap(), &case.id(name)])
            .ok()
            .stdout
    };
    assert_eq!(run("init"), "exported\n");
    assert_eq!(run("app"), "defaultexported\nme\n");
    let image = pod.dir.join("images/busybox/etc/passwd");
    assert!(!fs::read_to_string(image).unwrap().contains("changed"));
    if has(Need::Program("runc")) {
        let runc = |name: &str| {
            let mut command = Command::new("runc");
            command.arg("--root").arg(case.dir().join("runc"));
            command
                .arg("run")
                .arg("--bundle")
                .arg(dir.join(name))
                .arg(case.id(name));
            case.finish(command).ok().stdout
        };
        assert_eq!(runc("app"), "defaultexported\nme\n");
    }
    case.assert_nothing_left();
}
