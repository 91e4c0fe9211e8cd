//! `pod apply`: what may change of a pod that exists.

use serde_json::{Value, json};

use crate::support::pod::container_status;
use crate::support::{Case, Done, Need, Pod, eventually, process, sh};

/// A ConfigMap, a Secret, and a pod that shows them in every way.
fn manifest(name: &str, value: &str) -> Value {
    let mut app = sh("app", "echo variable $VALUE; exec sleep inf");
    app["image"] = json!("busybox");
    app["env"] =
        json!([{"name": "VALUE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}}]);
    app["volumeMounts"] = json!([
        {"name": "conf", "mountPath": "/conf"}, {"name": "all", "mountPath": "/all"},
        {"name": "conf", "mountPath": "/one", "subPath": "a"}, {"name": "e", "mountPath": "/e"}]);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": value, "b": value}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"pass": value}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"version": value}}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"fsGroup": 4242},
            "volumes": [
                {"name": "e"},
                {"name": "conf", "configMap": {"name": "conf"}},
                {"name": "all", "projected": {"sources": [
                    {"secret": {"name": "sec"}},
                    {"downwardAPI": {"items": [{"path": "version", "fieldRef": {"fieldPath": "metadata.labels['version']"}}]}}]}}],
            "containers": [app]}}]})
}

fn apply(case: &Case, pod: &Pod<'_>, manifest: &Value, names: &[&str]) -> Done {
    let file = pod.dir.join("new.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let file = file.to_str().unwrap();
    case.pod([&["apply", "-f", file], names].concat())
}

const SHOW: &str = "cat /conf/a /conf/b /all/pass /all/version /one; stat -L -c ' %g' /all/pass; ls /e; ls -A /conf | wc -l";

#[test]
fn files_change_at_once_and_variables_with_the_next_start() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let name = case.id("p");
    let pod = Pod::from_text(&case, &name, &manifest(&name, "old").to_string());
    let show = || pod.exec("app", &["/bin/sh", "-c", SHOW]).ok().stdout;
    // One that does not exist is run.
    let done = apply(&case, &pod, &manifest(&name, "old"), &[]).ok();
    assert_eq!(done.stdout, format!("{name}\n"));
    pod.until_running("app");
    pod.exec("app", &["/bin/touch", "/e/kept"]).ok();
    assert_eq!(show(), "oldoldoldoldold 4242\nkept\n4\n");
    let done = apply(&case, &pod, &manifest(&name, "old"), &[]).ok();
    assert_eq!(done.stdout, format!("pod/{name} unchanged\n"));

    let done = apply(&case, &pod, &manifest(&name, "new"), &[]).ok();
    assert_eq!(
        done.stdout,
        format!("pod/{name} configured: configmap/conf, secret/sec, labels\n")
    );
    // The file that is mounted by itself stays, as in Kubernetes.
    assert_eq!(show(), "newnewnewnewold 4242\nkept\n4\n");
    assert_eq!(pod.status()["metadata"]["labels"]["version"], "new");
    assert_eq!(pod.log("app"), "variable old\n");
    case.pod(["restart", &name]).ok();
    eventually("it starts anew", || {
        (pod.log("app") == "variable new\n").then_some(())
    });
    assert_eq!(show(), "newnewnewnewnew 4242\nkept\n4\n");

    // Just the object, for whoever refers to it; and also if the supervisor was killed.
    process::kill(pod.supervisor());
    let conf = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "x", "b": "y", "c": "z"}});
    let done = apply(&case, &pod, &conf, &[]).ok();
    assert_eq!(
        done.stdout,
        format!("pod/{name} configured: configmap/conf\n")
    );
    assert_eq!(show(), "xynewnewnew 4242\nkept\n5\n");
    // It is the pod's from now on.
    process::kill(pod.supervisor());
    case.pod(["restart", &name]).ok();
    eventually("it starts anew", || {
        (pod.log("app") == "variable x\n").then_some(())
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn what_must_not_change_is_refused_and_nothing_changes() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let name = case.id("p");
    let mut fixed = manifest(&name, "old");
    fixed["items"][0]["immutable"] = json!(true);
    let pod = Pod::from_text(&case, &name, &fixed.to_string());
    pod.run_detached();
    pod.until_running("app");
    let mut spec = fixed.clone();
    spec["items"][1]["stringData"]["pass"] = json!("new");
    spec["items"][2]["spec"]["containers"][0]["command"] = json!(["true"]);
    let mut data = fixed.clone();
    data["items"][0]["data"]["a"] = json!("new");
    data["items"][1]["stringData"]["pass"] = json!("new");
    for (manifest, why) in [
        (
            &spec,
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            &data,
            "configmap/conf: data: Forbidden: field is immutable when `immutable` is set",
        ),
    ] {
        let error = apply(&case, &pod, manifest, &[]).fails();
        assert!(error.contains(why), "{error}");
    }
    let shown = pod.exec("app", &["/bin/sh", "-c", SHOW]).ok().stdout;
    assert!(shown.starts_with("oldoldoldoldold"), "{shown}");
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nobodys"}});
    let error = apply(&case, &pod, &other, &[]).fails();
    assert!(
        error.contains("no pod that is not over refers to"),
        "{error}"
    );
    pod.delete_force().ok();
}

#[test]
fn a_pod_that_waits_for_an_object_gets_it() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let name = case.id("p");
    let mut without = manifest(&name, "old");
    without["items"].as_array_mut().unwrap().remove(1);
    let pod = Pod::from_text(&case, &name, &without.to_string());
    pod.run_detached();
    pod.until("it waits", |pod| {
        container_status(pod, "app")["state"]
            .to_string()
            .contains("secret \\\"sec\\\" not found")
    });
    let secret = manifest(&name, "old")["items"][1].clone();
    apply(&case, &pod, &secret, &[]).ok();
    pod.until_running("app");
    pod.delete_force().ok();
}
