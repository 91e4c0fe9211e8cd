//! Variables: where they come from, and in which order.

use super::*;

/// A pod with these lines in its container, and with a ConfigMap and a Secret.
fn with_objects(container: &str) -> String {
    let objects = "---
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {A: from-config, B: two, k.txt: text}}
---
{apiVersion: v1, kind: Secret, metadata: {name: sec}, data: {PASS: aHVudGVyMg==, RAW: //79}, stringData: {A: from-secret}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: other, namespace: elsewhere}, data: {X: y}}
";
    format!("{}{objects}", pod("", container))
}

fn env(plan: &PodPlan) -> Vec<String> {
    let env = config(plan, "/process/env");
    let all = env.as_array().unwrap().iter();
    all.map(|entry| entry.as_str().unwrap().to_owned())
        .filter(|entry| !entry.starts_with("PATH=") && !entry.starts_with("HOSTNAME="))
        .collect()
}

fn refused(container: &str) -> String {
    let plan = Place::new(&with_objects(container)).plan();
    plan.containers[0].config_error.clone().unwrap_or_default()
}

#[test]
fn env_goes_before_env_from_and_the_last_source_wins() {
    let plan = Place::new(&with_objects(
        "    envFrom:
    - configMapRef: {name: conf}
    - {prefix: S_, secretRef: {name: other-secret, optional: true}}
    - {prefix: C_, configMapRef: {name: conf}}
    - {configMapRef: {name: other, optional: true}}
    env:
    - {name: SUM, value: $(A)+$(C_B)+$(LATER)}
    - {name: B, value: mine}
    - {name: LATER, value: x}
    args: [$(B), $(A), $(C_k.txt)]",
    ))
    .plan();
    assert_eq!(
        env(&plan),
        [
            "A=from-config",
            "B=mine",
            "k.txt=text",
            "C_A=from-config",
            "C_B=two",
            "C_k.txt=text",
            "SUM=from-config+two+$(LATER)",
            "LATER=x"
        ]
    );
    assert_eq!(
        config(&plan, "/process/args"),
        json(r#"["run", "mine", "from-config", "text"]"#)
    );
    assert_eq!(
        plan.warnings,
        [r#"kind ConfigMap "other" is in namespace "elsewhere" and not in "default": ignored"#]
    );
}

#[test]
fn keys_are_taken_from_config_maps_and_secrets() {
    let plan = Place::new(&with_objects(
        "    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: conf, key: k.txt}}}
    - {name: P, valueFrom: {secretKeyRef: {name: sec, key: PASS}}}
    - {name: S, valueFrom: {secretKeyRef: {name: sec, key: A}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: sec, key: none, optional: true}}}
    - {name: M, valueFrom: {configMapKeyRef: {name: none, key: none, optional: true}}}
    - {name: Q, value: $(P)!$(NONE)}",
    ))
    .plan();
    assert_eq!(
        env(&plan),
        ["A=text", "P=hunter2", "S=from-secret", "Q=hunter2!$(NONE)"]
    );
}

#[test]
fn what_is_not_there_keeps_the_container_from_starting_in_the_kubelets_words() {
    for (container, message) in [
        (
            "    envFrom: [{configMapRef: {name: x}}]",
            r#"configmap "x" not found"#,
        ),
        (
            "    envFrom: [{secretRef: {name: x}}]",
            r#"secret "x" not found"#,
        ),
        (
            "    env: [{name: A, valueFrom: {configMapKeyRef: {name: x, key: k}}}]",
            r#"configmap "x" not found"#,
        ),
        (
            "    env: [{name: A, valueFrom: {configMapKeyRef: {name: conf, key: k}}}]",
            "couldn't find key k in ConfigMap default/conf",
        ),
        (
            "    env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: k}}}]",
            r#"secret "x" not found"#,
        ),
        (
            "    env: [{name: A, valueFrom: {secretKeyRef: {name: sec, key: k}}}]",
            "couldn't find key k in Secret default/sec",
        ),
        (
            "    envFrom: [{secretRef: {name: sec}}]",
            r#"key RAW of secret "sec" is not UTF-8 text: no variable can hold it"#,
        ),
        (
            "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: x}}}]",
            "container x not found",
        ),
        // In another namespace.
        (
            "    envFrom: [{configMapRef: {name: other}}]",
            r#"configmap "other" not found"#,
        ),
    ] {
        assert_eq!(refused(container), message, "{container}");
    }
}

#[test]
fn a_container_learns_of_its_pod_and_the_machine() {
    let fields = [
        ("metadata.name", "p"),
        ("spec.nodeName", "machine"),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.0.0.5"),
        ("status.hostIPs", "10.0.0.5,fd00::5"),
        ("status.podIP", "127.0.0.1"),
        ("status.podIPs", "127.0.0.1"),
    ];
    let lines = fields.map(|(path, _)| {
        format!("    - {{name: V, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}")
    });
    for ((path, expected), line) in fields.into_iter().zip(lines) {
        let plan = planned("", &format!("    env:\n{line}"));
        assert_eq!(env(&plan), [format!("V={expected}")], "{path}");
    }
    let plan = planned(
        "  hostNetwork: true",
        "    env: [{name: V, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]",
    );
    assert_eq!(env(&plan), ["V=10.0.0.5,fd00::5"]);
}

#[test]
fn resources_are_told_in_units_of_the_divisor_rounded_up() {
    for (resources, selector, expected) in [
        ("{limits: {cpu: 250m}}", "{resource: limits.cpu}", "1"),
        (
            "{limits: {cpu: 250m}}",
            "{resource: limits.cpu, divisor: 1m}",
            "250",
        ),
        (
            "{limits: {memory: 100Mi}}",
            "{resource: limits.memory}",
            "104857600",
        ),
        (
            "{limits: {memory: 100Mi}}",
            "{resource: limits.memory, divisor: 1Mi}",
            "100",
        ),
        (
            "{limits: {memory: 100Mi}}",
            "{resource: requests.memory, divisor: 1Gi}",
            "1",
        ),
        ("{}", "{resource: limits.cpu}", "4"),
        ("{}", "{resource: limits.cpu, divisor: 1m}", "4000"),
        ("{}", "{resource: limits.memory}", "1073741824"),
        (
            "{}",
            "{resource: limits.ephemeral-storage, divisor: 1Gi}",
            "1024",
        ),
        ("{}", "{resource: requests.cpu}", "0"),
    ] {
        let plan = planned(
            "",
            &format!(
                "    resources: {resources}\n    env: [{{name: V, valueFrom: {{resourceFieldRef: {selector}}}}}]"
            ),
        );
        assert_eq!(
            env(&plan),
            [format!("V={expected}")],
            "{resources} {selector}"
        );
    }
}

#[test]
fn services_are_told_by_variables_that_may_be_used() {
    let service = |name: &str, rest: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{rest}}}}}\n"
        )
    };
    let services = [
        service("my-db", "clusterIP: 10.1.2.3, ports: [{name: sql, port: 5432}, {name: x-y, port: 53, protocol: UDP}]"),
        service("own", "selector: {a: b}, ports: [{port: 80}]"),
        service("others", "selector: {a: c}, ports: [{port: 80}]"),
        service("headless", "clusterIP: None, selector: {a: b}, ports: [{port: 80}]"),
    ]
    .concat();
    let text = pod(
        "",
        "    env: [{name: OWN_PORT, value: mine}, {name: URL, value: db=$(MY_DB_PORT)}]",
    );
    let plan = Place::new(&(text.clone() + &services)).plan();
    assert_eq!(
        env(&plan),
        [
            "OWN_PORT=mine",
            "URL=db=tcp://10.1.2.3:5432",
            "MY_DB_SERVICE_HOST=10.1.2.3",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
            "MY_DB_SERVICE_PORT_X_Y=53",
            "MY_DB_PORT=tcp://10.1.2.3:5432",
            "MY_DB_PORT_5432_TCP=tcp://10.1.2.3:5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.1.2.3",
            "MY_DB_PORT_53_UDP=udp://10.1.2.3:53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_ADDR=10.1.2.3",
            "OWN_SERVICE_HOST=127.0.0.1",
            "OWN_SERVICE_PORT=80",
            "OWN_PORT_80_TCP=tcp://127.0.0.1:80",
            "OWN_PORT_80_TCP_PROTO=tcp",
            "OWN_PORT_80_TCP_PORT=80",
            "OWN_PORT_80_TCP_ADDR=127.0.0.1",
        ]
    );
    let text = text.replace("spec:\n", "spec:\n  enableServiceLinks: false\n");
    let plan = Place::new(&(text + &services)).plan();
    assert_eq!(env(&plan), ["OWN_PORT=mine", "URL=db=$(MY_DB_PORT)"]);
}

