//! Every message, by the field that causes it.
#![allow(clippy::unwrap_used)]

use super::*;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A pod of one container `c`, with the given JSON merged into `metadata`, `spec` and the container.
fn errors(metadata: &str, spec: &str, container: &str) -> Vec<String> {
    let object = |text: &str| -> serde_json::Value {
        serde_json::from_str(&format!("{{{text}}}")).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let merge = |mut base: serde_json::Value, text: &str| {
        let more = object(text);
        base.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        base
    };
    let container = merge(object(r#""name": "c", "image": "i""#), container);
    let base = serde_json::json!({ "containers": [container] });
    let json = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": merge(object(r#""name": "p""#), metadata),
        "spec": merge(base, spec),
    });
    let pod: Pod = serde_json::from_value(json).unwrap();
    let errors = validate(&pod);
    // All are in `spec`, or all in `metadata`: the first one shows in which.
    let mut errors = errors.iter().enumerate();
    let errors = errors
        .by_ref()
        .map(|(index, text)| match text.strip_prefix("spec.") {
            Some(rest) if index > 0 => rest.to_owned(),
            _ => text.clone(),
        });
    errors.collect()
}

fn check(table: &[(&str, &str)], of: impl Fn(&str) -> Vec<String>) {
    for (input, expected) in table {
        assert_eq!(of(input).join("\n"), *expected, "{input}");
    }
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_api_server() {
    let pod: Pod = serde_json::from_str(
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "a", "image": "i", "livenessProbe": {}}, {"name": "a", "image": "i"}],
            "containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}"#,
    )
    .unwrap();
    assert_eq!(
        validate(&pod),
        [
            "spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
            "spec.initContainers[0].name: Duplicate value: \"a\"",
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            "spec.initContainers[1].name: Duplicate value: \"a\"",
        ]
    );
}

