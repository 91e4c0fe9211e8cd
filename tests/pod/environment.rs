//! Variables of real containers, and what a pod refers to.

use serde_json::json;

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, sh};

/// A manifest of these documents.
fn documents(documents: &[serde_json::Value]) -> String {
    let texts = documents.iter().map(|d| format!("---\n{d:#}\n"));
    texts.collect()
}

fn pod(name: &str, spec: &serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}}, "spec": spec})
}

#[test]
fn variables_come_from_config_maps_secrets_services_and_the_pod_itself() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let name = case.id("p");
    let text = documents(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"COLOUR": "green", "k": "v"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "data": {"pass": "aHVudGVyMg=="}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"selector": {"app": "x"}, "ports": [{"port": 8080}]}}),
        pod(
            &name,
            &json!({
                "restartPolicy": "Never",
                "containers": [{
                    "name": "app", "image": "busybox",
                    "command": ["/bin/sh", "-c", "echo $COLOUR $P_k $PASS $NAME $LIMIT $WEB_PORT $0 $1", "$(PASS)", "$$(PASS)"],
                    "resources": {"limits": {"memory": "64Mi"}},
                    "envFrom": [{"configMapRef": {"name": "conf"}}, {"prefix": "P_", "configMapRef": {"name": "conf"}}],
                    "env": [
                        {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pass"}}},
                        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    ],
                }],
            }),
        ),
    ]);
    let pod = Pod::from_text(&case, &name, &text);
    pod.run().ok();
    let expected = format!("green v hunter2 {name} 64 tcp://127.0.0.1:8080 hunter2 $(PASS)\n");
    assert_eq!(pod.log("app"), expected);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_missing_key_keeps_its_container_waiting_and_no_other() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "true");
    app["env"] =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "none"}}}]);
    app["image"] = json!("busybox");
    let mut other = sh("other", "exec sleep 1000");
    other["image"] = json!("busybox");
    let name = case.id("p");
    let text = documents(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "b"}}),
        pod(&name, &json!({"containers": [app, other]})),
    ]);
    let pod = Pod::from_text(&case, &name, &text);
    pod.run_detached();
    pod.until_running("other");
    let status = pod.until("the container waits", |pod| {
        container_status(pod, "app")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    assert_eq!(
        container_status(&status, "app")["state"]["waiting"]["message"],
        "couldn't find key none in ConfigMap default/conf"
    );
    pod.delete_force().ok();
}

#[test]
fn row_30_an_init_gives_the_app_a_variable_through_a_file() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut init = sh("init", "");
    init["command"] = json!([
        "/bin/sh",
        "-c",
        "export LOST=1; printf \"# made here\\nADDRESS='10.0.0.7'\\nTWO='a\\nb'\\n\" > /v/made.env"
    ]);
    init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let mut app = sh("app", "echo \"$ADDRESS $URL $TWO [$LOST] [$NONE]\"; ls /v");
    let from = |key: &str| json!({"fileKeyRef": {"volumeName": "v", "path": "made.env", "key": key, "optional": key == "NONE"}});
    app["env"] = json!([
        {"name": "ADDRESS", "valueFrom": from("ADDRESS")},
        {"name": "TWO", "valueFrom": from("TWO")},
        {"name": "NONE", "valueFrom": from("NONE")},
        {"name": "URL", "value": "http://$(ADDRESS)"},
    ]);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init],
            "containers": [app],
        }),
    );
    pod.run().code(1);
    // The app does not even have the volume.
    let log = pod.log("app");
    assert!(
        log.starts_with("10.0.0.7 http://10.0.0.7 a\nb [] []\n"),
        "{log}"
    );
    pod.delete().ok();
}

#[test]
fn a_file_without_the_variable_keeps_the_container_from_starting() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let cases = [
        (
            "true",
            "environment variable key \"A\" not found in file \"f\" of volume \"v\"",
        ),
        (
            "echo A=1 > /v/f",
            "line 1 of f in volume \"v\" is not of the form NAME='value'",
        ),
        ("mkfifo /v/f", "not a file"),
        ("ln -s /etc/passwd /v/f", "ELOOP"),
        ("head -c 70000 /dev/zero > /v/f", "longer than 65536 bytes"),
    ];
    for (number, (script, message)) in cases.into_iter().enumerate() {
        let mut init = sh("init", script);
        init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let mut app = sh("app", "true");
        app["env"] = json!([{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "A"}}}]);
        let pod = Pod::new(
            &case,
            &format!("p{number}"),
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "initContainers": [init], "containers": [app]}),
        );
        pod.run_detached();
        let status = pod.until("the container waits", |pod| {
            container_status(pod, "app")["state"]["waiting"]["reason"]
                == "CreateContainerConfigError"
        });
        let told = container_status(&status, "app")["state"]["waiting"]["message"].to_string();
        assert!(
            told.replace("\\\"", "\"").contains(message),
            "{script}: {told}"
        );
        pod.delete_force().ok();
    }
}

#[test]
fn a_job_of_a_directory_of_manifests_is_run() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let name = case.id("job");
    let mut app = sh("app", "echo $KEY");
    app["image"] = json!("busybox");
    app["envFrom"] = json!([{"configMapRef": {"name": "conf"}}]);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                     "spec": {"backoffLimit": 4, "template": {"spec": {"restartPolicy": "Never", "containers": [app]}}}});
    let pod = Pod::from_text(&case, &name, "");
    std::fs::remove_file(pod.dir.join("pod.yaml")).unwrap();
    std::fs::write(pod.dir.join("job.json"), job.to_string()).unwrap();
    std::fs::write(
        pod.dir.join("conf.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {KEY: value}\n",
    )
    .unwrap();
    let done = case.pod(["run", pod.dir.to_str().unwrap()]).ok();
    let warning = format!(
        "warning: Job \"{name}\": one pod of its template is run, ignored: spec.backoffLimit"
    );
    assert!(done.stderr.contains(&warning), "{}", done.stderr);
    assert_eq!(pod.log("app"), "value\n");
    pod.delete().ok();
}

#[test]
fn a_sub_path_may_be_named_by_a_variable_in_a_file() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (name, value, config_error) in [
        ("good", "of-init", None),
        ("bad", "../x", Some("must not contain '..'")),
    ] {
        let mut init = sh("init", &format!("echo \"DIR='{value}'\" > /v/f"));
        init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let mut app = sh("app", "touch /d/here; exec sleep inf");
        app["env"] = json!([{"name": "DIR", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "DIR"}}}]);
        app["volumeMounts"] =
            json!([{"name": "v", "mountPath": "/d", "subPathExpr": "$(DIR)/deep"}]);
        let spec = json!({
            "terminationGracePeriodSeconds": 0, "volumes": [{"name": "v"}],
            "initContainers": [init], "containers": [app]});
        let pod = Pod::new(&case, name, spec);
        pod.run_detached();
        match config_error {
            None => {
                pod.until_running("app");
                let made = case
                    .data_root()
                    .join("pods")
                    .join(&pod.name)
                    .join("volumes/v/of-init/deep/here");
                crate::support::eventually("the file", || made.exists().then_some(()));
            }
            Some(why) => {
                let status = pod.until("it waits", |pod| {
                    container_status(pod, "app")["state"]["waiting"]["reason"]
                        == "CreateContainerConfigError"
                });
                let told = container_status(&status, "app")["state"].to_string();
                assert!(told.contains(why), "{told}");
            }
        }
        pod.delete_force().ok();
    }
    case.assert_nothing_left();
}
