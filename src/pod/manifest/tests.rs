#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

/// A pod that uses much of what is done.
const HELLO: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: hello
  labels: {app: hello}
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
    resources:
      limits: {memory: 32Mi, cpu: 0.5}
    volumeMounts:
    - name: work
      mountPath: /work
      readOnly: true
"#;

/// The smallest pod, with lines added to `spec`, and to the container.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: i\n{container}\n{spec}\n"
    )
}

/// A manifest of one file.
fn parse(name: &str, text: &str) -> Result<(Pod, Vec<String>)> {
    let (name, text) = (name.to_owned(), text.to_owned());
    let file = File { name, text };
    let manifest = super::parse(&file.name, std::slice::from_ref(&file), "/".into(), None)?;
    Ok((manifest.pod, manifest.warnings))
}

fn error(text: &str) -> String {
    match parse("pod.yaml", text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_pod_gets_kubernetes_defaults() {
    let (pod, warnings) = parse("pod.yaml", HELLO).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!(spec.scheduler_name.as_deref(), Some("default-scheduler"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    let app = &spec.containers[0];
    assert_eq!(app.image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(app.termination_message_policy.as_deref(), Some("File"));
    let resources = app.resources.as_ref().unwrap();
    assert_eq!(resources.requests, resources.limits);
    assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "0.5");
}

#[test]
fn a_volume_without_a_type_is_an_empty_dir() {
    let (pod, _) = parse("pod.yaml", &pod("  volumes: [{name: v}]", "")).unwrap();
    let volumes = pod.spec.unwrap().volumes.unwrap();
    assert!(volumes[0].empty_dir.is_some());
}

#[test]
fn json_is_accepted() {
    let json = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"p\"},\n\t\"spec\": {\"containers\": [\n\t\t{\"name\": \"c\", \"image\": \"i\"}\n\t]}\n}\n";
    parse("pod.json", json).unwrap();
}

#[test]
fn unknown_fields_are_all_told_with_place_and_suggestion() {
    let text = HELLO
        .replace("metadata:", "matadata:")
        .replace("  containers:", "  contianers:")
        .replace("readOnly", "readonly")
        .replace("limits", "zzz");
    assert_eq!(
        error(&text),
        "manifest: 4 errors:\
         \n  pod.yaml:4:1: matadata: unknown field (did you mean `metadata`?)\
         \n  pod.yaml:17:3: spec.contianers: unknown field (did you mean `containers`?)\
         \n  pod.yaml:22:7: spec.contianers[0].resources.zzz: unknown field\
         \n  pod.yaml:26:7: spec.contianers[0].volumeMounts[0].readonly: unknown field (did you mean `readOnly`?)"
    );
}

#[test]
fn wrong_types_are_all_told_with_what_was_expected() {
    let text = pod(
        "  hostNetwork: maybe\n  terminationGracePeriodSeconds: 1.5\n  volumes: {name: v}\n  initContainers: [3]",
        "    env:\n    - {name: A, value: 1}\n    - {name: B, value: yes}\n    command: sh\n    ports: [{containerPort: 99999999999}]\n    securityContext: false",
    );
    assert_eq!(
        error(&text),
        "manifest: 9 errors:\
         \n  pod.yaml:9:24: spec.containers[0].env[0].value: expected a string, found the number 1 (put it in quotes)\
         \n  pod.yaml:10:24: spec.containers[0].env[1].value: expected a string, found the boolean true (put it in quotes)\
         \n  pod.yaml:11:14: spec.containers[0].command: expected a list, found the string \"sh\"\
         \n  pod.yaml:12:29: spec.containers[0].ports[0].containerPort: invalid value: integer `99999999999`, expected i32\
         \n  pod.yaml:13:22: spec.containers[0].securityContext: expected a mapping (SecurityContext), found the boolean false\
         \n  pod.yaml:14:16: spec.hostNetwork: expected a boolean, found the string \"maybe\"\
         \n  pod.yaml:15:34: spec.terminationGracePeriodSeconds: expected an integer, found the number 1.5\
         \n  pod.yaml:16:12: spec.volumes: expected a list, found a mapping\
         \n  pod.yaml:17:20: spec.initContainers[0]: expected a mapping (Container), found the number 3"
    );
}

#[test]
fn what_is_no_pod_is_told() {
    for (text, message) in [
        ("", "pod.yaml is empty (expected a Pod)"),
        ("---\n---\n", "pod.yaml is empty (expected a Pod)"),
        (
            "- a\n",
            "manifest: pod.yaml is not a mapping (expected apiVersion, kind, metadata, spec)",
        ),
        (
            "apiVersion: v1\n",
            "manifest: pod.yaml: kind: Required value",
        ),
        (
            "spec: {}\n",
            "manifest: 2 errors:\n  pod.yaml: apiVersion: Required value\n  pod.yaml: kind: Required value",
        ),
        (
            "apiVersion: v1\nkind: Deployment\n",
            "manifest: pod.yaml:1:13: apiVersion: \"v1\" is not supported: kind Deployment is of apiVersion apps/v1",
        ),
        (
            "apiVersion: v1\nkind: 3\n",
            "manifest: pod.yaml:2:7: kind: expected a string",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n",
            "manifest: pod.yaml:1:1: spec.template: Required value",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}",
            "pod.yaml holds no Pod, but Service, Secret",
        ),
        (
            "apiVersion: v1\nkind: Pod\n---\napiVersion: batch/v1\nkind: Job\nspec: {template: {}}\n",
            "pod.yaml holds 2 pods (Pod, Job) (runp runs one pod: put each into a file of its own)",
        ),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for (text, place, what) in [
        ("a: [", "manifest: pod.yaml:", ""),
        ("a: b: c\n", "manifest: pod.yaml:1:", ""),
        (
            "a: 1\nb: 2\na: 3\n",
            "manifest: pod.yaml:3:1: ",
            "duplicate",
        ),
        ("a: *nowhere\n", "manifest: pod.yaml:1:4: ", "anchor"),
    ] {
        let message = error(text);
        assert!(message.starts_with(place), "{message}");
        assert!(message.contains(what), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        let list = [alias.as_str(); 9].join(", ");
        bomb += &format!("a{level}: &a{level} [{list}]\n");
    }
    let start = std::time::Instant::now();
    let message = error(&bomb);
    let took = start.elapsed();
    assert!(message.starts_with("manifest: pod.yaml:"), "{message}");
    eprintln!("{message} {took:?}");
}

#[test]
fn depth_is_bounded() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
    ] {
        let message = error(&text);
        assert!(message.len() < 100, "{message}");
    }
}

#[test]
fn what_is_not_done_yet_is_refused_in_one_error() {
    let text = pod(
        "  subdomain: x\n  securityContext: {fsGroup: 1, sysctls: [{name: a, value: b}]}\n  volumes:\n  - {name: v, nfs: {server: s, path: /}}\n  - {name: w, projected: {sources: [{serviceAccountToken: {path: t}}]}}",
        "    livenessProbe: {httpGet: {port: 1, scheme: HTTPS, host: a.b}}\n    volumeDevices: [{name: v, devicePath: /dev/x}]\n    stdin: false\n    envFrom: []\n    ports: [{containerPort: 80, hostPort: 80}]\n    resources: {limits: {example.com/gpu: 1}}",
    );
    let not_yet = concat!("not supported yet by runp ", env!("CARGO_PKG_VERSION"));
    let port = "no port of the host leads into a network that is just a loopback: choose one with --network cni:NAME or --network pasta";
    let lines = [
        "pod.yaml:9:5: spec.containers[0].volumeDevices",
        "pod.yaml:12:33: spec.containers[0].ports[0].hostPort",
        "pod.yaml:13:5: spec.containers[0].resources.requests[example.com/gpu]",
        "pod.yaml:13:26: spec.containers[0].resources.limits[example.com/gpu]",
        "pod.yaml:17:15: spec.volumes[0].nfs",
        "pod.yaml:18:38: spec.volumes[1].projected.sources[0].serviceAccountToken",
    ];
    let mut message = error(&text);
    let hint = " (remove what the pod can do without: nothing is ignored silently)";
    assert!(message.ends_with(hint), "{message}");
    message.truncate(message.len() - hint.len());
    let told: Vec<&str> = message.lines().collect();
    assert_eq!(told[0], "manifest: 6 errors:");
    let expected = lines.map(|line| match line.ends_with("hostPort") {
        true => format!("  {line}: {port}"),
        false => format!("  {line}: {not_yet}"),
    });
    assert_eq!(told[1..], expected, "{message}");
}

#[test]
fn what_is_invalid_is_all_told_with_its_place_in_the_order_of_the_file() {
    let text = pod(
        "  restartPolicy: Sometimes\n  activeDeadlineSeconds: 0\n  volumes: [{name: v, nfs: {server: s, path: /}}]",
        "    volumeMounts:\n    - {name: w, mountPath: /w}\n    securityContext: {runAsUser: -1}",
    );
    let message = error(&text);
    let told: Vec<&str> = message.lines().collect();
    assert_eq!(told[0], "The Pod \"p\" is invalid: 5 errors:");
    for (line, start) in told[1..].iter().zip([
        "  pod.yaml:9:8: spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
        "  pod.yaml:10:23: spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between",
        "  pod.yaml:11:3: spec.restartPolicy: Unsupported value: \"Sometimes\"",
        "  pod.yaml:12:3: spec.activeDeadlineSeconds: Invalid value: 0: must be between",
        "  pod.yaml:13:23: spec.volumes[0].nfs: not supported yet",
    ]) {
        assert!(line.starts_with(start), "{line:?} is not {start:?}");
    }
    // What is not there is looked for where it should be.
    let message = error(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n",
    );
    assert_eq!(
        message,
        "The Pod \"p\" is invalid: pod.yaml:6:5: spec.containers[0].image: Required value"
    );
}

#[test]
fn probes_and_hooks_are_for_sidecars_and_apps() {
    let with = |policy: &str| {
        pod(
            &format!(
                "  initContainers:\n  - {{name: s, image: i{policy}, readinessProbe: {{exec: {{command: [a]}}}}}}"
            ),
            "",
        )
    };
    parse("pod.yaml", &with(", restartPolicy: Always")).unwrap();
    for policy in ["", ", restartPolicy: OnFailure"] {
        let message = error(&with(policy));
        let told = "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always";
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn what_has_no_meaning_on_one_machine_is_one_warning() {
    let text = pod(
        "  nodeName: here\n  nodeSelector: {a: b}\n  tolerations: [{operator: Exists}]\n  priorityClassName: high\n  schedulerName: mine",
        "    resources: {limits: {ephemeral-storage: 1Gi}}",
    );
    let (_, warnings) = parse("pod.yaml", &text).unwrap();
    assert_eq!(
        warnings,
        [
            "no meaning on one machine, ignored: spec.nodeName, spec.nodeSelector, spec.priorityClassName, spec.schedulerName, spec.tolerations",
        ]
    );
}

#[test]
fn the_status_that_kubectl_writes_is_dropped() {
    let text = pod("status: {phase: Running}", "");
    let (pod, warnings) = parse("pod.yaml", &text).unwrap();
    assert_eq!(pod.status, None);
    assert_eq!(warnings, ["status: ignored, it is runp that writes it"]);
}

#[test]
fn a_manifest_is_found_in_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let source = Source::Path(path.clone());
    let empty = load(&source, None).unwrap_err().to_string();
    assert!(
        empty.ends_with("holds no manifest (expected one of pod.yaml, pod.yml, pod.json, or any *.yaml, *.yml, *.json)"),
        "{empty}"
    );
    std::fs::write(path.join("pod.yml"), HELLO).unwrap();
    let manifest = load(&source, None).unwrap();
    assert_eq!(manifest.directory, path);
    let file = load(&Source::Path(path.join("pod.yml")), None).unwrap();
    assert_eq!(file.directory, path);
    let missing = load(&Source::Path(path.join("no.yaml")), None).unwrap_err();
    assert_eq!(missing.errno(), Some(libc::ENOENT));
    std::fs::write(path.join("pod.yml"), [0xff, 0xfe, 0]).unwrap();
    let binary = load(&source, None).unwrap_err().to_string();
    assert!(binary.contains("is not UTF-8 text"), "{binary}");
    std::fs::write(path.join("pod.yml"), vec![b' '; (SIZE + 1) as usize]).unwrap();
    let large = load(&source, None).unwrap_err().to_string();
    assert!(large.ends_with("is larger than 3145728 bytes"), "{large}");
}

/// The pod of a manifest with more documents.
fn manifest(text: &str) -> Manifest {
    let file = File {
        name: "m.yaml".into(),
        text: text.into(),
    };
    super::parse("m.yaml", &[file], "/".into(), None).unwrap()
}

#[test]
fn the_template_of_a_workload_is_a_pod() {
    for (api_version, kind, name, policy, open, close) in [
        ("apps/v1", "Deployment", "w", "Always", "", ""),
        ("apps/v1", "StatefulSet", "w-0", "Always", "", ""),
        ("apps/v1", "DaemonSet", "w", "Always", "", ""),
        ("apps/v1", "ReplicaSet", "w", "Always", "", ""),
        ("v1", "ReplicationController", "w", "Always", "", ""),
        ("batch/v1", "Job", "w", "Never", "", ""),
        (
            "batch/v1",
            "CronJob",
            "w",
            "OnFailure",
            "schedule: x, jobTemplate: {spec: {",
            "}}",
        ),
    ] {
        let text = format!(
            "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: w, namespace: ns}}\nspec: {{{open}replicas: 3, template: {{metadata: {{labels: {{a: b}}}}, spec: {{restartPolicy: {policy}, containers: [{{name: c, image: i}}]}}}}{close}}}\n"
        );
        let manifest = manifest(&text);
        assert_eq!(manifest.pod.metadata.name.as_deref(), Some(name));
        assert_eq!(manifest.pod.metadata.namespace.as_deref(), Some("ns"));
        assert_eq!(manifest.pod.metadata.labels.unwrap()["a"], "b");
        let ignored = match kind {
            "CronJob" => "spec.schedule, spec.jobTemplate.spec.replicas",
            _ => "spec.replicas",
        };
        assert_eq!(
            manifest.warnings,
            [format!(
                "{kind} \"w\": one pod of its template is run, ignored: {ignored}"
            )]
        );
        let wrong = match policy {
            "Always" => text.replace(policy, "Never"),
            _ => text.replace(policy, "Always"),
        };
        let message = error(&wrong);
        assert!(message.contains(": spec.restartPolicy: "), "{message}");
    }
}

#[test]
fn the_first_pod_of_a_stateful_set_has_claims_of_its_own() {
    let manifest = manifest(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: dbs\n  replicas: 3\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    spec: {resources: {requests: {storage: 1Gi}}}\n  template:\n    spec:\n      containers: [{name: c, image: i, volumeMounts: [{name: data, mountPath: /data}]}]\n",
    );
    let spec = manifest.pod.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("db-0"));
    assert_eq!(spec.subdomain.as_deref(), Some("dbs"));
    let claim = spec.volumes.unwrap()[0]
        .persistent_volume_claim
        .as_ref()
        .unwrap()
        .claim_name
        .clone();
    assert_eq!(claim, "data-db-0");
    assert_eq!(manifest.objects.claims[&claim], None);
    assert_eq!(
        manifest.warnings,
        ["StatefulSet \"db\": one pod of its template is run, ignored: spec.replicas"]
    );
}

#[test]
fn objects_are_found_beside_the_pod_in_lists_and_in_other_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("b.yaml", HELLO);
    write(
        "a.yml",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: Yg==}, stringData: {c: d}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: s}, binaryData: {a: Yg==}}\n",
    );
    write(
        "c.json",
        r#"{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {"volumeName": "v"}}"#,
    );
    write(
        "d.yaml",
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {hostPath: {path: /data}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n",
    );
    write("notes.txt", "not a manifest");
    let manifest = load(&Source::Path(directory.path().into()), None).unwrap();
    let Objects {
        config_maps,
        secrets,
        claims,
        volumes,
        services,
        immutable: _,
    } = manifest.objects;
    assert_eq!(secrets["s"]["a"].0, b"b");
    assert_eq!(secrets["s"]["c"].0, b"d");
    assert_eq!(config_maps["s"].binary_data["a"].0, b"b");
    assert_eq!(claims["c"].as_deref(), Some("v"));
    assert_eq!(volumes["v"], PathBuf::from("/data"));
    assert!(services.is_empty());
    assert_eq!(
        manifest.warnings,
        [r#"kind ServiceAccount "sa": no meaning on one machine, ignored"#]
    );
}

#[test]
fn what_is_wrong_with_objects_is_all_told() {
    let text = format!(
        "{HELLO}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: A}}\ndata:\n  a b: x\n  ..c: x\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{x: \"?\"}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{nam: c}}\n---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: v}}\nspec: {{nfs: {{server: s, path: /}}}}\n"
    );
    let message = error(&text);
    for part in [
        "pod.yaml:30:12: metadata.name: Invalid value: \"A\": a lowercase RFC 1123",
        "pod.yaml:32:3: data[a b]: Invalid value: \"a b\": a valid config key must",
        "pod.yaml:33:3: data[..c]: Invalid value: \"..c\": must not start with '..'",
        "pod.yaml:38:11: data.x: ",
        "pod.yaml:42:12: metadata.nam: unknown field (did you mean `name`?)",
        "pod.yaml:47:1: spec: not supported: only hostPath and local are on one machine",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse("pod.yaml", &text);
    }

    #[test]
    fn no_mutation_of_a_pod_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[-:{}\\[\\],&*!|>'\"%@`#? \na-z0-9.]{1,4}"), 1..6),
    ) {
        let mut text: Vec<char> = HELLO.chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = parse("pod.yaml", &text);
    }

    #[test]
    fn no_value_of_a_field_makes_it_panic(
        field in prop::sample::select(vec![
            "name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", "securityContext",
            "workingDir", "terminationMessagePolicy",
        ]),
        value in prop::sample::select(vec![
            "", "null", "[]", "{}", "[{}]", "[null]", "[[]]", "0", "-1", "1e400", "99999999999999999999", "~", "..",
            "[{name: A, valueFrom: {}}]", "{limits: {cpu: 1e400Ki, memory: -1, '': 1}}", "{runAsUser: -9223372036854775808}",
            "[{containerPort: -2147483648, protocol: X}]", "[{name: ../.., mountPath: .., subPath: ../..}]", "\"\\0\"",
        ]),
    ) {
        let _ = parse("pod.yaml", &pod("", &format!("    {field}: {value}").replace("name: c", "")));
        let _ = parse("pod.yaml", &format!("apiVersion: v1\nkind: Pod\nmetadata: {{{field}: {value}}}\nspec: {{{field}: {value}, containers: [{{{field}: {value}}}]}}\n"));
    }
}

#[test]
fn what_is_wrong_with_the_pod_and_with_objects_is_told_at_once() {
    let objects =
        "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a/b: c}}\n";
    let wrong = pod(
        "  restartPolicy: Sometimes",
        "    securityContext: {windowsOptions: {hostProcess: true}}",
    );
    let message = error(&format!("{wrong}\n{objects}"));
    for part in [
        "The Pod \"p\" is invalid: 3 errors:",
        "data[a/b]: Invalid value: \"a/b\": ",
        "spec.restartPolicy: Unsupported value: \"Sometimes\"",
        "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let unknown = pod("  nosuch: 1", "");
    let message = error(&format!("{unknown}\n{objects}"));
    assert!(
        message.contains("nosuch") && message.contains("data[a/b]"),
        "{message}"
    );
}

#[test]
fn a_made_name_has_five_letters_more() {
    let text = pod("", "").replace("name: p", "generateName: web-");
    let (made, _) = parse("pod.yaml", &text).unwrap();
    let name = made.metadata.name.unwrap();
    let letters = name.strip_prefix("web-").unwrap();
    assert_eq!(letters.len(), 5);
    assert!(
        letters.bytes().all(|letter| LETTERS.contains(&letter)),
        "{letters}"
    );
}