#[test]
fn metadata_follows_the_rules() {
    let subdomain =
        |path: &str, value: &str| format!("{path}: Invalid value: {value:?}: {SUBDOMAIN}");
    let long = "a".repeat(254);
    check(
        &[
            ("", ""),
            (
                r#""name": null"#,
                "metadata.name: Required value: name or generateName is required",
            ),
            (r#""name": "a.b-c""#, ""),
            (r#""name": "A""#, &subdomain("metadata.name", "A")),
            (r#""name": "a_b""#, &subdomain("metadata.name", "a_b")),
            (r#""name": "a..b""#, &subdomain("metadata.name", "a..b")),
            (r#""name": "../x""#, &subdomain("metadata.name", "../x")),
            (
                &format!(r#""name": "{long}""#),
                &format!(
                    "metadata.name: Invalid value: \"{long}\": must be no more than 253 bytes"
                ),
            ),
            (
                r#""namespace": "a.b""#,
                "metadata.namespace: Invalid value: \"a.b\": must not contain dots",
            ),
            (r#""labels": {"app.kubernetes.io/name": "x", "b": ""}"#, ""),
            (
                r#""labels": {"a": "b c"}"#,
                "metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                r#""labels": {"a b": ""}"#,
                "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (
                r#""labels": {"/a": ""}"#,
                "metadata.labels: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            (r#""annotations": {"X/y": "anything at all"}"#, ""),
        ],
        |metadata| errors(metadata, "", ""),
    );
}

#[test]
fn the_pod_follows_the_rules() {
    check(
        &[
            (r#""containers": []"#, "spec.containers: Required value"),
            (
                r#""restartPolicy": "Sometimes""#,
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                r#""dnsPolicy": "X""#,
                "spec.dnsPolicy: Unsupported value: \"X\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
            ),
            (
                r#""dnsPolicy": "None""#,
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                r#""shareProcessNamespace": true, "hostPID": true"#,
                "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
            ),
            (
                r#""hostname": "a.b""#,
                "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            ),
            (
                r#""hostname": "a\nb""#,
                &format!("spec.hostname: Invalid value: \"a\\nb\": {LABEL}"),
            ),
            (
                r#""os": {"name": "windows"}"#,
                "spec.os.name: Unsupported value: \"windows\": supported values: \"linux\"",
            ),
            (
                r#""terminationGracePeriodSeconds": -1"#,
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                r#""securityContext": {"runAsUser": -1, "supplementalGroups": [2147483648]}"#,
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive\nsecurityContext.supplementalGroups[0]: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
            ),
            (
                r#""ephemeralContainers": [{"name": "e"}]"#,
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ),
        ],
        |spec| errors("", spec, ""),
    );
}

#[test]
fn containers_follow_the_rules() {
    check(
        &[
            (r#""name": """#, "spec.containers[0].name: Required value"),
            (r#""name": "a.b""#, "spec.containers[0].name: Invalid value: \"a.b\": must not contain dots"),
            (r#""name": "a_b""#, &format!("spec.containers[0].name: Invalid value: \"a_b\": {LABEL}")),
            (r#""image": null"#, "spec.containers[0].image: Required value"),
            (r#""image": " i""#, "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"),
            (
                r#""imagePullPolicy": "Maybe""#,
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                r#""terminationMessagePolicy": "X""#,
                "spec.containers[0].terminationMessagePolicy: Unsupported value: \"X\": supported values: \"File\", \"FallbackToLogsOnError\"",
            ),
            (
                r#""ports": [{"containerPort": 0}, {"containerPort": 65536}]"#,
                "spec.containers[0].ports[0].containerPort: Required value\ncontainers[0].ports[1].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ),
            (
                r#""ports": [{"containerPort": 1, "protocol": "tcp"}]"#,
                "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                r#""ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]"#,
                "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            ),
            (
                r#""ports": [{"containerPort": 1, "name": "1--"}]"#,
                "spec.containers[0].ports[0].name: Invalid value: \"1--\": must contain at least one letter (a-z)\ncontainers[0].ports[0].name: Invalid value: \"1--\": must not contain consecutive hyphens\ncontainers[0].ports[0].name: Invalid value: \"1--\": must not begin or end with a hyphen",
            ),
            (r#""env": [{"name": ""}]"#, "spec.containers[0].env[0].name: Required value"),
            (r#""env": [{"name": "a.b-C 1"}]"#, ""),
            (
                r#""env": [{"name": "A=B"}]"#,
                "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {}}]"#,
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            (
                r#""env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]"#,
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}}]"#,
                "",
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]"#,
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\"\nserviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"".replace("\nserviceAccountName", ", \"spec.serviceAccountName").as_str(),
            ),
            (
                r#""resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}"#,
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (r#""resources": {"requests": {"memory": "128Mi"}, "limits": {"memory": "134217728"}}"#, ""),
            (
                r#""resources": {"limits": {"memory": "1e400Ki"}}"#,
                &format!("spec.containers[0].resources.limits[memory]: Invalid value: \"1e400Ki\": {QUANTITY}"),
            ),
            (
                r#""resources": {"limits": {"memory": "-1"}}"#,
                "spec.containers[0].resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                r#""resources": {"limits": {"disk": "1"}}"#,
                "spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified\ncontainers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
            ),
            (
                r#""securityContext": {"runAsUser": 4294967296}"#,
                "spec.containers[0].securityContext.runAsUser: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive",
            ),
            (
                r#""securityContext": {"privileged": true, "allowPrivilegeEscalation": false}"#,
                "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ),
        ],
        |container| errors("", "", container),
    );
}

#[test]
fn init_containers_have_no_probes_and_no_hooks() {
    for field in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        let init = format!(r#""initContainers": [{{"name": "a", "image": "i", "{field}": {{}}}}]"#);
        assert_eq!(
            errors("", &init, ""),
            [format!(
                "spec.initContainers[0].{field}: Forbidden: may not be set for init containers without restartPolicy=Always"
            )]
        );
    }
}

#[test]
fn resize_policies_follow_the_rules() {
    let policy = |resource: &str, restart: &str| {
        let policy = format!(r#"{{"resourceName": "{resource}", "restartPolicy": "{restart}"}}"#);
        format!(r#""resizePolicy": [{policy}]"#)
    };
    let path = "spec.containers[0].resizePolicy[0]";
    assert!(errors("", "", &policy("cpu", "RestartContainer")).is_empty());
    assert_eq!(
        errors("", "", &policy("pods", "Maybe")),
        [
            format!(
                "{path}.resourceName: Unsupported value: \"pods\": supported values: \"cpu\", \"memory\""
            ),
            "containers[0].resizePolicy[0].restartPolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"".to_owned(),
        ]
    );
    assert_eq!(
        errors(
            "",
            r#""restartPolicy": "Never""#,
            &policy("cpu", "RestartContainer")
        ),
        [format!(
            "{path}.restartPolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'"
        )]
    );
    let init = format!(
        r#""initContainers": [{{"name": "a", "image": "i", {}}}]"#,
        policy("cpu", "NotRequired")
    );
    assert_eq!(
        errors("", &init, ""),
        ["spec.initContainers[0].resizePolicy: Forbidden: must not be set for init containers"]
    );
}

#[test]
fn on_the_hosts_network_a_port_is_the_hosts() {
    let spec = r#""hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]"#;
    assert_eq!(
        errors("", spec, ""),
        [
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
        ]
    );
}

#[test]
fn env_from_and_its_keys_follow_the_rules() {
    let at = "spec.containers[0]";
    check(
        &[
            (
                r#""envFrom": [{"prefix": "a b", "configMapRef": {"name": "c"}}]"#,
                "",
            ),
            (
                r#""envFrom": [{"prefix": "a="}]"#,
                &format!(
                    "{at}.envFrom[0].prefix: Invalid value: \"a=\": a valid environment variable name must consist only of printable ASCII characters other than '='\n{}",
                    "containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"
                ),
            ),
            (
                r#""envFrom": [{"secretRef": {"name": "s"}, "configMapRef": {"name": "c"}}]"#,
                &format!(
                    "{at}.envFrom[0]: Invalid value: \"\": may not have more than one field specified at a time"
                ),
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "", "key": ""}}}]"#,
                &format!(
                    "{at}.env[0].valueFrom.secretKeyRef.name: Required value\ncontainers[0].env[0].valueFrom.secretKeyRef.key: Required value"
                ),
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.disk"}}}]"#,
                &format!(
                    "{at}.env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.disk\": supported values: {}",
                    r#""limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory""#
                ),
            ),
            (
                r#""env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "../a", "key": "="}}}]"#,
                &format!(
                    "{at}.env[0].valueFrom.fileKeyRef.key: Invalid value: \"=\": a valid environment variable name must consist only of printable ASCII characters other than '='\n{}\n{}",
                    "containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"v\"",
                    "containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"../a\": must not contain '..'"
                ),
            ),
        ],
        |container| errors("", "", container),
    );
}

#[test]
fn names_and_name_servers_follow_the_rules() {
    let address = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    check(
        &[
            (
                r#""subdomain": "s", "hostAliases": [{"ip": "::1", "hostnames": ["a.b"]}], "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a_b.c.", "."], "options": [{"name": "ndots"}]}"#,
                "",
            ),
            (
                r#""subdomain": "a.b""#,
                "spec.subdomain: Invalid value: \"a.b\": must not contain dots",
            ),
            (
                r#""hostAliases": [{"ip": "1.2", "hostnames": ["A"]}]"#,
                &format!(
                    "spec.hostAliases[0].ip: Invalid value: \"1.2\": {address}\nhostAliases[0].hostnames[0]: Invalid value: \"A\": {SUBDOMAIN}"
                ),
            ),
            (
                r#""dnsPolicy": "None", "dnsConfig": {}"#,
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
            (
                r#""dnsConfig": {"nameservers": ["x"], "options": [{"value": "1"}]}"#,
                &format!(
                    "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": {address}\ndnsConfig.options[0]: Required value: must not be empty"
                ),
            ),
            (
                r#""dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}"#,
                "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers",
            ),
            (
                r#""hostnameOverride": "o", "setHostnameAsFQDN": true, "hostNetwork": true"#,
                "spec.hostnameOverride: Forbidden: may not be set when `setHostnameAsFQDN` is true\nhostnameOverride: Forbidden: may not be set when `hostNetwork` is true",
            ),
        ],
        |spec| errors("", spec, ""),
    );
}

#[test]
fn profiles_and_sysctls_follow_the_rules() {
    let at = "spec.containers[0].securityContext";
    check(
        &[
            (
                r#""seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}"#,
                "",
            ),
            (
                r#""appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}, "procMount": "Default""#,
                "",
            ),
            (
                r#""seccompProfile": {"type": "Localhost"}"#,
                &format!(
                    "{at}.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"
                ),
            ),
            (
                r#""seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}"#,
                &format!(
                    "{at}.seccompProfile.localhostProfile: Invalid value: \"../x\": must not contain '..'"
                ),
            ),
            (
                r#""seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}"#,
                &format!(
                    "{at}.seccompProfile.localhostProfile: Invalid value: \"x\": can only be set when seccomp type is Localhost"
                ),
            ),
            (
                r#""appArmorProfile": {"type": "Other"}"#,
                &format!(
                    "{at}.appArmorProfile.type: Unsupported value: \"Other\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\""
                ),
            ),
            (
                r#""procMount": "Unmasked""#,
                &format!(
                    "{at}.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
                ),
            ),
        ],
        |context| errors("", "", &format!(r#""securityContext": {{{context}}}"#)),
    );
    check(
        &[
            (
                r#""sysctls": [{"name": "net.a", "value": "1"}, {"name": "net/a", "value": "1"}, {"name": "", "value": "1"}]"#,
                "spec.securityContext.sysctls[1].name: Duplicate value: \"net/a\"\nsecurityContext.sysctls[2].name: Required value",
            ),
            (
                r#""supplementalGroupsPolicy": "All""#,
                "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"All\": supported values: \"Merge\", \"Strict\"",
            ),
        ],
        |context| errors("", &format!(r#""securityContext": {{{context}}}"#), ""),
    );
}

#[test]
fn the_pods_own_resources_follow_the_rules() {
    let container =
        r#""resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}}"#;
    check(
        &[
            (
                r#""requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi", "cpu": "1"}"#,
                "",
            ),
            (
                r#""requests": {"memory": "32Mi"}"#,
                "spec.resources.requests[memory]: Invalid value: \"32Mi\": must be greater than or equal to aggregate container requests",
            ),
            (
                r#""limits": {"memory": "32Mi"}"#,
                "spec.resources.limits[memory]: Invalid value: \"32Mi\": must be greater than or equal to the limit of container c",
            ),
            (
                r#""limits": {"ephemeral-storage": "1"}"#,
                "spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
            (
                r#""limits": {"hugepages-2Mi": "2Mi"}"#,
                "spec.resources: Forbidden: HugePages require cpu or memory",
            ),
            (
                r#""requests": {"hugepages-2Mi": "2Mi", "memory": "64Mi"}"#,
                "spec.resources.limits[hugepages-2Mi]: Required value: Limit must be set for non overcommitable resources",
            ),
        ],
        |resources| errors("", &format!(r#""resources": {{{resources}}}"#), container),
    );
}