#[test]
fn a_variable_in_a_file_is_read_when_the_container_starts() {
    let plan = planned(
        "  volumes: [{name: v}]",
        "    args: [$(A)]
    env:
    - {name: A, valueFrom: {fileKeyRef: {volumeName: v, path: f.env, key: K}}}
    - {name: B, value: x$(A)}",
    );
    let described = "<K in f.env of volume v>";
    assert_eq!(
        env(&plan),
        [format!("A={described}"), format!("B=x{described}")]
    );
    let late = plan.containers[0].late.as_ref().unwrap();
    let mut process = oci_spec::runtime::Process::default();
    late.set(&mut process, &mut |file| Ok(Some(format!("{}!", file.key))))
        .unwrap();
    assert!(
        process
            .env()
            .as_ref()
            .unwrap()
            .contains(&"B=xK!".to_owned())
    );
    assert_eq!(process.args().as_ref().unwrap()[1], "K!");
    late.set(&mut process, &mut |_| Ok(None)).unwrap();
    assert!(
        process
            .env()
            .as_ref()
            .unwrap()
            .contains(&"B=x$(A)".to_owned())
    );
    assert!(late.set(&mut process, &mut |_| Err("why".into())).is_err());
    assert!(planned("", "").containers[0].late.is_none());
}
