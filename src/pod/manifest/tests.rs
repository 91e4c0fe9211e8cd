#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

const HELLO: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: hello
spec:
  volumes:
  - name: work
    emptyDir: {}
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "echo one > /work/one"]
    volumeMounts:
    - {name: work, mountPath: /work}
  containers:
  - name: app
    image: busybox:1.36
    command: [cat, /work/one]
    volumeMounts:
    - name: work
      mountPath: /work
      readOnly: true
"#;

fn error(text: &str) -> String {
    parse("pod.yaml", text).expect_err("accepted").to_string()
}

#[test]
fn a_pod_gets_kubernetes_defaults() {
    let (pod, warnings) = parse("pod.yaml", HELLO).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    let app = &spec.containers[0];
    assert_eq!(app.image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(app.termination_message_policy.as_deref(), Some("File"));
}

#[test]
fn unknown_fields_are_all_told_with_place_and_suggestion() {
    let text = HELLO
        .replace("metadata:", "matadata:")
        .replace("  containers:", "  contianers:")
        .replace("readOnly", "readonly");
    let problem = error(&text);
    assert_eq!(problem, "");
}
